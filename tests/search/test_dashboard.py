"""The study that optuna-dashboard opens: what Optuna reads from it, against the table of trials."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from click.testing import CliRunner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState

from odenas.results import Run
from odenas.search import app
from odenas.search.config import SearchConfig
from odenas.search.dashboard import write_study
from odenas.space import OdenasError, Scheme, describe

optuna.logging.set_verbosity(optuna.logging.ERROR)

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STATUSES = ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "COMPLETE"]


def searched(path: Path, count: int = 10, **changes: Any) -> Run:
    """Return a run with trials in every state; one complete trial lacks its latency."""
    config = SearchConfig(**{"trials": count, "epochs": 3, "depth": 14, "width": 2, **changes})
    run = Run.create(path, config.resolved(), {})
    generator = np.random.default_rng(0)
    for number in range(count):
        value, status = config.space.draw(generator), STATUSES[number % 5]
        epochs = 3 if status == "COMPLETE" else 1
        for epoch in range(1, epochs + 1):
            run.record_epoch({"number": number, "epoch": epoch, "validation_error": 50 / epoch + number})
        ended = BEGUN + timedelta(seconds=60 * number + 20)
        run.record_trial({
            "number": number, "label": describe(value), "status": status, "validation_error": 50 / epochs + number,
            "epochs": epochs, "budget": 3, "params": 2000 + 300 * number, "latency": 1.5 if number else None,
            "feasible": number < 4, "scheme": json.dumps(value.to_dict()),
            "draw": json.dumps(config.space.encode(value)), "started": BEGUN + timedelta(seconds=60 * number),
            "finished": None if status == "RUNNING" else ended, "failure": "Traceback" if status == "FAIL" else None,
        })  # fmt: skip
    return run


def opened(path: Path) -> optuna.Study:
    (name,) = optuna.get_all_study_names(storage := JournalStorage(JournalFileBackend(str(path))))
    return optuna.load_study(study_name=name, storage=storage)


STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL,
          "RUNNING": TrialState.RUNNING}  # fmt: skip


@pytest.fixture(params=["UTC", "Asia/Tokyo"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_optuna_reads_what_the_folder_holds(tmp_path: Path) -> None:
    run = searched(tmp_path / "named")
    assert write_study(run, tmp_path / "study.journal") == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named", "study.journal"]
    study = opened(tmp_path / "study.journal")
    assert study.study_name == "named"
    assert study.direction.name == "MINIMIZE"
    assert study.metric_names == ["validation error %"]
    table, space = run.trials, SearchConfig(**run.config).space
    assert len(study.trials) == len(table)
    for trial, row in zip(study.trials, table.to_dict("records"), strict=True):
        assert trial.number == trial.user_attrs["number"] == row["number"]
        assert trial.state == STATES[row["status"]]
        # What the sampler drew makes the scheme that was trained.
        assert space.suggest(FixedTrial(trial.params)) == Scheme.from_dict(json.loads(row["scheme"]))
        assert set(trial.distributions) == set(trial.params)
        assert trial.value == (row["validation_error"] if row["status"] in ("COMPLETE", "PRUNED") else None)
        expected = {epoch: 50 / epoch + trial.number for epoch in range(1, row["epochs"] + 1)}
        assert trial.intermediate_values == expected
        assert trial.user_attrs["label"] == row["label"]
        assert trial.user_attrs.get("failure") == ("Traceback" if row["status"] == "FAIL" else None)
        assert trial.datetime_start is not None
        assert trial.datetime_start.astimezone(UTC) == row["started"]
        took = None if row["status"] == "RUNNING" else timedelta(seconds=20)
        assert trial.duration == took
    best = table[table["status"] == "COMPLETE"].sort_values("validation_error")["number"].iloc[0]
    assert study.best_trial.number == best


def test_several_objectives_and_constraints(tmp_path: Path) -> None:
    names = ["validation_error", "params", "latency"]
    run = searched(tmp_path / "run", objectives=names, constraints=["params <= 3k", "latency <= 2 ms"])
    write_study(run, tmp_path / "study.journal")
    study = opened(tmp_path / "study.journal")
    assert study.metric_names == ["validation error %", "params", "latency ms"]
    for trial, row in zip(study.trials, run.trials.to_dict("records"), strict=True):
        # One that lacks an objective cannot be COMPLETE for Optuna.
        state = TrialState.FAIL if trial.number == 0 else STATES[row["status"]]
        assert trial.state == state
        complete = state == TrialState.COMPLETE
        assert trial.values == ([row[name] for name in names] if complete else None)
        assert trial.intermediate_values == {}
        known = [row["params"] / 3000 - 1, row["latency"] / 2 - 1] if trial.number else []
        assert list(trial.system_attrs.get("constraints", [])) == pytest.approx(known)
        assert trial.user_attrs["params <= 3k"] == pytest.approx(row["params"] / 3000 - 1)
    # Optuna itself leaves out of the front what breaks a constraint: all from number 4 on, and 0 is no result.
    assert [trial.number for trial in study.best_trials] == []
    run.record_trial({**known_row(run, 3), "status": "COMPLETE"})
    write_study(run, tmp_path / "study.journal")
    assert [trial.number for trial in opened(tmp_path / "study.journal").best_trials] == [3]


def known_row(run: Run, number: int) -> dict[str, Any]:
    row = run.trials.set_index("number", drop=False).loc[number]
    return {str(name): value for name, value in row.items() if not pd.isna(value)}


def test_a_negative_psnr_is_called_so(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SearchConfig(data="denoise").resolved(), {})
    assert write_study(run, tmp_path / "study.journal") == 0
    study = opened(tmp_path / "study.journal")
    assert study.metric_names == ["−validation PSNR dB"]
    assert study.trials == []


def test_a_study_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study.journal"
    write_study(searched(tmp_path / "a", 5), out)
    write_study(searched(tmp_path / "b", 3), out)
    assert opened(out).study_name == "b"
    before = out.read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OdenasError, match="No space left"):
            write_study(searched(tmp_path / "c", 3), out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "study.journal"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", 1)
    for out, match in (("study.db", "must end in .journal"), ("gone/study.journal", "its folder does not exist")):
        with pytest.raises(OdenasError, match=match):
            write_study(run, tmp_path / out)
    training = Run.create(tmp_path / "training", SearchConfig(network="lm_resnet20").resolved(), {})
    with pytest.raises(OdenasError, match="a training of lm_resnet20: there is a study of a search alone"):
        write_study(training, tmp_path / "study.journal")


def test_the_command_line_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = searched(tmp_path / "run", 3)
    done = CliRunner().invoke(app.app, ["results", str(run.path), "--out", "study.journal"])
    assert done.exit_code == 0, done.output
    assert done.output == "3 trials written to study.journal; to look at them: optuna-dashboard study.journal\n"
    assert len(opened(tmp_path / "study.journal").trials) == 3


@pytest.mark.slow
def test_two_hundred_trials_take_seconds(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", 200)
    begun = time.perf_counter()
    write_study(run, tmp_path / "study.journal")
    assert time.perf_counter() - begun < 15


@pytest.mark.slow
def test_the_dashboard_serves_it(tmp_path: Path) -> None:
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed")
    run = searched(tmp_path / "run", constraints=["params <= 3k"])
    write_study(run, tmp_path / "study.journal")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from optuna_dashboard._cli import main; sys.argv[0] = 'optuna-dashboard'; main()"
    command = [sys.executable, "-c", program, "--host", "127.0.0.1", "--port", str(port), "study.journal"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            (summary,) = asked(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            assert (summary["study_name"], summary["directions"]) == ("run", ["minimize"])
            study = asked(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}")
        finally:
            server.terminate()
    assert [trial["state"] for trial in study["trials"]] == [
        {"FAIL": "Fail"}.get(status, status.capitalize()) for status in run.trials["status"]
    ]
    assert [len(trial["constraints"]) for trial in study["trials"]] == [1] * 10
    assert study["has_intermediate_values"]


def asked(address: str) -> Any:
    """Return what a server that may still be starting answers."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError(address)
