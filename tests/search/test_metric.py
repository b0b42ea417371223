"""What is shown of a metric, in either direction, wherever it is shown."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from odenas.results import Run
from odenas.search import terminal
from odenas.search.cells import interval, signed, signed_interval
from odenas.search.config import SearchConfig
from odenas.search.confirmation_report import show_confirmation
from odenas.search.data import metric_of
from odenas.search.metric import ERROR, PSNR, Metric
from odenas.search.progress import Progress
from odenas.search.training_progress import TrainingProgress
from odenas.search.training_report import show_test
from odenas.space import scheme

EVERY = [(ERROR, "digits", 1), (PSNR, "denoise", -1)]
PARTS = {"σ 15": (-31.0, -30.0), "σ 25": (-28.0, -27.5), "σ 50": (-25.0, -24.25)}


@pytest.mark.parametrize(("metric", "data", "sign"), EVERY)
def test_each_data_set_has_its_metric(metric: Metric, data: str, sign: int) -> None:
    assert metric_of(data) is metric
    assert metric.shown(5.25) == 5.25 * sign
    assert metric.shown(pd.NA) is pd.NA


def test_the_direction_turns_an_interval_round() -> None:
    assert ERROR.shown_interval(-3.0, -1.0) == (-3.0, -1.0)
    assert PSNR.shown_interval(-3.0, -1.0) == (1.0, 3.0)
    assert PSNR.shown_interval(pd.NA, pd.NA) == (pd.NA, pd.NA)
    assert f"{PSNR.shown(0.0):+.2f}" == "+0.00"


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=140, markup=False), text


def test_progress_shows_the_best_in_either_direction() -> None:
    rows = {
        number: {"number": number, "status": "COMPLETE", "validation_error": error, "label": f"s{number}"}
        for number, error in enumerate([-28.5, -29.25, -27.0])
    }
    shown, text = console()
    with Progress(rows, 3, "title", shown, PSNR) as progress:
        assert progress._best() == "best 29.25 dB PSNR: s1 (trial 1)"
    progress.metric = ERROR
    rows[1]["validation_error"] = 4.5
    rows[0]["validation_error"] = rows[2]["validation_error"] = 6.0
    assert progress._best() == "best 4.50 % error: s1 (trial 1)"
    assert "29.25 dB PSNR" in text.getvalue()


@pytest.mark.parametrize(
    ("metric", "error", "expected"),
    [(ERROR, 4.5, "validation error 4.50 %"), (PSNR, -28.5, "validation PSNR 28.50 dB")],
)
def test_the_live_line_of_a_training(metric: Metric, error: float, expected: str) -> None:
    shown, text = console()
    with TrainingProgress(1, 2, shown, metric) as progress:
        progress.begin("lm, seed 0")
        progress.epoch({"epoch": 1, "seconds": 1.0, "train_loss": 0.5, "validation_error": error})
    assert f"loss 0.500 · {expected}" in text.getvalue()


def retrained(path: Path, data: str, errors: dict[str, list[float]], parts: bool) -> Run:
    """Return a run in which trial 0 (ab2) and its twin were retrained over seeds with these test errors."""
    run = Run.create(path, SearchConfig(data=data).resolved(), {"odenas": "0"})
    value = scheme("ab2")
    common = {"status": "COMPLETE", "data": data, "budget": 5, "train_size": 10, "epochs": 5}
    run.record_trial(
        {
            "number": 0, "label": "ab2", "params": 100, "scheme": json.dumps(value.to_dict()), "draw": "{}",
            "stop_reason": "budget reached", "validation_error": errors["ab2"][0], "device": "cpu",
            "version_odenas": "0", "version_torch": "0", "seed": 0, **common,
        }
    )  # fmt: skip
    for label, drawn in errors.items():
        twin = label != "ab2"
        for seed, error in enumerate(drawn):
            row: dict[str, Any] = {
                "label": label, "seed": seed, "test_error": error, "validation_error": error, "params": 100,
                "role": "twin" if twin else "candidate", "number": 0, "twin_of": "ab2" if twin else None,
                "scheme": json.dumps((value.twin() if twin else value).to_dict()), **common,
            }  # fmt: skip
            if parts:
                row["test_parts"] = json.dumps({name: ends[twin] + 0.1 * seed for name, ends in PARTS.items()})
            run.record_confirmation(row)
    return run


def said(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown, text = console()
    monkeypatch.setattr(terminal, "console", shown)
    terminal.show_trials(run, 5)
    show_confirmation(run, shown)
    return [" ".join(line.split()) for line in text.getvalue().splitlines()]


def test_a_gain_in_psnr_is_a_positive_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"ab2": [-29.0, -28.5, -29.5], "twin of ab2": [-28.0, -27.75, -28.25]}
    lines = said(retrained(tmp_path / "run", "denoise", errors, parts=True), monkeypatch)
    assert "# trial validation PSNR dB epochs scheme order params" in lines
    assert "1 0 29.00 5/5 ab2 100" in lines
    header = "scheme search dB again dB test PSNR dB [95 %] σ 15 σ 25 σ 50 less its twin [95 %]"
    at = lines.index(header)
    # The differences are 1, 0.75 and 1.25: mean 1, deviation 0.25, and t₀.₉₇₅ of 2 degrees of freedom is 4.303.
    three = "29.00 29.00 29.00 ± 0.50 [27.76, 30.24] 30.90 27.90 24.90"
    assert lines[at + 1] == f"ab2 (trial 0) {three} +1.00 [+0.38, +1.62] better"
    assert lines[at + 2] == "euler 28.00 28.00 ± 0.25 [27.38, 28.62] 29.90 27.40 24.15 twin"
    assert any("by its mean validation PSNR over the seeds" in line for line in lines)
    assert any(line.startswith("`search` is the validation PSNR that the search saw") for line in lines)
    how = "(95% confidence, 3 seeds, 1 comparison)"
    assert f"The gain is real: on the test images it is 1.00 dB better than its Euler twin {how}." in lines


def test_a_loss_in_error_is_a_positive_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"ab2": [9.0, 8.5, 9.5], "twin of ab2": [8.0, 7.75, 8.25]}
    lines = said(retrained(tmp_path / "run", "digits", errors, parts=False), monkeypatch)
    assert "# trial validation error % epochs scheme order params" in lines
    at = lines.index("scheme search % again % test error % [95 %] less its twin [95 %]")
    assert lines[at + 1] == "euler 8.00 8.00 ± 0.25 [7.38, 8.62] twin"
    assert lines[at + 2] == "ab2 (trial 0) 9.00 9.00 9.00 ± 0.50 [7.76, 10.24] +1.00 [+0.38, +1.62] worse"
    assert any("by its mean validation error over the seeds" in line for line in lines)


@pytest.mark.parametrize(
    ("data", "sign", "heading", "expected"),
    [
        ("digits", 1, "Error on the 397 test images of digits", "less its twin: +1.00 [+0.38, +1.62] at 95 %"),
        ("denoise", -1, "PSNR on the 512 test images of denoise", "less its twin: +1.00 [+0.38, +1.62] at 95 %"),
    ],
)
def test_the_report_of_a_training(tmp_path: Path, data: str, sign: int, heading: str, expected: str) -> None:
    from odenas.nets.named_networks import NamedNetwork

    errors = {"ab2": [9.0, 8.5, 9.5], "twin of ab2": [8.0, 7.75, 8.25]}
    given = {label: [sign * error for error in drawn] for label, drawn in errors.items()}
    run = retrained(tmp_path / "run", data, given, parts=sign < 0)
    shown, text = console()
    show_test("ab2", NamedNetwork("about", scheme("ab2"), 20), run, SearchConfig(data=data), shown)
    lines = [line.strip() for line in text.getvalue().splitlines()]
    unit = metric_of(data).unit
    assert f"{heading}, read once, at the end:" in lines
    assert (
        f"ab2: 9.00 ± 0.50 {unit} over 3 seeds: 9.00 (seed 0), 8.50 (seed 1), 9.50 (seed 2) · 100 parameters" in lines
    )
    assert any(line.startswith(expected) for line in lines)
    assert ("σ 15: 30.90 · σ 25: 27.90 · σ 50: 24.90" in lines) == (sign < 0)


def test_intervals_are_shown_where_there_are_any() -> None:
    assert signed(-0.001) == "+0.00"
    assert signed_interval(-0.634, 0.004) == "[-0.63, +0.00]"
    assert interval(1.0, 2.345) == "[1.00, 2.35]"
    assert signed(None) == signed_interval(None, None) == interval(float("nan"), None) == ""
