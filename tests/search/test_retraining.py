"""One retraining: cut off and gone on with, its one look at the test; and many, with workers that are lost."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from odenas.search import retraining, trial
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS, load_test
from odenas.search.failures import failure_of
from odenas.search.retraining import checkpoint_name, is_of_the_machine, retrain, retrain_all
from odenas.search.train import Judgement, Training
from odenas.search.trial import task_for
from odenas.space import OdenasError, scheme

CONFIG = SearchConfig(epochs=2, train_size=60, depth=14, width=2, retries=2)
AB2, EULER = scheme("ab2"), scheme("euler")


@pytest.fixture(autouse=True)
def as_in_a_worker() -> None:
    torch.set_num_threads(1)


def task(place: Path, config: SearchConfig = CONFIG, seed: int = 5) -> dict[str, Any]:
    return task_for(config, 2940, AB2, seed) | {"checkpoint": [str(place), checkpoint_name(config, (AB2, seed))]}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "seconds"}


def cut_off(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the process end, as by a kill, when so many epochs are saved."""
    write, written = Checkpoints.write, Counter[str]()

    def killed(self: Checkpoints, name: str, *state: Any) -> None:
        write(self, name, *state)
        written[name] += 1
        if written[name] == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "write", killed)


@pytest.mark.parametrize("after", [1, 2])
def test_one_that_was_cut_off_ends_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """After the last epoch, too: then nothing is left to train, and the test is still to be read."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = retrain(task(tmp_path / "whole"))
    assert whole["status"] == "COMPLETE"
    assert whole["epochs"] == 2
    wrong = whole["test_error"] / 100 * DATASETS["digits"].test
    assert wrong == pytest.approx(round(wrong), abs=1e-3)
    trained: list[int] = []
    train_epoch = Training._train_epoch

    def noted(self: Training) -> tuple[float, float]:
        trained.append(self.epoch + 1)
        return train_epoch(self)

    monkeypatch.setattr(Training, "_train_epoch", noted)
    with monkeypatch.context() as patch:
        cut_off(patch, after)
        with pytest.raises(KeyboardInterrupt):
            retrain(task(tmp_path / "cut"))
    assert numbers(retrain(task(tmp_path / "cut"))) == numbers(whole)
    assert trained == [1, 2]  # each epoch once


def test_the_test_images_are_read_once_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(name: str) -> Any:
        saved = Checkpoints(str(tmp_path)).read(checkpoint_name(CONFIG, (AB2, 5)))
        assert saved is not None
        read.append(len(saved[1]))
        return load_test(name)

    monkeypatch.setattr(retraining, "load_test", counted)
    retrain(task(tmp_path))
    assert read == [2]
    read.clear()
    failing = CONFIG.model_copy(update={"recipe": CONFIG.recipe.model_copy(update={"learning_rate": 1e30})})
    result = retrain(task(tmp_path, failing, seed=6))
    assert (result["status"], result["kind"]) == ("FAIL", "non-finite")
    assert result["stop_reason"] == result["failure"] == "non-finite loss in epoch 1"
    assert "test_error" not in result
    assert read == []


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


FAILURES = [
    (ValueError("no\nmore"), "exception", "ValueError: no", False),
    (MemoryError(), "out of memory", "out of memory", True),
    (torch.OutOfMemoryError("CUDA"), "out of memory", "out of memory", True),
    (PermissionError(13, "x"), "exception", "PermissionError: [Errno 13] x", True),
]


@pytest.mark.parametrize(("error", "kind", "reason", "again"), FAILURES)
def test_what_goes_wrong_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, reason: str, again: bool
) -> None:
    """In the training and in the test alike."""
    for module, name in ((trial, "make_network"), (retraining, "evaluate")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, raising(error))
            result = retrain(task(tmp_path))
        assert (result["status"], result["kind"], result["stop_reason"]) == ("FAIL", kind, reason)
        assert "raise error" in result["failure"]
        assert is_of_the_machine(result["stop_reason"]) == again
    assert retrain(task(tmp_path))["status"] == "COMPLETE"


def test_a_test_error_that_is_no_number_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "evaluate", lambda *_: Judgement(1.0, float("nan"), {"whole": float("nan")}))
    result = retrain(task(tmp_path))
    assert (result["status"], result["kind"], result["stop_reason"]) == ("FAIL", "non-finite", "non-finite test error")
    assert "test_error" not in result


class FakeRay:
    """Trains nothing; each training ends, or is lost, as it is told. The first that began ends first."""

    def __init__(self, told: dict[Any, list[Any]]) -> None:
        self.told, self.exceptions = told, ray.exceptions
        self.begun: list[Any] = []
        self.most: list[int] = []
        self.running: list[Any] = []

    def remote(self, function: Any) -> Any:
        if function is retrain:
            return self
        job = (function["scheme"], function["seed"])
        key = next(key for key in self.told if (key[0].to_dict(), key[1]) == job)
        self.begun.append(key)
        self.running.append(key)
        return key

    def options(self, **options: Any) -> Any:
        assert options == {"num_cpus": 1, "num_gpus": 0, "max_retries": 0}
        return self

    def wait(self, running: list[Any]) -> Any:
        assert sorted(map(id, running)) == sorted(map(id, self.running))
        self.most.append(len(running))
        return [self.running.pop(0)], []

    def get(self, key: Any) -> Any:
        end = self.told[key].pop(0) if self.told[key] else {"status": "COMPLETE"}
        if isinstance(end, Exception):
            raise end
        return end


ray_errors: Any = ray.exceptions  # of which some have no types
LOST = ray_errors.WorkerCrashedError()
DIED = ray_errors.NodeDiedError("node")
FULL = ray_errors.OutOfMemoryError("memory")
OWN_FULL = {"status": "FAIL", "kind": "out of memory", "stop_reason": "out of memory", "failure": "x"}
NAN = {"status": "FAIL", "kind": "non-finite", "stop_reason": "non-finite loss in epoch 1", "failure": "x"}


def run(monkeypatch: pytest.MonkeyPatch, told: dict[Any, list[Any]], workers: int) -> tuple[FakeRay, dict[Any, Any]]:
    fake = FakeRay(told)
    monkeypatch.setattr(retraining, "ray", fake)
    return fake, dict(retrain_all(list(told), CONFIG, 2940, "/x", workers))


def test_what_is_lost_is_retried_and_what_fails_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c, d = ((AB2, 1), (EULER, 1), (AB2, 2), (EULER, 2))
    fake, ended = run(monkeypatch, {a: [LOST, DIED], b: [LOST, LOST, LOST], c: [NAN], d: []}, workers=2)
    assert Counter(fake.begun) == {a: 3, b: 3, c: 1, d: 1}
    assert max(fake.most) == 2
    assert {key: row["status"] for key, row in ended.items()} == {a: "COMPLETE", b: "FAIL", c: "FAIL", d: "COMPLETE"}
    assert ended[b]["stop_reason"] == "worker lost"
    assert ended[c]["stop_reason"] == "non-finite loss in epoch 1"
    for row in ended.values():
        assert row["finished"] >= row["started"]
        assert "kind" not in row


def test_what_had_too_little_memory_is_begun_once_more_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [(AB2, 1), (EULER, 1), (AB2, 2), (EULER, 2)]
    told: dict[Any, list[Any]] = {jobs[0]: [FULL], jobs[1]: [OWN_FULL, OWN_FULL], jobs[2]: [], jobs[3]: []}
    fake, ended = run(monkeypatch, told, workers=3)
    assert fake.begun[:4] == jobs
    assert set(fake.begun[4:]) == set(jobs[:2])
    assert len(fake.begun) == 6
    assert fake.most[-2:] == [1, 1]
    assert [ended[job]["status"] for job in jobs] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert ended[jobs[1]]["stop_reason"] == "out of memory"


def test_an_error_of_the_worker_s_own_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ray_errors.RayTaskError("retrain", "Traceback\nValueError: x", ValueError("x"))
    fake, ended = run(monkeypatch, {(AB2, 1): [error]}, workers=1)
    assert len(fake.begun) == 1
    assert ended[AB2, 1]["stop_reason"] == "ValueError: x"


def test_a_place_that_cannot_be_written_ends_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoints, "write", raising(OSError(28, "No space left on device")))
    full = retrain(task(tmp_path))
    with pytest.raises(OdenasError, match="checkpoints in /x, which cannot be written: No space left on device"):
        run(monkeypatch, {(AB2, 1): [full]}, workers=1)


def test_the_text_of_a_failure_is_short() -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("deep")

    try:
        deep(50)
    except ValueError as error:
        failure = failure_of(error)
    assert (failure.kind, failure.reason) == ("exception", "ValueError: deep")
    assert failure.text.endswith("ValueError: deep")
    assert len(failure.text.splitlines()) <= 12


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate")],
)
def test_memory_that_is_full_is_a_kind_of_its_own(error: Exception) -> None:
    assert failure_of(error).kind == "out of memory"
