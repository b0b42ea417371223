"""The printed table of trials: one objective, several, and constraints."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from odenas.results import Run
from odenas.search import terminal


def shown(path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], top: int = 9) -> list[str]:
    """Return what is printed of five trials, spaces made one."""
    monkeypatch.chdir(path.parent)  # a long path takes a second line
    run = Run.create(path.name, config, {})
    rows = [
        ("lm", "COMPLETE", 5.0, 900, 1.234, True),
        ("ab2", "COMPLETE", 4.0, 1200, 2.0, True),
        ("rk4", "COMPLETE", 6.0, 1300, 9.0, True),
        ("euler", "COMPLETE", 1.0, 5000, 1.0, False),
        ("ab3", "PRUNED", 9.0, 900, 1.0, True),
    ]
    for number, (label, status, error, params, latency, feasible) in enumerate(rows):
        epochs = 3 if status == "COMPLETE" else 1
        run.record_trial({
            "number": number, "label": label, "status": status, "validation_error": error, "params": params,
            "latency": latency, "feasible": feasible, "epochs": epochs, "budget": 3, "order": 2,
            "stop_reason": "stopped by asha at epoch 1" if status == "PRUNED" else "budget reached",
        })  # fmt: skip
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=140, markup=False))
    terminal.show_trials(run, top)
    return [" ".join(line.split()) for line in text.getvalue().splitlines()]


def test_one_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(tmp_path, monkeypatch, {})
    assert lines[1:] == [
        "# trial validation error % epochs scheme order params",
        "1 1 4.00 3/3 ab2 2 1200",
        "2 0 5.00 3/3 lm 2 900",
        "3 2 6.00 3/3 rk4 2 1300",
        "3 1.00 3/3 euler 2 5000 breaks a constraint",
        "4 9.00 1/3 ab3 2 900 stopped by asha at epoch 1",
    ]


def test_several_objectives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(tmp_path, monkeypatch, {"objectives": ["params", "validation_error", "latency"]})
    assert lines[1:] == [
        "front trial params validation error % latency ms epochs scheme order",
        "1 0 900 5.00 1.234 3/3 lm 2",
        "1 1 1200 4.00 2.000 3/3 ab2 2",
        "2 2 1300 6.00 9.000 3/3 rk4 2",
        "3 5000 1.00 1.000 3/3 euler 2 breaks a constraint",
        "4 900 9.00 1.000 1/3 ab3 2 stopped by asha at epoch 1",
        "Front 1 is the Pareto front (2 trials): no other trial is as good in all of params, validation error %, "
        "latency ms, and better in one.",
    ]
    assert "4 more: --top 5, or --out table.csv" in shown(tmp_path / "b", monkeypatch, {}, 1)


def test_the_front_is_bold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(tmp_path, monkeypatch, config := {"objectives": ["validation_error", "params"]})
    console = Console(file=io.StringIO(), width=140, markup=False, record=True, force_terminal=True)
    monkeypatch.setattr(terminal, "console", console)
    terminal.show_trials(Run(Path(tmp_path.name), "", config, {}), 9)
    rows = console.export_text(styles=True).splitlines()[2:7]
    assert ["\x1b[1m" in row for row in rows] == [True, True, False, False, False]


def test_an_error_is_shown_even_where_it_is_no_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(tmp_path, monkeypatch, {"objectives": ["latency"]})
    assert lines[1] == "# trial latency ms validation error % epochs scheme order params"
    assert lines[2] == "1 0 1.234 5.00 3/3 lm 2 900"
