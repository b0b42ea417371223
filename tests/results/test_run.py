import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from odenas.results import Run, load
from odenas.results.columns import COEFFICIENTS, CONFIRMATIONS, EPOCHS, TRIALS
from odenas.space import OdenasError

CONFIG = {"data": "digits", "trials": 4, "limit": None, "widths": [16, 32]}
VERSIONS = {"odenas": "0.1.0", "torch": "2.13.0"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "a", CONFIG, VERSIONS)


def test_a_new_run_holds_what_was_asked(run: Run) -> None:
    again = load(str(run.path))
    assert (again.config, again.versions, again.created) == (CONFIG, VERSIONS, run.created)
    assert datetime.fromisoformat(run.created).tzinfo == UTC
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "run.json"]
    assert run.checkpoint(12) == run.path / "checkpoints" / "00012.safetensors"
    assert run.log == run.path / "log.txt"


def test_an_empty_run_has_all_columns(run: Run) -> None:
    tables = [run.trials, run.epochs, run.coefficients, run.confirmations]
    for table, columns in zip(tables, [TRIALS, EPOCHS, COEFFICIENTS, CONFIRMATIONS], strict=True):
        assert list(table.columns) == list(columns)
        assert len(table) == 0


def test_no_column_is_lost_when_the_first_trials_failed(run: Run) -> None:
    before = run.trials.dtypes
    for number in range(3):
        run.record_trial({"number": number, "status": "FAIL", "failure": "RuntimeError: out of memory"})
    assert (run.trials.dtypes == before).all()
    run.record_trial({"number": 3, "status": "COMPLETE", "validation_error": 8.25, "zero_stable": True, "order": 2})
    assert (run.trials.dtypes == before).all()
    assert run.trials["validation_error"].tolist() == [pd.NA, pd.NA, pd.NA, 8.25]


def test_the_last_event_of_a_trial_counts(run: Run) -> None:
    started = datetime.now(UTC)
    run.record_trial({"number": 1, "status": "RUNNING", "started": started})
    run.record_trial({"number": 0, "status": "RUNNING"})
    run.record_trial({"number": 1, "status": "PRUNED", "started": started, "epochs": 2, "budget": 9})
    trials = run.trials
    assert trials["number"].tolist() == [0, 1]
    assert trials["status"].tolist() == ["RUNNING", "PRUNED"]
    assert trials["started"].tolist() == [pd.NaT, started]


def test_the_last_of_an_epoch_counts(run: Run) -> None:
    for number, epoch, loss in [(1, 1, 2.0), (0, 2, 1.5), (0, 1, 1.0), (1, 1, 0.5)]:
        run.record_epoch({"number": number, "epoch": epoch, "train_loss": loss})
    epochs = run.epochs
    assert epochs[["number", "epoch", "train_loss"]].to_numpy().tolist() == [[0, 1, 1.0], [0, 2, 1.5], [1, 1, 0.5]]


def test_coefficients_come_back(run: Run) -> None:
    row = {"stage": 0, "block": 1, "channel": None, "symbol": "V", "index": 1, "value": -0.05}
    run.record_coefficients(1, 0, [row])
    run.record_coefficients(0, 0, [])
    run.record_coefficients(0, 1, [row, {**row, "channel": 2, "value": 0.1}])
    run.record_coefficients(1, 0, [{**row, "value": float("nan")}])
    table = run.coefficients
    assert table["number"].tolist() == [0, 0, 1]
    assert table["channel"].tolist() == [pd.NA, 2, pd.NA]
    assert table["value"].tolist() == [-0.05, 0.1, pd.NA]
    with pytest.raises(TypeError, match="volume"):
        run.record_coefficients(0, 2, [{"volume": 1}])


