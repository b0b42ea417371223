"""One training in a worker: what it reports, and how it goes on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.nets import build
from odenas.search import watchdog
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS
from odenas.search.failures import TRACEBACK_LINES
from odenas.search.images import Images
from odenas.search.retraining import retrain
from odenas.search.train import Training
from odenas.search.trial import macs, make_network, read_checkpoint, train_trial
from odenas.space import Scheme, scheme

torch.set_num_threads(1)  # as in a worker; more only wait for one another with so small networks
CONFIG = SearchConfig(epochs=3, train_size=60, depth=14, width=2)


def task(path: Path, value: Scheme | None = None, **changes: Any) -> dict[str, Any]:
    config = {**CONFIG.resolved(), **changes.pop("config", {})}
    return {
        "config": config,
        "params": 2940,
        "scheme": (value or scheme("lm")).to_dict(),
        "seed": 5,
        "checkpoint": [str(path), "00000"],
        **changes,
    }


def reports(task: dict[str, Any], stop_after: int | None = None) -> list[dict[str, Any]]:
    """Return what a trial reports; it is cut off, as by a kill, in its `stop_after`-th report."""
    told: list[dict[str, Any]] = []

    def report(one: dict[str, Any]) -> None:
        told.append(json.loads(json.dumps(one, allow_nan=False)))
        if len(told) == stop_after:
            raise KeyboardInterrupt

    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            train_trial(task, report)
    else:
        train_trial(task, report)
    return told


def path_of(task: dict[str, Any]) -> Path:
    """Return where the checkpoint of a task lies."""
    place, name = task["checkpoint"]
    return Path(place) / f"{name}.safetensors"


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_each_epoch_is_reported(tmp_path: Path) -> None:
    told = reports(task(tmp_path))
    assert [one["epoch"] for one in told] == [0, 1, 2, 3]
    assert [row["epoch"] for one in told for row in one["rows"]] == [1, 2, 3]
    for one in told:
        fields = one["fields"]
        assert fields | {"params": 0, "macs": 0} == {
            "params": 0, "macs": 0, "evaluations": 6, "widths": "2-4-8", "train_size": 60, "validation_size": 400,
            "device": "cpu",
        }  # fmt: skip
        assert abs(fields["params"] - 2940) < 50
    assert told[0]["coefficients"] == []
    assert {row["symbol"] for one in told for row in one["coefficients"]} == {"V"}
    assert told[1]["coefficients"] != told[3]["coefficients"]


def test_latency_is_measured_where_it_is_asked_for(tmp_path: Path) -> None:
    told = reports(task(tmp_path, config={"constraints": ["latency <= 1 s"]}))
    assert 0 < told[0]["fields"]["latency"] < 1000
    assert len({one["fields"]["latency"] for one in told}) == 1


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (scheme("ab2"), [0, 0, 0]),
        (scheme("lm"), [6, 6, 6]),
        (scheme("lm", sharing="shared"), [6, 6, 6]),
        (scheme("lm", sharing="channel"), [0, 0, 28]),  # a number for each of 2, 4 and 8 channels, for V₀ and V₁
    ],
)
def test_coefficients_are_reported_where_they_learn(tmp_path: Path, value: Scheme, counts: list[int]) -> None:
    assert [len(one["coefficients"]) for one in reports(task(tmp_path, value))] == [0, *counts]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_trial_goes_on_from_its_checkpoint(tmp_path: Path, after: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = reports(task(tmp_path / "a"))
    first = reports(task(tmp_path / "b"), stop_after=after + 1)
    second = reports(task(tmp_path / "b"))
    assert second[0]["rows"] == [row for one in first for row in one["rows"]]  # to the seconds
    assert (second[0]["epoch"], second[0]["coefficients"]) == (after, first[-1]["coefficients"])
    assert [one["epoch"] for one in second] == list(range(after, 4))
    assert numbers([row for one in second for row in one["rows"]]) == numbers(
        [row for one in whole for row in one["rows"]]
    )
    ends = [read_checkpoint(path_of(task(tmp_path / name))) for name in "ab"]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, "cut", "no rows"], ids=["empty", "zeros", "cut", "no rows"])
def test_a_damaged_checkpoint_goes_on_from_the_one_before(tmp_path: Path, damage: bytes | str) -> None:
    path = path_of(task(tmp_path))
    first = reports(task(tmp_path), stop_after=3)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "no rows":
        from safetensors.torch import save_file

        save_file({"epoch": torch.tensor(1)}, path)
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    again = reports(task(tmp_path))
    assert [one["epoch"] for one in again] == [1, 2, 3]
    assert again[0]["rows"] == first[1]["rows"]
    assert numbers(again[1]["rows"]) == numbers(first[2]["rows"])


def test_without_an_intact_checkpoint_it_starts_again(tmp_path: Path) -> None:
    reports(task(tmp_path), stop_after=3)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    assert [one["epoch"] for one in reports(task(tmp_path))] == [0, 1, 2, 3]


def test_a_loss_that_is_not_finite_is_reported(tmp_path: Path) -> None:
    _, told = reports(task(tmp_path, config={"recipe": {"learning_rate": 1e30}}))
    text = "non-finite loss in epoch 1"
    assert told == {"epoch": 0, "rows": [], "kind": "non-finite", "reason": text, "failure": text}


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")])
def test_a_memory_that_is_full_is_a_kind_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Training, "run", fail)
    _, told = reports(task(tmp_path))
    assert (told["kind"], told["reason"]) == ("out of memory", "out of memory")


def test_an_error_is_reported_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail] no memory\nsecond line")

    monkeypatch.setattr(Checkpoints, "write", fail)
    _, told = reports(task(tmp_path))
    assert (told["reason"], told["errno"]) == ("RuntimeError: [enforce fail] no memory", None)
    assert told["failure"].endswith("RuntimeError: [enforce fail] no memory\nsecond line")
    assert len(told["failure"].splitlines()) <= TRACEBACK_LINES


def test_what_keeps_a_training_from_being_saved_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "write", fail)
    _, told = reports(task(tmp_path))
    assert (told["errno"], told["unsaved"]) == (28, "No space left on device")


def test_a_training_without_time_left_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    reports(task(tmp_path, config={"timeout": 0.01}))
    assert ended == [watchdog.EXIT]
    (tmp_path / "long").mkdir()
    reports(task(tmp_path / "long", config={"timeout": 1000.0}))
    assert ended == [watchdog.EXIT]


def test_an_impossible_network_is_reported(tmp_path: Path) -> None:
    (told,) = reports(task(tmp_path, params=10))
    assert told["kind"] == "exception"
    assert told["reason"].startswith("OdenasError: `params` is 10")


def test_the_seed_makes_the_first_weights_and_a_twin_shares_them(tmp_path: Path) -> None:
    a: Any = make_network(CONFIG, task(tmp_path), scheme("lm"))
    b: Any = make_network(CONFIG, task(tmp_path), scheme("euler"))
    other: Any = make_network(CONFIG, task(tmp_path, seed=6), scheme("lm"))
    assert torch.equal(a.stem.weight, b.stem.weight)
    assert torch.equal(a.head.weight, b.head.weight)
    assert not torch.equal(a.stem.weight, other.stem.weight)


def test_retraining_reports_the_test_error(tmp_path: Path) -> None:
    given = task(tmp_path)
    result = retrain(given)
    (last,) = reports(given)  # the whole of it, from the checkpoint
    assert result["status"] == "COMPLETE"
    assert result["validation_error"] == last["rows"][-1]["validation_error"]  # the same training as the trial's
    assert (result["epochs"], result["params"]) == (3, last["fields"]["params"])
    wrong = result["test_error"] / 100 * DATASETS["digits"].test
    assert wrong == pytest.approx(round(wrong), abs=1e-3)
    (tmp_path / "failed").mkdir()
    failed = retrain(task(tmp_path / "failed", config={"recipe": {"learning_rate": 1e30}}))
    assert (failed["status"], failed["failure"]) == ("FAIL", "non-finite loss in epoch 1")
    assert "test_error" not in failed


def test_a_trial_reads_no_test_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Images:
        raise AssertionError("read the test split")

    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], read_test=refuse))
    assert "failure" not in reports(task(tmp_path))[-1]


def test_multiply_accumulates_are_those_of_the_layers_written_out() -> None:
    counted = macs(build(scheme("euler"), 20), 32)
    convolutions = 9 * (3 * 16 + 6 * 16 * 16) * 32**2 + 9 * (16 * 32 + 5 * 32 * 32) * 16**2
    convolutions += 9 * (32 * 64 + 5 * 64 * 64) * 8**2 + 16 * 32 * 16**2 + 32 * 64 * 8**2
    assert counted == convolutions + 64 * 10
