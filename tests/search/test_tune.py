"""What Ray Tune is given and what becomes of its results, without Ray running."""

import copy
import io
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.tune.search import Searcher
from rich.console import Console

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.tune import LedgerScheduler, LedgerSearcher, lag_of, workers
from odenas.space import OdenasError, Scheme

FIELDS = {"params": 2940, "widths": "2-4-8", "train_size": 60, "validation_size": 400, "device": "cpu"}


def config(**changes: Any) -> SearchConfig:
    return SearchConfig(**{"trials": 3, "epochs": 4, "depth": 14, "width": 2, **changes})


@pytest.fixture
def searcher(tmp_path: Path) -> LedgerSearcher:
    settings = config()
    ledger = Ledger(settings, Run.create(tmp_path / "run", settings.resolved(), {}))
    return LedgerSearcher(ledger, Progress(ledger.rows, 3, "", Console(file=io.StringIO())), 2940)


@pytest.fixture
def scheduler(searcher: LedgerSearcher) -> LedgerScheduler:
    return LedgerScheduler(searcher)


def decision(scheduler: LedgerScheduler, name: str, result: dict[str, Any]) -> str:
    return scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result)


def told(epoch: int, error: float, **more: Any) -> dict[str, Any]:
    row = {
        "epoch": epoch, "train_loss": 1.0, "train_error": 50.0, "validation_loss": 1.0, "validation_error": error,
        "learning_rate": 0.1, "seconds": 1.0,
    }  # fmt: skip
    one = {"epoch": epoch, "rows": [row], "fields": FIELDS, "coefficients": [], **more}
    return {"epoch": epoch, "told": json.dumps(one)}


def failing(kind: str, **more: Any) -> dict[str, Any]:
    one = {"epoch": 1, "rows": [], "kind": kind, "reason": "E: x", "failure": "Traceback\nE: x", **more}
    return {"epoch": 1, "told": json.dumps(one)}


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
    row, task = searcher.ledger.rows[0], json.loads(given["task"])
    assert (given["number"], given["alone"], task["seed"]) == (0, False, row["seed"])
    assert json.dumps(task["scheme"]) == row["scheme"]
    assert Scheme.from_dict(task["scheme"])
    place, name = task["checkpoint"]
    assert Path(place).is_absolute()
    assert (Path(place) / f"{name}.safetensors").name == searcher.ledger.run.checkpoint(0).name
    assert len(json.dumps(given)) < 3000  # Tune keeps it of every trial


def test_the_search_is_over_only_when_nothing_runs(searcher: LedgerSearcher, scheduler: LedgerScheduler) -> None:
    for name in "abc":
        searcher.suggest(name)
    assert searcher.suggest("d") is None  # a worker may be lost, and its trial be begun again
    searcher.on_trial_complete("b", None, error=True)
    again = searcher.suggest("d")
    assert again["number"] == 1
    for name in "acd":
        for epoch in range(1, 5):
            decision(scheduler, name, told(epoch, 20.0 - epoch))
        searcher.on_trial_complete(name, told(4, 16.0))
    assert searcher.suggest("e") == Searcher.FINISHED
    assert searcher.ledger.run.trials["attempts"].tolist() == [1, 2, 1]


def test_results_reach_the_folder_once(searcher: LedgerSearcher, scheduler: LedgerScheduler) -> None:
    weight = {"stage": 0, "block": 1, "channel": None, "symbol": "V", "index": 1, "value": -0.05}
    searcher.suggest("a")
    for epoch in range(1, 5):
        result = told(epoch, 20.0 - epoch, coefficients=[weight])
        assert decision(scheduler, "a", result) == "CONTINUE"
        assert decision(scheduler, "a", result) == "CONTINUE"  # Tune says the last one twice
    searcher.on_trial_complete("a", told(4, 16.0, coefficients=[weight]))
    run = searcher.ledger.run
    (row,) = run.trials.to_dict("records")
    assert (row["status"], row["epochs"], row["validation_error"]) == ("COMPLETE", 4, 16.0)
    assert run.epochs["epoch"].tolist() == [1, 2, 3, 4]
    assert run.coefficients["epoch"].tolist() == [1, 2, 3, 4]


