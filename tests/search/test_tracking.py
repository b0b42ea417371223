"""TensorBoard and MLflow: what they are told of trials, across attempts, restarts and troubles."""

import json
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from odenas.results import Run, load
from odenas.search.cluster import cluster
from odenas.search.config import SearchConfig
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.tracker import PAUSE, Tracker
from odenas.search.tracking import callbacks
from odenas.search.tune import run_trials
from odenas.space import OdenasError, Scheme, describe, scheme

FIELDS = {"params": 2940, "widths": "2-4-8"}


def config(*loggers: str, **changes: Any) -> SearchConfig:
    return SearchConfig(**{"trials": 3, "epochs": 3, "depth": 14, "width": 2, "loggers": loggers, **changes})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {}, {})


def trial(number: int, name: str = "lm") -> Any:
    """Return an attempt as Tune knows it."""
    task = {"scheme": scheme(name).to_dict(), "seed": 7 + number, "checkpoint": ["place", "name"]}
    return SimpleNamespace(config={"number": number, "alone": False, "task": json.dumps(task)}, trial_id=object())


def told(epochs: Sequence[int], **more: Any) -> dict[str, Any]:
    rows = [{"epoch": epoch, "train_loss": 1 / epoch, "validation_error": 50 / epoch} for epoch in epochs]
    return {"told": json.dumps({"epoch": max(epochs, default=0), "rows": rows, "fields": FIELDS, **more})}


def attempt(tracker: Tracker, one: Any, reports: Sequence[Sequence[int]], failed: bool = False) -> None:
    tracker.log_trial_start(one)
    for epochs in reports:
        tracker.log_trial_result(0, one, told(epochs))
    tracker.log_trial_end(one, failed)


