"""The search itself: Ray Tune schedules what the ledger asks for."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from odenas.search.config import SearchConfig
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.trial import task_for, train_trial
from odenas.space import OdenasError

RETRIES = 1
"""How often a trial whose worker was lost is tried again; it goes on from its last epoch."""


class LedgerSearcher(Searcher):
    """Hands the ledger's draws to Ray Tune, and Tune's results to the ledger."""

    def __init__(self, ledger: Ledger, progress: Progress, params: int) -> None:
        super().__init__()
        self.ledger, self.progress, self.params = ledger, progress, params
        self.numbers: dict[str, int] = {}
        self.failures: dict[int, dict[str, str]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, or that there is none."""
        draw = self.ledger.ask()
        if draw is None:
            return Searcher.FINISHED
        self.numbers[trial_id] = draw.number
        self.progress.update()
        config, checkpoint = self.ledger.config, self.ledger.run.checkpoint(draw.number)
        task = task_for(config, self.params, draw.scheme, draw.seed, checkpoint)
        return {"number": draw.number, "task": task}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note what a trial reports after an epoch."""
        number, told = self.numbers[trial_id], json.loads(result["told"])
        if told.get("errno") == errno.ENOSPC:
            raise OdenasError(f"`--run` is {self.ledger.run.path}, where no space is left; make room and start again")
        if "failure" in told:
            self.failures[number] = {"failure": told["failure"], "reason": told["reason"]}
        self.ledger.report(number, told["rows"], **told.get("fields", {}))
        if told.get("coefficients"):
            self.ledger.run.record_coefficients(number, result["epoch"], told["coefficients"])
        self.progress.update()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the end of a trial."""
        number = self.numbers[trial_id]
        if result and "told" in result and not error:
            self.on_trial_result(trial_id, result)
        lost = {"failure": "the worker process ended", "reason": "worker lost"} if error else {}
        self.ledger.finish(number, **self.failures.get(number, lost))
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


def run_trials(ledger: Ledger, progress: Progress, params: int, workers: int) -> None:
    """Run the trials that are left, `workers` at a time, until the ledger has no more."""
    config = ledger.config
    resources = {"cpu": config.cpus, "gpu": config.gpus}
    storage = tempfile.mkdtemp(prefix="odenas-")
    try:
        tune.Tuner(
            tune.with_resources(_trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=LedgerSearcher(ledger, progress, params),
                scheduler=make_scheduler(ledger),
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
            ),
        ).fit()
    except tune.TuneError as error:
        # Tune wraps what is raised in it; what the user can mend is told as it was.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OdenasError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from None
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def make_scheduler(ledger: Ledger) -> TrialScheduler:
    """Return the scheduler that the configuration names, having seen the epochs that the run folder holds."""
    config = ledger.config
    if config.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="objective",
        mode="min",
        max_t=config.epochs,
        grace_period=min(config.grace, config.epochs),
        reduction_factor=config.reduction,
    )
    epochs = ledger.run.epochs
    finished = [number for number, row in ledger.rows.items() if row["status"] != "RUNNING"]
    # The scheduler reads nothing of a trial but its name, and nothing of the controller.
    nobody: Any = None
    for number, rows in epochs[epochs["number"].isin(finished)].groupby("number"):
        past: Any = SimpleNamespace(trial_id=f"past-{number}")
        scheduler.on_trial_add(nobody, past)
        for row in rows.sort_values("epoch").to_dict("records"):
            scheduler.on_trial_result(nobody, past, {"epoch": row["epoch"], "objective": row["validation_error"]})
    return scheduler


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


def _trainable(config: dict[str, Any]) -> None:
    def report(told: dict[str, Any]) -> None:
        # Tune takes nested results apart; as text they arrive as they left.
        tune.report({"epoch": told["epoch"], "objective": told["objective"], "told": json.dumps(told)})

    train_trial(config["task"], report)
