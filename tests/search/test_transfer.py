"""What is shown while a data set comes."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from odenas.search import transfer as module
from odenas.search.sources import command
from odenas.search.transfer import ConsoleReport, megabytes, transfer


def test_lines_are_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    with transfer(lines.append, "file", 30_000_000) as show:
        for second in range(12):
            now = 100.0 + second
            show(second * 2_500_000)
    assert lines == ["file: 12.5 of 30.0 MB", "file: 25.0 of 30.0 MB"]


@pytest.mark.parametrize(("count", "line"), [(1_234_567, "file: 1.2 MB"), (None, "file: 7 s")])
def test_a_total_that_is_not_known_is_not_named(monkeypatch: pytest.MonkeyPatch, count: int | None, line: str) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines: list[str] = []
    with transfer(lines.append, "file") as show:
        now = 107.0
        show(count)
    assert lines == [line]


def shown(*, terminal: bool, total: int | None, there: int | None, count: int | None) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None, _environ={})
    report = ConsoleReport(console)
    with transfer(report, "file [x]", total, there) as show:
        report("a line [y] meanwhile")
        show(count)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_has_a_bar_with_bytes() -> None:
    text = shown(terminal=True, total=200_000_000, there=50_000_000, count=100_000_000)
    for part in ("file [x]", "━", "100.0/200.0 MB", "a line [y] meanwhile\n"):
        assert part in text
    assert "MB" in shown(terminal=True, total=None, there=0, count=1_000_000)


def test_a_command_has_a_bar_without_bytes() -> None:
    text = shown(terminal=True, total=None, there=None, count=None)
    assert "file [x]" in text
    assert "bytes" not in text
    assert "0:00:0" in text


def test_no_terminal_no_bar() -> None:
    assert shown(terminal=False, total=200_000_000, there=0, count=1) == "a line [y] meanwhile\n"


def test_a_command_says_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    monkeypatch.setattr("odenas.search.sources.POLL_SECONDS", 0.05)
    lines: list[str] = []
    with transfer(lines.append, "`sleep`") as show:
        command(["sleep", "0.3"], tmp_path, "a miracle", lambda: show(None))
    assert len(lines) >= 2
    assert set(lines) == {"`sleep`: 0 s"}


def test_megabytes() -> None:
    assert megabytes(184_380_000) == "184.4 MB"
    assert megabytes(0, 170_052_171) == "0.0 of 170.1 MB"