def test_a_failed_a_lost_and_a_late_trial(searcher: LedgerSearcher, scheduler: LedgerScheduler) -> None:
    searcher.ledger.config = config(timeout=60.0)
    for name in "abc":
        searcher.suggest(name)
        assert decision(scheduler, name, told(1, 30.0)) == "CONTINUE"
    assert decision(scheduler, "a", failing("exception")) == "STOP"
    searcher.on_trial_complete("a", failing("exception"))
    for _ in range(1 + searcher.ledger.config.retries):
        searcher.on_trial_complete("b", None, error=True)
        searcher.suggest("b")
    searcher.deadlines["c"] = 0.0
    searcher.on_trial_complete("c", None, error=True)
    trials = searcher.ledger.run.trials
    assert trials["status"].tolist() == ["FAIL", "FAIL", "FAIL"]
    assert trials["stop_reason"].tolist()[:2] == ["E: x", "worker lost"]
    assert trials["stop_reason"].tolist()[2] == "timed out after 60 s"
    assert trials["validation_error"].tolist() == [30.0, 30.0, 30.0]
    assert trials["failure"].tolist()[0] == "Traceback\nE: x"


def test_a_checkpoint_that_cannot_be_written_ends_the_search(
    searcher: LedgerSearcher, scheduler: LedgerScheduler
) -> None:
    searcher.suggest("a")
    with pytest.raises(OdenasError, match="cannot be written: No space left on device; mend that"):
        decision(scheduler, "a", failing("exception", errno=28, unsaved="No space left on device"))
    assert searcher.ledger.rows[0]["status"] == "RUNNING"  # to go on from


def test_memory_that_ray_found_full_is_told_as_such(
    searcher: LedgerSearcher, scheduler: LedgerScheduler, tmp_path: Path
) -> None:
    searcher.suggest("a")
    error = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")  # type: ignore[no-untyped-call]
    path = tmp_path / "error.pkl"
    path.write_bytes(ray.cloudpickle.dumps(error))  # type: ignore[no-untyped-call]
    lost: Any = SimpleNamespace(trial_id="a", pickled_error_file=str(path))
    scheduler.on_trial_error(None, lost)
    searcher.on_trial_complete("a", None, error=True)
    again = searcher.suggest("b")
    assert (again["number"], again["alone"]) == (0, True)


def test_tune_neither_copies_nor_pickles_the_ledger(
    searcher: LedgerSearcher, scheduler: LedgerScheduler, tmp_path: Path
) -> None:
    assert copy.deepcopy(searcher) is searcher
    assert len(pickle.dumps(searcher)) < 1000
    assert len(pickle.dumps(scheduler)) < 1000
    searcher.save(str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_what_the_scheduler_stops_is_pruned(tmp_path: Path) -> None:
    settings = config(trials=6, lag=1, enqueue=())
    ledger = Ledger(settings, Run.create(tmp_path / "run", settings.resolved(), {}), lag=1)
    searcher = LedgerSearcher(ledger, Progress(ledger.rows, 6, "", Console(file=io.StringIO())), 2940)
    scheduler = LedgerScheduler(searcher)
    for number, error in enumerate([50.0, 40.0, 60.0, 90.0, 30.0]):
        name = str(number)
        searcher.suggest(name)
        for epoch in range(1, 5):
            if decision(scheduler, name, told(epoch, error)) == "STOP":
                searcher.on_trial_complete(name, told(epoch, error))
                break
        else:
            searcher.on_trial_complete(name, told(4, error))
    trials = ledger.run.trials
    # Of n there the best ⌈n/3⌉ go on after 2 epochs.
    assert trials["status"].tolist() == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert trials["epochs"].tolist() == [4, 4, 2, 2, 4]
    assert trials["stop_reason"].tolist()[2] == "stopped by asha at epoch 2"


@pytest.mark.parametrize(
    ("wanted", "count", "lag"), [({}, 1, 8), ({}, 2, 8), ({}, 8, 32), ({"lag": 3}, 2, 3), ({"lag": 3}, 5, 5)]
)
def test_the_lag_leaves_the_workers_busy(wanted: dict[str, Any], count: int, lag: int) -> None:
    assert lag_of(config(**wanted), count) == lag
