"""What Ray Tune is given and what becomes of its results, without Ray running."""

import copy
import errno
import io
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import Searcher
from rich.console import Console

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.tune import LedgerSearcher, make_scheduler, workers
from odenas.space import OdenasError, Scheme

FIELDS = {"params": 2940, "widths": "2-4-8", "train_size": 60, "validation_size": 400, "device": "cpu"}


def config(**changes: Any) -> SearchConfig:
    return SearchConfig(**{"trials": 3, "epochs": 4, "depth": 14, "width": 2, **changes})


@pytest.fixture
def searcher(tmp_path: Path) -> LedgerSearcher:
    settings = config()
    ledger = Ledger(settings, Run.create(tmp_path / "run", settings.resolved(), {}))
    return LedgerSearcher(ledger, Progress(ledger.rows, 3, "", Console(file=io.StringIO())), 2940)


def told(epoch: int, error: float, **more: Any) -> dict[str, Any]:
    row = {
        "epoch": epoch, "train_loss": 1.0, "train_error": 50.0, "validation_loss": 1.0, "validation_error": error,
        "learning_rate": 0.1, "seconds": 1.0,
    }  # fmt: skip
    one = {"epoch": epoch, "objective": error, "rows": [row], "fields": FIELDS, "coefficients": [], **more}
    return {"epoch": epoch, "objective": error, "told": json.dumps(one)}


@pytest.mark.parametrize(
    ("wanted", "resources", "count"),
    [
        ({}, {"CPU": 4.0}, 4),
        ({"workers": 3}, {"CPU": 4.0}, 3),
        ({"workers": 9}, {"CPU": 4.0}, 4),
        ({"cpus": 3}, {"CPU": 8.0}, 2),
        ({"cpus": 0.5}, {"CPU": 1.0}, 2),
        ({"gpus": 0.25}, {"CPU": 16.0, "GPU": 1.0}, 4),
        ({"gpus": 1, "workers": 5}, {"CPU": 4.0, "GPU": 8.0}, 4),
    ],
)
def test_as_many_trials_at_a_time_as_fit(wanted: dict[str, Any], resources: dict[str, float], count: int) -> None:
    assert workers(config(**wanted), resources) == count


@pytest.mark.parametrize(
    ("wanted", "match"),
    [({"gpus": 1}, "`gpus` of a trial is 1, but Ray has 0"), ({"cpus": 64}, "`cpus` of a trial is 64, but Ray has 4")],
)
def test_a_trial_that_fits_nowhere_is_refused(wanted: dict[str, Any], match: str) -> None:
    with pytest.raises(OdenasError, match=match):
        workers(config(**wanted), {"CPU": 4.0})


def test_a_draw_becomes_a_task_that_is_json(searcher: LedgerSearcher) -> None:
    given = searcher.suggest("a")
    assert json.loads(json.dumps(given)) == given
    row = searcher.ledger.rows[0]
    task = given["task"]
    assert (given["number"], task["seed"], task["params"]) == (0, row["seed"], 2940)
    assert json.dumps(task["scheme"]) == row["scheme"]
    assert Scheme.from_dict(task["scheme"])
    assert SearchConfig(**task["config"]) == searcher.ledger.config
    assert Path(task["checkpoint"]).is_absolute()
    searcher.suggest("b")
    searcher.suggest("c")
    assert searcher.suggest("d") == Searcher.FINISHED


def test_results_reach_the_folder_once(searcher: LedgerSearcher) -> None:
    weight = {"stage": 0, "block": 1, "channel": None, "symbol": "V", "index": 1, "value": -0.05}
    searcher.suggest("a")
    for epoch in range(1, 4):
        searcher.on_trial_result("a", told(epoch, 20.0 - epoch, coefficients=[weight]))
    # The last result comes with the end, and once more.
    searcher.on_trial_complete("a", told(4, 16.0, coefficients=[weight]))
    run = searcher.ledger.run
    (row,) = run.trials.to_dict("records")
    assert (row["status"], row["epochs"], row["validation_error"]) == ("COMPLETE", 4, 16.0)
    assert run.epochs["epoch"].tolist() == [1, 2, 3, 4]
    assert run.coefficients["epoch"].tolist() == [1, 2, 3, 4]


def test_a_stopped_a_failed_and_a_lost_trial(searcher: LedgerSearcher) -> None:
    for name in "abc":
        searcher.suggest(name)
        searcher.on_trial_result(name, told(1, 30.0))
    searcher.on_trial_complete("a", told(2, 29.0))
    failure = {"epoch": 2, "objective": 100.0, "rows": [], "reason": "E: x", "failure": "Traceback\nE: x"}
    searcher.on_trial_result("b", {"epoch": 2, "told": json.dumps(failure)})
    searcher.on_trial_complete("b", {"epoch": 2, "told": json.dumps(failure), "done": True})
    searcher.on_trial_complete("c", None, error=True)
    trials = searcher.ledger.run.trials
    assert trials["status"].tolist() == ["PRUNED", "FAIL", "FAIL"]
    assert trials["stop_reason"].tolist() == ["stopped by asha at epoch 2", "E: x", "worker lost"]
    assert trials["validation_error"].tolist() == [29.0, 30.0, 30.0]
    assert trials["failure"].tolist()[1:] == ["Traceback\nE: x", "the worker process ended"]


def test_a_full_disk_in_a_worker_ends_the_search(searcher: LedgerSearcher) -> None:
    searcher.suggest("a")
    failure = {"rows": [], "reason": "OSError", "failure": "OSError", "errno": errno.ENOSPC}
    with pytest.raises(OdenasError, match="no space is left"):
        searcher.on_trial_result("a", {"epoch": 1, "told": json.dumps(failure)})
    assert searcher.ledger.rows[0]["status"] == "RUNNING"  # to go on from


def test_tune_neither_copies_nor_pickles_the_ledger(searcher: LedgerSearcher, tmp_path: Path) -> None:
    assert copy.deepcopy(searcher) is searcher
    assert len(pickle.dumps(searcher)) < 1000
    searcher.save(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_scheduler_has_seen_what_the_folder_holds(searcher: LedgerSearcher) -> None:
    assert isinstance(make_scheduler(searcher.ledger), AsyncHyperBandScheduler)
    assert isinstance(
        make_scheduler(Ledger(config(scheduler="none"), searcher.ledger.run)), FIFOScheduler
    )  # fmt: skip

    def decisions(scheduler: Any, error: float) -> str:
        trial: Any = SimpleNamespace(trial_id="new")
        scheduler.on_trial_add(None, trial)
        return str(scheduler.on_trial_result(None, trial, {"epoch": 2, "objective": error}))

    # Nobody to compare with: it goes on.
    assert decisions(make_scheduler(searcher.ledger), 90.0) == "CONTINUE"
    for name in "abc":
        searcher.suggest(name)
        searcher.on_trial_result(name, told(1, 50.0))
        searcher.on_trial_result(name, told(2, 40.0))
    # What still runs will report again.
    assert decisions(make_scheduler(searcher.ledger), 90.0) == "CONTINUE"
    for name in "ab":
        searcher.on_trial_complete(name, told(2, 40.0))
    assert decisions(make_scheduler(searcher.ledger), 90.0) == "STOP"
    assert decisions(make_scheduler(searcher.ledger), 10.0) == "CONTINUE"
