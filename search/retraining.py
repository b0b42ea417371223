"""One retraining in a worker, and many of them over the workers of a Ray cluster."""

from __future__ import annotations

import builtins
import errno
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import ray
import torch

from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.data import dataset, load_test
from odenas.search.failures import KINDS, Failure, failure_of, retries, unwritable
from odenas.search.train import Judgement, evaluate, network_state, to
from odenas.search.trial import device, make_network, task_for, test_columns, train_trial
from odenas.search.trial_row import now
from odenas.space import Scheme

Job = tuple[Scheme, int]
"""A scheme and a seed."""
Columns = dict[str, Any]

LOST = "worker lost"
FULL = "out of memory"


def retrain(task: Mapping[str, Any]) -> Columns:
    """Train one scheme to its budget, and return the columns of a confirmation, the test error among them.

    The training keeps a checkpoint after each epoch, and goes on from the one that it finds; the test images are read
    once, at its end. What goes wrong is returned, not raised: "status" is FAIL, with "kind" (of KINDS), "stop_reason",
    "failure" and "unsaved" (what keeps the training's state from being saved, if anything does).
    """
    rows: list[Columns] = []
    result: Columns = {"epochs": 0}
    failures: list[Columns] = []

    def report(told: Mapping[str, Any]) -> None:
        if "kind" in told:
            failure = Failure(told["kind"], told["reason"], told["failure"])
            failures.append(_failed(failure) | {"unsaved": told.get("unsaved")})
            return
        rows.extend(told["rows"])
        result.update({name: told["fields"].get(name) for name in ("params", "device")})
        result.update(epochs=len(rows), seconds=sum(row["seconds"] for row in rows))

    train_trial(task, report)
    if failures:
        return result | failures[0]
    try:
        test = test_columns(_judged(task))
    except Exception as error:  # as in the training: a result like others
        return result | _failed(failure_of(error))
    measured = {name: rows[-1][name] for name in ("train_loss", "validation_error")} | test
    broken = [name for name, value in measured.items() if isinstance(value, float) and not math.isfinite(value)]
    if broken:
        reason = f"non-finite {broken[0].replace('_', ' ')}"
        return result | _failed(Failure("non-finite", reason, reason))
    return result | measured | {"status": "COMPLETE", "stop_reason": "budget reached"}


def retrain_all(
    jobs: list[Job], config: SearchConfig, params: int, place: str, workers: int
) -> Iterator[tuple[Job, Columns]]:
    """Yield each job with the columns of its row, as they end, `workers` of them at a time.

    A training whose worker or machine was lost goes on elsewhere from its last epoch, `config.retries` times. One whose
    memory ran out is begun once more when all others have ended, and then alone.

    Args:
        place: of the checkpoints, a folder or URL that all workers reach.

    Raises:
        OdenasError: the checkpoints cannot be written.
    """
    remote = ray.remote(retrain).options(num_cpus=config.cpus, num_gpus=config.gpus, max_retries=0)
    waiting, alone = list(reversed(jobs)), list[Job]()
    running: dict[ray.ObjectRef[Any], tuple[Job, datetime]] = {}
    attempts: Counter[tuple[Job, str]] = Counter()
    while waiting or alone or running:
        while (waiting and len(running) < workers) or (alone and not running):
            job = waiting.pop() if waiting else alone.pop()
            running[remote.remote(_task(config, params, place, job))] = job, now()
        (done,), _ = ray.wait(list(running))
        job, started = running.pop(done)
        result = _result(done)
        kind = result.pop("kind", None)
        if unsaved := result.pop("unsaved", None):
            raise unwritable(place, unsaved)
        if kind is not None and attempts[job, kind] < retries(kind, config):
            attempts[job, kind] += 1
            (alone if KINDS[kind].alone else waiting).append(job)
            continue
        yield job, result | {"started": started, "finished": now()}


def checkpoint_name(config: SearchConfig, job: Job) -> str:
    """Return the name of a retraining's checkpoint: another one for each scheme, seed and fidelity."""
    scheme, seed = job
    what = [scheme.to_dict(), config.data, config.train_size, config.epochs]
    return f"confirm-{hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]}-{seed}"


def is_of_the_machine(reason: str | None) -> bool:
    """Return whether a training ended for a reason that lies not in it, so that it may end otherwise the next time."""
    kind = getattr(builtins, str(reason).partition(":")[0], None)
    of_the_system = isinstance(kind, type) and issubclass(kind, OSError)
    return reason is None or reason in (LOST, FULL) or of_the_system


def _failed(failure: Failure) -> Columns:
    return {"status": "FAIL", "kind": failure.kind, "stop_reason": failure.reason, "failure": failure.text}


def _result(done: ray.ObjectRef[Any]) -> Columns:
    """Return what a worker returned, or why it did not."""
    try:
        return dict(ray.get(done))
    except ray.exceptions.OutOfMemoryError as error:
        return _failed(Failure(FULL, FULL, _last_line(error)))
    except ray.exceptions.RayTaskError as error:
        return _failed(Failure("exception", _last_line(error), str(error)))
    except ray.exceptions.RayError as error:
        return _failed(Failure(LOST, LOST, _last_line(error)))


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _task(config: SearchConfig, params: int, place: str, job: Job) -> Columns:
    return task_for(config, params, *job) | {"checkpoint": [place, checkpoint_name(config, job)]}


def _judged(task: Mapping[str, Any]) -> Judgement:
    """Return what the network that training left is worth on the test images."""
    config, (place, name) = SearchConfig(**task["config"]), task["checkpoint"]
    network = make_network(config, task, Scheme.from_dict(task["scheme"]))
    saved = Checkpoints(place).read(name)
    if saved is None:
        raise OSError(errno.EIO, f"{name} in {place} cannot be read")
    network.load_state_dict(network_state(saved[0]))
    where = torch.device(device(config))
    network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return evaluate(network, to(load_test(config.data), where), dataset(config.data))
