"""What a search shows: few lines without a terminal, a live view in one."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from odenas.search.progress import INTERVAL, Progress


def row(number: int, status: str, error: float | None = None, reason: str | None = None) -> dict[str, Any]:
    label = f"scheme {number}"
    return {"number": number, "status": status, "validation_error": error, "label": label, "stop_reason": reason}


ROWS = {
    0: row(0, "COMPLETE", 7.25),
    1: row(1, "COMPLETE", 5.125, "budget reached"),
    2: row(2, "PRUNED", 1.0, "stopped by asha at epoch 1"),
    3: row(3, "FAIL", None, "worker lost"),
    4: row(4, "FAIL", None, "[enforce fail at x.cpp:1] [/no] memory"),
    5: row(5, "FAIL", None, "worker lost"),
    6: row(6, "RUNNING"),
    7: row(7, "COMPLETE", 5.125),
}


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def plain() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=80), text


def test_one_line_an_interval_at_most(clock: Clock) -> None:
    console, text = plain()
    rows: dict[int, dict[str, Any]] = {}
    with Progress(rows, 8, "the [/title]", console) as progress:
        for _ in range(1000):
            clock.now += INTERVAL / 100
            progress.update()
        inside = text.getvalue().splitlines()
    # The title, then a line at the first update and in each interval, and one at the end.
    assert inside[0] == "the [/title]"
    assert 9 <= len(inside) - 1 <= 11
    assert len(text.getvalue().splitlines()) == len(inside) + 1


def test_a_line_says_it_all(clock: Clock) -> None:
    console, text = plain()
    with Progress(ROWS, 20, "title", console):
        clock.now += 65
    (_, line) = text.getvalue().splitlines()
    assert line == (
        "trials 7/20 · 3 done, 1 stopped early, 3 failed (2× worker lost, 1× [enforce fail at x.cpp:1] [/no] memory), "
        "1 running · best 5.12 % error: scheme 1 (trial 1) · 1:05 gone"
    )


def test_time_left_counts_what_was_done_here(clock: Clock) -> None:
    console, text = plain()
    rows = {number: row(number, "COMPLETE", 5.0) for number in range(10)}
    with Progress(rows, 20, "title", console) as progress:
        rows |= {number: row(number, "COMPLETE", 5.0) for number in range(10, 15)}
        clock.now += 100
        progress.update()
    assert text.getvalue().splitlines()[1].endswith("1:40 gone, about 1:40 left")


def test_retraining_has_lines_of_its_own(clock: Clock) -> None:
    console, text = plain()
    with Progress(ROWS, 8, "title", console) as progress:
        clock.now += 60
        progress.confirming(0, 6)
        clock.now += 10
        progress.confirming(2, 6)
    lines = text.getvalue().splitlines()
    assert lines[1:3] == ["retraining 0/6 · 1:00 gone", "retraining 2/6 · 1:10 gone, about 0:20 left"]


def test_nothing_done_yet(clock: Clock) -> None:
    console, text = plain()
    with Progress({}, 3, "title", console):
        pass
    assert "0 done, 0 stopped early, 0 failed, 0 running · no scheme done yet · 0:00 gone" in text.getvalue()


def test_a_terminal_has_a_live_view() -> None:
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    with Progress(ROWS, 20, "the [/title]", console) as progress:
        progress.update()
    text = console.export_text()
    for part in ("the [/title]", "trials", "7/20", "3 done, 1 stopped early, 3 failed", "[/no] memory", "best 5.12 %"):
        assert part in text
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    with Progress(ROWS, 20, "title", console) as progress:
        progress.confirming(2, 6)
    assert "retraining" in (text := console.export_text())
    assert "2/6" in text