class Inner:
    """One of Ray's callbacks, that notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.broken = False

    def _note(self, *call: Any) -> None:
        if self.broken:
            raise ConnectionError("nobody answers")
        self.calls.append(call)

    def log_trial_start(self, one: Any) -> None:
        self._note("start", str(one))

    def log_trial_result(self, iteration: int, one: Any, result: dict[str, Any]) -> None:
        self._note("result", str(one), result["training_iteration"], result["validation_error"], result["params"])

    def log_trial_end(self, one: Any, failed: bool) -> None:
        self._note("end", str(one), failed)


def results(inner: Inner) -> list[int]:
    return [call[2] for call in inner.calls if call[0] == "result"]


def tracker(inner: Inner, run: Run, known: bool = False) -> Tracker:
    return Tracker(inner, config(), run, run.path / "place", lambda _: known)


def test_each_epoch_is_handed_over_once(run: Run) -> None:
    inner = Inner()
    one = tracker(inner, run)
    attempt(one, trial(12), [[], [1], [2]], failed=True)
    attempt(one, trial(12), [[1, 2], [3]])  # the next attempt says all epochs again
    name = "trial-00012"
    assert inner.calls == [
        ("start", name), ("result", name, 1, 50.0, 2940), ("result", name, 2, 25.0, 2940), ("end", name, True),
        ("start", name), ("result", name, 3, 50 / 3, 2940), ("end", name, False),
    ]  # fmt: skip


@pytest.mark.parametrize("known", [False, True])
def test_a_search_that_goes_on_goes_on_here(run: Run, known: bool) -> None:
    for epoch in (1, 2):
        run.record_epoch({"number": 4, "epoch": epoch})
    inner = Inner()
    attempt(tracker(inner, run, known), trial(4), [[1, 2], [3]])
    attempt(tracker(inner, run, known), trial(5), [[1], [2]])
    # A tracker that was not there in the first life gets all.
    assert results(inner) == [*([3] if known else [1, 2, 3]), 1, 2]


def test_a_failed_trial_is_one(run: Run) -> None:
    inner = Inner()
    one, attempted = tracker(inner, run), trial(0)
    one.log_trial_start(attempted)
    one.log_trial_result(0, attempted, told([1]))
    one.log_trial_result(0, attempted, told([], kind="non-finite", reason="x", failure="x"))
    one.log_trial_end(attempted, failed=False)  # for Tune the trial ended well
    assert inner.calls[-1] == ("end", "trial-00000", True)


def test_troubles_of_a_tracker_are_its_own(run: Run, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    inner = Inner()
    one, attempted = tracker(inner, run), trial(0)
    one.log_trial_start(attempted)
    inner.broken = True
    one.log_trial_result(0, attempted, told([1]))
    one.log_trial_result(0, attempted, told([2]))
    assert sum("Inner failed" in record.message for record in caplog.records) == 1
    inner.broken = False
    now += PAUSE / 2
    one.log_trial_result(0, attempted, told([3]))
    assert results(inner) == []  # it rests
    now += PAUSE
    one.log_trial_result(0, attempted, told([4]))
    assert results(inner) == [1, 2, 3, 4]
    # One that failed as a trial began gets it later.
    inner.broken, other = True, trial(1)
    one.log_trial_start(other)
    inner.broken = False
    now += 2 * PAUSE
    one.log_trial_result(0, other, told([1]))
    assert inner.calls[-2:] == [("start", "trial-00001"), ("result", "trial-00001", 1, 50.0, 2940)]


def events(folder: Path) -> Iterator[Any]:
    """Yield the events of all event files of a folder: records of a length, its checksum, the data, its checksum."""
    event_type = import_module("tensorboardX.proto.event_pb2").Event
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield event_type.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """Return the points of a curve that TensorBoard draws for a trial."""
    return [
        (event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == f"ray/tune/{name}"
    ]


def test_tensorboard_has_a_folder_for_each_trial(run: Run) -> None:
    (one,) = callbacks(config("tensorboard"), run)
    attempt(one, trial(0), [[], [1], [2]], failed=True)
    time.sleep(1.1)  # event files are named by the second
    attempt(one, trial(0), [[1, 2], [3]])
    attempt(one, trial(1, "momentum"), [[1]])
    folder = run.path / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["trial-00000", "trial-00001"]
    assert len(list((folder / "trial-00000").iterdir())) == 2
    assert curve(folder / "trial-00000", "validation_error") == [(1, 50.0), (2, 25.0), (3, pytest.approx(50 / 3))]
    assert curve(folder / "trial-00000", "params") == [(1, 2940), (2, 2940), (3, 2940)]
    # The parameters of the trial are there as TensorBoard's hyperparameters.
    said = b"".join(event.SerializeToString() for event in events(folder / "trial-00001"))
    assert all(text in said for text in (b"momentum", b"seed", b"free_slopes"))
    assert b"checkpoint" not in said
    # Another life of the search goes on in the same folder.
    for epoch in (1, 2, 3):
        run.record_epoch({"number": 0, "epoch": epoch})
    time.sleep(1.1)
    (again,) = callbacks(config("tensorboard"), load(run.path))
    attempt(again, trial(0), [[1, 2, 3], [4]])
    assert [step for step, _ in curve(folder / "trial-00000", "train_loss")] == [1, 2, 3, 4]


def test_mlflow_has_a_run_for_each_trial(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (one,) = callbacks(config("mlflow"), run)
    attempt(one, trial(0), [[], [1], [2]], failed=True)
    attempt(one, trial(0), [[1, 2], [3]])
    attempt(one, trial(1, "momentum"), [[1]], failed=True)
    for epoch in (1, 2, 3):
        run.record_epoch({"number": 0, "epoch": epoch})
    moved = run.path.with_name("moved")
    run.path.rename(moved)
    (again,) = callbacks(config("mlflow"), load(moved))
    again.log_trial_start(trial(0))
    client = mlflow.MlflowClient(tracking_uri=(moved / "mlruns").as_uri())

    def found() -> dict[str, Any]:
        (experiment,) = [each for each in client.search_experiments() if each.name == "odenas-digits"]
        return {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}

    assert found()["trial-00000"].info.status == "RUNNING"
    again.log_trial_result(0, trial(0), told([1, 2, 3, 4]))
    again.log_trial_end(trial(0))
    runs = found()
    assert {name: each.info.status for name, each in runs.items()} == {
        "trial-00000": "FINISHED", "trial-00001": "FAILED",
    }  # fmt: skip
    history = client.get_metric_history(runs["trial-00000"].info.run_id, "validation_error")
    assert [(point.step, point.value) for point in history] == [(1, 50.0), (2, 25.0), (3, 50 / 3), (4, 12.5)]
    params = runs["trial-00001"].data.params
    space = config().space
    expected = {"label": "momentum", "seed": 8, **space.encode(scheme("momentum"))}
    assert params == {name: str(value) for name, value in expected.items()}
    assert runs["trial-00001"].data.metrics["params"] == 2940


def test_two_searches_on_one_store_are_two(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    place = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    other = Run(tmp_path / "other", "2026-01-01T00:00:00+00:00", {}, {})
    for each in (run, other):
        (one,) = callbacks(config("mlflow"), each)
        attempt(one, trial(0), [[1]])
    assert not (run.path / "mlruns").exists()
    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("odenas-digits")
    tags = {found.data.tags["odenas_run"] for found in client.search_runs([experiment.experiment_id])}
    assert tags == {run.created, other.created}


def test_what_is_missing_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("tensorboard", "tensorboardX"), ("mlflow", "mlflow")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            patch.delitem(sys.modules, "ray.air.integrations.mlflow", raising=False)
            with pytest.raises(
                OdenasError, match=rf"`loggers` names {name}, .* pip install 'odenas\[{name}\]'"
            ) as told:
                callbacks(config(name), run)
            assert "\n" not in str(told.value)
    (run.path / "tensorboard").touch()
    with pytest.raises(OdenasError, match=r"`loggers` writes to .*tensorboard, which cannot be made"):
        callbacks(config("tensorboard"), run)


def test_a_store_that_cannot_be_used_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(OdenasError, match="`loggers` names mlflow, but its store nonsense://nowhere") as told:
        callbacks(config("mlflow"), run)
    assert "\n" not in str(told.value)


def test_without_loggers_there_is_nothing(run: Run) -> None:
    assert callbacks(config(), run) == []
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "run.json"]


def pretend(task: Any, report: Any) -> None:
    """Report three epochs as a training would."""
    report({"epoch": 0, "rows": [], "fields": FIELDS, "coefficients": []})
    for epoch in (1, 2, 3):
        row = {
            "epoch": epoch, "train_loss": 1.0, "train_error": 1.0, "validation_loss": 1.0, "learning_rate": 0.1,
            "validation_error": 50 / epoch, "seconds": 1.0,
        }  # fmt: skip
        report({"epoch": epoch, "rows": [row], "fields": FIELDS, "coefficients": []})


@pytest.mark.slow
def test_a_search_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Ray Tune itself, over two lives of a search."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = config("tensorboard", "mlflow", scheduler="none")
    run = Run.create(tmp_path / "run", settings.resolved(), {})
    with cluster(None):
        for trials in (2, 3):
            ledger = Ledger(settings.model_copy(update={"trials": trials}), load(run.path))
            run_trials(ledger, Progress(ledger.rows, trials, ""), 2940, 2, {}, pretend)
    assert run.trials["status"].tolist() == ["COMPLETE"] * 3
    names = ["trial-00000", "trial-00001", "trial-00002"]
    folder = run.path / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == names
    expected = [(1, 50.0), (2, 25.0), (3, pytest.approx(50 / 3))]
    assert all(curve(folder / name, "validation_error") == expected for name in names)
    client = mlflow.MlflowClient(tracking_uri=(run.path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("odenas-digits")
    found = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == names
    for row in run.trials.to_dict("records"):
        params = found[names[row["number"]]].data.params
        assert params["label"] == row["label"] == describe(Scheme.from_dict(json.loads(row["scheme"])))
        assert params["seed"] == str(row["seed"])
        assert found[names[row["number"]]].info.status == "FINISHED"
