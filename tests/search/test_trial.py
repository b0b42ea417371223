"""One training in a worker: what it reports, and how it goes on."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.nets import build
from odenas.search import trial
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS
from odenas.search.trial import macs, make_network, read_checkpoint, retrain, train_trial, write_checkpoint
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
        "checkpoint": str(path / "00000.safetensors"),
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


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_each_epoch_is_reported(tmp_path: Path) -> None:
    told = reports(task(tmp_path))
    assert [one["epoch"] for one in told] == [1, 2, 3]
    assert [row["epoch"] for one in told for row in one["rows"]] == [1, 2, 3]
    for one in told:
        assert one["objective"] == one["rows"][-1]["validation_error"]
        fields = one["fields"]
        assert fields | {"params": 0, "macs": 0} == {
            "params": 0, "macs": 0, "widths": "2-4-8", "train_size": 60, "validation_size": 400, "device": "cpu"
        }  # fmt: skip
        assert abs(fields["params"] - 2940) < 50
        assert {row["symbol"] for row in one["coefficients"]} == {"V"}
    assert told[0]["coefficients"] != told[2]["coefficients"]


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
    assert [len(one["coefficients"]) for one in reports(task(tmp_path, value))] == counts


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_trial_goes_on_from_its_checkpoint(tmp_path: Path, after: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = reports(task(tmp_path / "a"))
    first = reports(task(tmp_path / "b"), stop_after=after)
    second = reports(task(tmp_path / "b"))
    assert second[0]["rows"] == [row for one in first for row in one["rows"]]  # to the seconds
    assert (second[0]["epoch"], second[0]["coefficients"]) == (after, first[-1]["coefficients"])
    assert [one["epoch"] for one in second] == list(range(after, 4))
    assert numbers([row for one in second for row in one["rows"]]) == numbers(
        [row for one in whole for row in one["rows"]]
    )
    ends = [read_checkpoint(Path(task(tmp_path / name)["checkpoint"])) for name in "ab"]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, "cut", "no rows"], ids=["empty", "zeros", "cut", "no rows"])
def test_a_damaged_checkpoint_starts_again(tmp_path: Path, damage: bytes | str) -> None:
    path = Path(task(tmp_path)["checkpoint"])
    reports(task(tmp_path), stop_after=2)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "no rows":
        from safetensors.torch import save_file

        save_file({"epoch": torch.tensor(1)}, path)
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    assert read_checkpoint(path) is None
    assert [one["epoch"] for one in reports(task(tmp_path))] == [1, 2, 3]


def test_a_loss_that_is_not_finite_is_reported(tmp_path: Path) -> None:
    (told,) = reports(task(tmp_path, config={"recipe": {"learning_rate": 1e30}}))
    text = "non-finite loss in epoch 1"
    assert told == {"epoch": 1, "objective": 100.0, "rows": [], "reason": text, "failure": text}


def test_an_error_is_reported_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("[enforce fail] no memory\nsecond line")

    monkeypatch.setattr(trial, "write_checkpoint", fail)
    (told,) = reports(task(tmp_path))
    assert (told["reason"], told["errno"]) == ("RuntimeError: [enforce fail] no memory", None)
    assert told["failure"].endswith("RuntimeError: [enforce fail] no memory\nsecond line")
    assert len(told["failure"].splitlines()) <= trial.TRACEBACK_LINES


def test_a_full_disk_is_told_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    (told,) = reports(task(tmp_path))
    assert told["errno"] == 28


def test_an_impossible_network_is_reported(tmp_path: Path) -> None:
    (told,) = reports(task(tmp_path, params=10))
    assert told["reason"].startswith("OdenasError: `params` is 10")


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "00000.safetensors"
    write_checkpoint(path, {"epoch": torch.tensor(1)}, [{"epoch": 1}])
    old = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(5, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no"):
            write_checkpoint(path, {"epoch": torch.tensor(2)}, [{"epoch": 1}, {"epoch": 2}])
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    write_checkpoint(path, {"epoch": torch.tensor(2)}, [{"epoch": 1}, {"epoch": 2}])
    found = read_checkpoint(path)
    assert found is not None
    assert (int(found[0]["epoch"]), found[1]) == (2, [{"epoch": 1}, {"epoch": 2}])
    assert read_checkpoint(tmp_path / "none") is None


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
    last = reports(given)[-1]
    assert result["status"] == "COMPLETE"
    assert result["validation_error"] == last["objective"]  # the same training as the trial's
    assert (result["epochs"], result["params"]) == (3, last["fields"]["params"])
    wrong = result["test_error"] / 100 * DATASETS["digits"].test
    assert wrong == pytest.approx(round(wrong), abs=1e-3)
    failed = retrain(task(tmp_path, config={"recipe": {"learning_rate": 1e30}}))
    assert (failed["status"], failed["failure"]) == ("FAIL", "non-finite loss in epoch 1")
    assert "test_error" not in failed


def test_a_trial_reads_no_test_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("read the test split")

    monkeypatch.setattr(trial, "load_test", refuse)
    assert "failure" not in reports(task(tmp_path))[-1]


def test_multiply_accumulates_are_those_of_the_layers_written_out() -> None:
    counted = macs(build(scheme("euler"), 20), 32)
    convolutions = 9 * (3 * 16 + 6 * 16 * 16) * 32**2 + 9 * (16 * 32 + 5 * 32 * 32) * 16**2
    convolutions += 9 * (32 * 64 + 5 * 64 * 64) * 8**2 + 16 * 32 * 16**2 + 32 * 64 * 8**2
    assert counted == convolutions + 64 * 10
