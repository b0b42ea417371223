"""What befalls trials on Ray: lost workers, full memory, time-outs, errors."""

import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from odenas.results import Run
from odenas.search.cluster import cluster
from odenas.search.config import SearchConfig
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.trial import Report
from odenas.search.tune import run_trials, whole_device
from odenas.search.watchdog import watchdog

CONFIG = SearchConfig(trials=8, epochs=3, depth=14, width=2, scheduler="none", timeout=3.0, workers=2)


@pytest.mark.slow
def test_each_failure_is_recorded_and_retried_where_that_can_help(tmp_path: Path) -> None:
    def train(task: Mapping[str, Any], report: Report) -> None:
        number, before = int(task["checkpoint"][1]), tmp_path / task["checkpoint"][1]
        first = not before.exists()
        with before.open("a") as file:
            file.write(json.dumps(ray.get_runtime_context().get_assigned_resources()) + "\n")  # type: ignore[no-untyped-call]
        fields = {"params": 2940}
        report({"epoch": 0, "rows": [], "fields": fields, "coefficients": []})
        for epoch in range(1, 4):
            if epoch == 2:
                if number == 0 and first:
                    os.kill(os.getpid(), 9)
                if number == 1:
                    os._exit(1)
                if number == 2:
                    raise RuntimeError("nobody catches this")
                if number == 3 or (number == 4 and first):
                    kind = "out of memory"
                    report({"epoch": 1, "rows": [], "kind": kind, "reason": kind, "failure": "CUDA out of memory"})
                    return
                if number == 5:
                    with watchdog(task["config"]["timeout"]):
                        time.sleep(1000)
            error = float("nan") if number == 6 and epoch == 3 else 50.0 / epoch + number
            row = {"epoch": epoch, "train_loss": 1.0, "train_error": 50.0, "validation_loss": 1.0,
                   "validation_error": error, "learning_rate": 0.1, "seconds": 0.1}  # fmt: skip
            report({"epoch": epoch, "rows": [row], "fields": fields, "coefficients": []})

    run = Run.create(tmp_path / "run", CONFIG.resolved(), {})
    with cluster(None):
        ledger = Ledger(CONFIG, run)
        whole = whole_device(CONFIG)
        console = Console(file=io.StringIO())
        with Progress(ledger.rows, CONFIG.trials, "", console) as progress:
            run_trials(ledger, progress, 2940, 2, whole, train)
    trials = run.trials
    assert trials["status"].tolist() == [
        "COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE", "FAIL", "FAIL", "COMPLETE"
    ]  # fmt: skip
    assert trials["attempts"].tolist() == [2, 4, 1, 2, 2, 1, 1, 1]
    reasons = trials["stop_reason"].tolist()
    assert reasons[1] == "worker lost"
    assert reasons[2] == "RuntimeError: nobody catches this"
    assert "raise RuntimeError" in trials["failure"][2]
    assert reasons[3] == "out of memory"
    assert trials["failure"][3] == "CUDA out of memory"
    assert reasons[5] == "timed out after 3 s"
    assert reasons[6] == "`validation_error` is nan"
    # Each epoch once, however often it was trained.
    assert not run.epochs.duplicated(["number", "epoch"]).any()
    lines = [(line["number"], line["epoch"]) for line in map(json.loads, (run.path / "epochs.jsonl").open())]
    assert len(lines) == len(set(lines))
    for number in (3, 4):
        usual, alone = map(json.loads, (tmp_path / f"{number:05d}").read_text().splitlines())
        assert usual["CPU"] == 1.0
        assert alone["CPU"] == whole["CPU"]
