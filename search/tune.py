"""The search itself: Ray Tune runs what the ledger hands out, and stops what the ledger says is to stop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from odenas.search.config import SearchConfig
from odenas.search.failures import TRACEBACK_LINES, Failure, unwritable
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.scratch import scratch
from odenas.search.tracking import callbacks
from odenas.search.trial import Report, train_trial
from odenas.space import OdenasError

Train = Callable[[Mapping[str, Any], Report], None]


class LedgerSearcher(Searcher):
    """Hands the ledger's draws to Ray Tune, and Tune's results to the ledger.

    For Tune every attempt is a trial of its own.
    """

    def __init__(self, ledger: Ledger, progress: Progress, params: int) -> None:
        super().__init__()
        self.ledger, self.progress, self.params = ledger, progress, params
        self.numbers: dict[str, int] = {}
        self.failures: dict[str, Failure] = {}
        self.stopped: dict[str, str] = {}
        self.deadlines: dict[str, float] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next attempt; None if there is none now, FINISHED if there will be none."""
        draw = self.ledger.ask()
        if draw is None:
            return Searcher.FINISHED if self.ledger.finished else None
        self.numbers[trial_id] = draw.number
        self.progress.update()
        checkpoint = [self.ledger.checkpoints.place, self.ledger.run.checkpoint(draw.number).stem]
        own = {"scheme": draw.scheme.to_dict(), "seed": draw.seed, "checkpoint": checkpoint}
        # As text, Tune does not take it apart and write it out key by key.
        return {"number": draw.number, "alone": draw.alone, "task": json.dumps(own)}

    def take(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Note what an attempt reports, the same once; return whether it is to stop."""
        number, told = self.numbers[trial_id], json.loads(result["told"])
        if "unsaved" in told:
            raise unwritable(self.ledger.checkpoints.place, told["unsaved"])
        if "kind" in told:
            self.failures[trial_id] = Failure(told["kind"], told["reason"], told["failure"])
            return True
        if trial_id not in self.deadlines:
            before = sum(epoch["seconds"] for epoch in told["rows"])
            self.deadlines[trial_id] = time.monotonic() + (self.ledger.config.timeout or math.inf) - before
        self.ledger.report(number, told["rows"], **told["fields"])
        if told["coefficients"]:
            self.ledger.run.record_coefficients(number, told["epoch"], told["coefficients"])
        self.progress.update()
        if reason := self.ledger.stops(number):
            self.stopped[trial_id] = reason
        return trial_id in self.stopped

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler has noted it."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the end of an attempt."""
        number = self.numbers.pop(trial_id, None)
        if number is None:
            return
        failure = self.failures.pop(trial_id, None)
        deadline = self.deadlines.pop(trial_id, math.inf)
        if error and failure is None:
            failure = _lost(self.ledger.config.timeout if time.monotonic() > deadline - 1 else None)
        self.ledger.finish(number, failure, self.stopped.pop(trial_id, None))
        self.progress.update()

    # Tune copies and pickles its searcher to restore it; this one is no copy's to be, and the run folder restores it.
    def __deepcopy__(self, memo: dict[int, Any]) -> LedgerSearcher:
        return self

    def __reduce__(self) -> Any:
        return (Searcher, ())

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the run folder is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the run folder is the record."""


class LedgerScheduler(FIFOScheduler):
    """Stops the trials that the ledger says are to stop."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Note a result and return what becomes of the trial."""
        stop = "told" in result and self.searcher.take(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note what Ray knows of an attempt that ended without a word: whether memory was short, or it raised."""
        left = trial.pickled_error_file
        # Tune has just written it, in this process.
        error = ray.cloudpickle.loads(Path(left).read_bytes()) if left and Path(left).exists() else None
        lines = str(error).strip().splitlines() or [""]
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            self.searcher.failures[trial.trial_id] = Failure("out of memory", "out of memory", lines[0])
        elif isinstance(error, ray.exceptions.RayTaskError):  # of the worker's own code: of a training it is reported
            text = "\n".join(lines[-TRACEBACK_LINES:])
            self.searcher.failures[trial.trial_id] = Failure("exception", lines[-1], text)

    def __reduce__(self) -> Any:
        return (FIFOScheduler, ())


def run_trials(
    ledger: Ledger,
    progress: Progress,
    params: int,
    workers: int,
    whole: Mapping[str, float],
    train: Train = train_trial,
) -> None:
    """Run the trials that are left, `workers` at a time, until the ledger has no more.

    Args:
        ledger: of the search.
        progress: told of every change.
        params: budget of parameters.
        workers: trials at a time.
        whole: resources ("CPU", "GPU") of a trial that is to have its device for itself.
        train: what a worker does.
    """
    config = ledger.config
    shared = {"config": config.resolved(), "params": params}
    usual = {"CPU": config.cpus, "GPU": config.gpus}

    def trial(given: dict[str, Any]) -> None:
        def report(told: dict[str, Any]) -> None:
            last = told["rows"][-1] if told["rows"] else {}
            shown = {name: value for name, value in last.items() if name not in ("epoch", "seconds")}
            # Tune takes nested results apart; as text they arrive as they left.
            tune.report({**shown, "epoch": told["epoch"], "told": json.dumps(told)})

        train(shared | json.loads(given["task"]), report)

    def resources(given: dict[str, Any]) -> PlacementGroupFactory:
        wanted = {**usual, **whole} if given.get("alone") else usual
        return PlacementGroupFactory([{name: count for name, count in wanted.items() if count}])

    searcher = LedgerSearcher(ledger, progress, params)
    try:
        with scratch() as storage:
            tune.Tuner(
                tune.with_resources(trial, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=LedgerScheduler(searcher),
                    num_samples=-1,
                    max_concurrent_trials=workers,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=str(storage),
                    verbose=0,
                    callbacks=[*callbacks(config, ledger.run)],
                    # Attempts are the ledger's to count.
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            ).fit()
    except tune.TuneError as error:
        # Tune wraps what is raised in it; what the user can mend is told as it was.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OdenasError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None


def workers(config: SearchConfig, resources: dict[str, float]) -> int:
    """Return how many trials fit on the cluster at once.

    Raises:
        OdenasError: not even one does.
    """
    room = []
    for name, kind, wanted in (("cpus", "CPU", config.cpus), ("gpus", "GPU", config.gpus)):
        if wanted > (there := resources.get(kind, 0)):
            raise OdenasError(f"`{name}` of a trial is {wanted:g}, but Ray has {there:g} here: it would wait for ever")
        room += [int(there / wanted)] if wanted else []
    return min(*room, config.workers or room[0])


def whole_device(config: SearchConfig) -> dict[str, float]:
    """Return the resources of a trial that is to have its device for itself: whole GPUs, or all CPUs of a machine."""
    if config.gpus:
        return {"GPU": float(math.ceil(config.gpus))}
    return {"CPU": max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])}  # type: ignore[no-untyped-call]


def lag_of(config: SearchConfig, count: int) -> int:
    """Return how many trials before it a draw may not know of, where `count` run at a time."""
    return max(count, config.lag or max(8, 4 * count))


def _lost(timeout: float | None) -> Failure:
    """Return why a worker is gone: it ended itself where the trial took longer than the time-out."""
    if timeout is not None:
        return Failure("timed out", f"timed out after {timeout:g} s", "the worker ended itself: the trial took longer")
    return Failure("worker lost", "worker lost", "the worker process, or its machine, ended")