def test_confirmations_keep_their_order_and_the_last_of_a_seed(run: Run) -> None:
    row = {"label": "trial 3: lm", "role": "winner", "number": 3, "status": "COMPLETE", "data": "digits", "budget": 4}
    for seed, error in [(1, 5.0), (0, 6.0), (1, 5.5)]:
        run.record_confirmation({**row, "seed": seed, "test_error": error})
    run.record_confirmation({**row, "seed": 0, "role": "twin", "twin_of": "trial 3: lm"})
    assert run.confirmations["seed"].tolist() == [0, 1, 0]
    assert run.confirmations["test_error"].tolist() == [6.0, 5.5, pd.NA]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"number": 0, "status": "COMPLETE", "best_error": 1.0}, "best_error"),
        ({"status": "COMPLETE"}, "lacks number"),
        ({"number": 0}, "lacks status"),
        ({"number": "0", "status": "COMPLETE"}, "holds Int64"),
    ],
)
def test_a_wrong_row_is_refused(run: Run, row: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        run.record_trial(row)
    assert len(run.trials) == 0


def test_an_unknown_status_is_refused(run: Run) -> None:
    with pytest.raises(OdenasError, match="did you mean 'COMPLETE'"):
        run.record_trial({"number": 0, "status": "COMPLETED"})


def test_reading_survives_a_line_cut_short(run: Run) -> None:
    for number in range(2):
        run.record_trial({"number": number, "status": "RUNNING"})
    file = run.path / "trials.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert run.trials["number"].tolist() == [0]
    run.record_trial({"number": 2, "status": "RUNNING"})
    assert run.trials["number"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("trials.jsonl", '{"status": "RUNNING"}'),
        ("trials.jsonl", '{"number": "x"}'),
        ("trials.jsonl", '{"number": 1, "started": "soon"}'),
        ("trials.jsonl", "{"),
        ("coefficients.jsonl", '{"number": 1, "epoch": 0}'),
        ("coefficients.jsonl", '{"number": 1, "epoch": 0, "rows": [[1]]}'),
        ("coefficients.jsonl", '{"number": 1, "epoch": 0, "rows": 1}'),
        ("coefficients.jsonl", '{"number": null, "epoch": 0, "rows": []}'),
        ("coefficients.jsonl", "{"),
    ],
)
def test_damage_is_one_line_that_names_the_file(run: Run, file: str, line: str) -> None:
    (run.path / file).write_text(line + "\n")
    with pytest.raises(OdenasError, match=rf"{file}` .*damaged") as error:
        _ = run.trials, run.coefficients
    assert "\n" not in str(error.value)


def test_a_row_of_a_later_odenas_is_read_as_far_as_it_is_known(run: Run) -> None:
    (run.path / "trials.jsonl").write_text('{"number": 0, "status": "COMPLETE", "energy": 3.0}\n')
    assert list(run.trials.columns) == list(TRIALS)


def test_create_refuses_a_folder_that_holds_something(tmp_path: Path, run: Run) -> None:
    before = (run.path / "run.json").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    (tmp_path / "weights" / "checkpoints").mkdir(parents=True)
    (tmp_path / "weights" / "checkpoints" / "00000.safetensors").write_text("precious")
    for folder in (run.path, tmp_path / "other", tmp_path / "weights"):
        with pytest.raises(OdenasError, match=f"`{folder}` is not empty"):
            Run.create(folder, {}, {})
    assert (run.path / "run.json").read_bytes() == before


def test_create_takes_an_empty_folder_or_what_a_killed_create_left(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".run.json.123.tmp").write_text("{")
    assert Run.create(tmp_path, CONFIG, VERSIONS).config == CONFIG


def test_create_says_why_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OdenasError, match=f"`{folder}` cannot be made a run folder: "):
            Run.create(folder, {}, {})
    with pytest.raises(OdenasError, match="holds what JSON cannot"):
        Run.create(tmp_path / "new", {"hours": float("inf")}, {})
    assert not (tmp_path / "new").exists()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OdenasError, match="No space left"):
        Run.create(tmp_path / "new", {}, {})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoints"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_create_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OdenasError, match="Permission denied"):
        Run.create(tmp_path / "run", {}, {})


def test_load_needs_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(OdenasError, match="is no folder"):
        load(tmp_path / "none")
    with pytest.raises(OdenasError, match=r"has no run.json"):
        load(tmp_path)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OdenasError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"format": "1"}', "damaged"),
        ('{"format": 1, "created": 3, "config": {}, "versions": {}}', "damaged"),
        ('{"format": 2}', "run format 2, but this odenas reads up to 1"),
    ],
)
def test_load_says_what_is_wrong_with_run_json(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(OdenasError, match=match) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_pickle_in_the_folder_is_never_run(run: Run) -> None:
    trap = b"cos\nsystem\n(S'touch " + str(run.path / "owned").encode() + b"'\ntR."
    for name in ("trials.jsonl", "coefficients.jsonl", "checkpoints/00000.safetensors"):
        (run.path / name).write_bytes(trap + b"\n")
    for table in ("trials", "coefficients"):
        with pytest.raises(OdenasError):
            getattr(load(run.path), table)
    assert not (run.path / "owned").exists()
    pickle.loads(trap)  # the trap works
    assert (run.path / "owned").exists()


def test_reading_needs_neither_torch_nor_ray_nor_optuna(run: Run) -> None:
    run.record_trial({"number": 0, "status": "RUNNING"})
    code = (
        "import sys; from odenas.results import load, leaderboard; leaderboard(load(sys.argv[1]))\n"
        "import json; print(json.dumps([name for name in ('torch', 'ray', 'optuna') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
