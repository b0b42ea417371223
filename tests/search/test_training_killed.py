"""`odenas train` in processes of its own: killed at any moment it ends like any other, and SIGTERM is heeded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.results import load
from odenas.search.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

EPOCHS = 6
# Learned coefficients, and an average of the weights beside the weights themselves.
COMMAND = ["train", "lm-14", "--data", "digits", "--train-size", "300", "--recipe", "fast", "--epochs", str(EPOCHS)]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    program = "from odenas.search.app import main; main()"
    command = [sys.executable, "-c", program, *COMMAND, "--no-gpu", "--run", str(folder), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(folder: Path) -> int:
    path = folder / "epochs.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def ended(folder: Path, how: signal.Signals, after: int, delay: float) -> subprocess.CompletedProcess[str]:
    """Run the command until so many epochs are noted and a moment more, then send it the signal."""
    process = start(folder)
    try:
        while process.poll() is None and lines(folder) < after:
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess([], process.returncode, out, err)


def finished(folder: Path) -> None:
    process = start(folder)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (0, "")


def content(folder: Path) -> dict[str, Any]:
    """Return all that a finished training left, but for what is of time and place."""
    run = load(folder)
    timed = ["seconds", "finished", "started", "hostname"]
    saved = Checkpoints(str(folder / "checkpoints")).read("00000")
    assert saved is not None
    tables = [run.trials, run.epochs, run.coefficients, run.confirmations]
    return {
        "tables": [table.drop(columns=timed, errors="ignore").to_json(double_precision=15) for table in tables],
        "tensors": {name: value.numpy().tobytes() for name, value in saved[0].items()},
        "files": sorted(path.name for path in folder.rglob("*") if path.is_file()),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    finished(folder)
    return content(folder)


@pytest.mark.parametrize("life", range(2))
def test_a_training_killed_at_any_moments_is_bit_for_bit_the_uninterrupted_one(
    tmp_path: Path, life: int, whole: dict[str, Any]
) -> None:
    rng, folder, done = random.Random(life), tmp_path / "run", []
    for after in sorted(rng.sample(range(1, EPOCHS), 2)):
        killed = ended(folder, signal.SIGKILL, after, rng.random() * 0.2)
        assert killed.returncode == -signal.SIGKILL
        done.append(lines(folder))
    finished(folder)
    noted = [(line["number"], line["epoch"]) for line in map(json.loads, (folder / "epochs.jsonl").open())]
    assert noted == [(0, epoch) for epoch in range(1, EPOCHS + 1)]
    assert all(0 < count <= EPOCHS for count in done)
    assert content(folder) == whole
    assert any(name.startswith("average.") for name in whole["tensors"])


def test_what_was_compared_is_a_training_that_learned(whole: dict[str, Any]) -> None:
    trials, epochs = (json.loads(table) for table in whole["tables"][:2])
    assert list(epochs["epoch"].values()) == list(range(1, EPOCHS + 1))
    assert list(trials["status"].values()) == ["COMPLETE"]
    assert epochs["validation_error"][str(EPOCHS - 1)] < 75
    assert torch.frombuffer(bytearray(whole["tensors"]["epoch"]), dtype=torch.int64).tolist() == [EPOCHS]


def test_sigterm_ends_it_with_one_line_and_its_exit_status(tmp_path: Path, whole: dict[str, Any]) -> None:
    folder = tmp_path / "run"
    stopped = ended(folder, signal.SIGTERM, 2, 0.05)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert stopped.stderr.strip() == f"Stopped. The same command goes on: the run is in {folder}"
    assert load(folder).trials["status"].to_list() == ["RUNNING"]
    assert load(folder).trials["epochs"].to_list() == [lines(folder)]
    finished(folder)
    assert content(folder) == whole
