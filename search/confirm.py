"""Retraining over seeds: what the best schemes, their Euler twins and LM-ResNet are worth, on the test images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import ray

from odenas.results import Run, leaderboard
from odenas.search.config import SearchConfig
from odenas.search.ledger import now, provenance
from odenas.search.progress import Progress
from odenas.search.trial import retrain, task_for
from odenas.space import Scheme, describe, scheme


@dataclass(frozen=True)
class Contender:
    """A network to retrain: what it is called, its part, the trial it comes from, whose twin it is."""

    label: str
    role: str
    scheme: Scheme
    number: int | None = None
    twin_of: str | None = None


def contenders(run: Run, top: int) -> list[Contender]:
    """Return the best schemes of the finished trials that are not forward Euler, and LM-ResNet, each with its twin."""
    chosen: list[Contender] = []
    board = leaderboard(run)
    for row in board[board["rank"].notna()].to_dict("records"):
        value = Scheme.from_dict(json.loads(row["scheme"]))
        if value != value.twin() and all(value != other.scheme for other in chosen) and len(chosen) < top:
            number = int(row["number"])
            chosen.append(Contender(f"trial {number}: {describe(value)}", "candidate", value, number))
    if all(scheme("lm") != other.scheme for other in chosen):
        chosen.append(Contender("lm", "baseline", scheme("lm")))
    twins = [
        Contender(f"twin of {one.label}", "twin", one.scheme.twin(), one.number, twin_of=one.label) for one in chosen
    ]
    return chosen + twins


def unconfirmed(run: Run, config: SearchConfig) -> list[tuple[Scheme, int]]:
    """Return the schemes and seeds that the confirmation lacks, seed by seed: what is cut off is paired so far."""
    entered, past = contenders(run, config.confirm.top), run.confirmations
    return [
        (value, seed)
        for seed in sorted(confirmation_seeds(config.seed, config.confirm.seeds))
        for value in dict.fromkeys(one.scheme for one in entered)
        if _missing(past, entered, value, seed)
    ]


def confirm(run: Run, config: SearchConfig, params: int, progress: Progress, workers: int) -> None:
    """Retrain the contenders over seeds, `workers` at a time, and record each with its test error.

    All contenders have the same seeds, so that differences are paired; contenders with one scheme share a training.
    What the run folder already holds is not trained again.
    """
    entered, jobs = contenders(run, config.confirm.top), unconfirmed(run, config)
    total = len({one.scheme for one in entered}) * config.confirm.seeds
    progress.confirming(total - len(jobs), total)
    for (value, seed), result in _in_parallel(jobs, config, params, workers):
        for one in entered:
            if one.scheme == value:
                run.record_confirmation(_row(run, config, one, seed) | result)
        progress.confirming(progress.confirmed[0] + 1 if progress.confirmed else 1, total)


def confirmation_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of the retrainings: none is a seed of a trial's, and more of them begin with the fewer."""
    return [int(np.random.SeedSequence([seed, 2, index]).generate_state(1)[0]) for index in range(count)]


def _in_parallel(
    jobs: list[tuple[Scheme, int]], config: SearchConfig, params: int, workers: int
) -> Iterator[tuple[tuple[Scheme, int], dict[str, Any]]]:
    """Yield each job with its result, as they end."""
    remote = ray.remote(retrain).options(num_cpus=config.cpus, num_gpus=config.gpus)
    waiting = list(reversed(jobs))
    running: dict[ray.ObjectRef[Any], tuple[tuple[Scheme, int], datetime]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            value, seed = waiting.pop()
            running[remote.remote(task_for(config, params, value, seed))] = (value, seed), now()
        (done,), _ = ray.wait(list(running))
        job, started = running.pop(done)
        try:
            result = ray.get(done)
        except ray.exceptions.RayError as error:
            result = {"status": "FAIL", "failure": str(error).strip().splitlines()[-1]}
        yield job, result | {"started": started, "finished": now()}


def _missing(past: pd.DataFrame, entered: list[Contender], value: Scheme, seed: int) -> bool:
    """Return whether a contender with this scheme has no finished row for the seed."""
    have = set(past[(past["seed"] == seed) & (past["status"] == "COMPLETE")]["label"])
    return any(one.scheme == value and one.label not in have for one in entered)


def _row(run: Run, config: SearchConfig, one: Contender, seed: int) -> dict[str, Any]:
    return {
        "label": one.label,
        "role": one.role,
        "number": one.number,
        "twin_of": one.twin_of,
        "scheme": json.dumps(one.scheme.to_dict()),
        "data": config.data,
        "train_size": config.train_size,
        "seed": seed,
        "budget": config.epochs,
        **provenance(run),
    }
