"""What a search shows: few lines without a terminal, a live view in one."""

import io
import itertools
import random
import re
from typing import Any

import numpy as np
import pytest
from clock import Clock
from rich.console import Console

from odenas.results.pareto import fronts
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


def test_lines_grow_rare_in_a_long_search(clock: Clock) -> None:
    console, _ = plain()
    begun = clock.now
    printed = []
    with Progress({}, 8, "", console) as progress:
        while clock.now < begun + 3 * 86400:
            clock.now += 1.0
            progress.update()
            if progress.printed == clock.now:
                printed.append(clock.now - begun)
    assert 300 < len(printed) < 800
    gaps = [after - before for before, after in itertools.pairwise(printed)]
    assert gaps[0] == INTERVAL
    assert max(gaps) <= 601
    # After an hour a line a minute is enough.
    assert all(50 <= gap <= 70 for gap, at in zip(gaps, printed, strict=False) if 3000 <= at <= 4000)


def test_a_line_says_it_all(clock: Clock) -> None:
    console, text = plain()
    with Progress(ROWS, 20, "title", console):
        clock.now += 65
    (_, line) = text.getvalue().splitlines()
    assert line == (
        "trials 7/20 · 3 done, 1 stopped early, 3 failed, 1 running · failed: 2× worker lost, "
        "1× [enforce fail at x.cpp:1] [/no] memory · best 5.12 % error: scheme 1 (trial 1) · 1:05 gone"
    )


def test_reasons_are_few_and_short_and_restarts_are_counted(clock: Clock) -> None:
    reasons = ["a", "a", "a", "b\n  and more", "b and more", "x" * 100, "x" * 99 + "y", "c", "d"]
    rows = {number: row(number, "FAIL", None, reason) for number, reason in enumerate(reasons)}
    rows[0]["attempts"], rows[1]["attempts"], rows[2]["attempts"] = 3, 2, None
    console, text = plain()
    with Progress(rows, 20, "title", console):
        pass
    line = text.getvalue().splitlines()[1]
    assert f"failed: 3× a, 2× b and more, 2× {'x' * 59}…, 2× other reasons ·" in line
    assert "9 failed, 0 running, 3 begun again ·" in line


def test_time_left_counts_what_was_done_here(clock: Clock) -> None:
    console, text = plain()
    rows = {number: row(number, "COMPLETE", 5.0) for number in range(10)}
    with Progress(rows, 20, "title", console) as progress:
        rows |= {number: row(number, "COMPLETE", 5.0) for number in range(10, 15)}
        clock.now += 100
        progress.update()
    assert text.getvalue().splitlines()[1].endswith("180 trials/hour, 1:40 gone, about 1:40 left")


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


def running(number: int, epochs: int, seconds: float) -> dict[str, Any]:
    return {**row(number, "RUNNING"), "epochs": epochs, "budget": 10, "seconds": seconds}


def test_before_the_first_end_the_time_left_is_a_bound(clock: Clock) -> None:
    console, _ = plain()
    rows = {0: running(0, 2, 20.0), 1: running(1, 1, 20.0), 2: running(2, 0, 0.0)}
    with Progress(rows, 6, "", console) as progress:
        # 10 and 20 seconds an epoch, so 150 for a trial; 6 of them, 3 at a time.
        assert progress._clock() == "0:00 gone, at most 5:00 left"
        rows[0], rows[1] = running(0, 0, 0.0), running(1, 0, 0.0)
        assert progress._clock() == "0:00 gone"


def test_at_the_end_the_longest_trial_decides(clock: Clock) -> None:
    console, _ = plain()
    rows = {number: row(number, "PRUNED") for number in range(8)}
    with Progress(rows, 20, "", console) as progress:
        rows |= {number: row(number, "PRUNED") for number in range(8, 18)}
        clock.now += 10
        progress.update()
        assert progress._clock().endswith("0:10 gone, about 0:02 left")
        rows |= {18: running(18, 4, 80.0)}
        assert progress._clock().endswith("0:10 gone, about 0:02 left")
        rows |= {19: running(19, 9, 90.0)}
        # Both are begun: 6 epochs of 20 seconds, and one of 10.
        assert progress._clock().endswith("0:10 gone, at most 2:00 left")
        rows |= {18: row(18, "COMPLETE", 5.0), 19: row(19, "FAIL", None, "x")}
        assert progress._clock().endswith("0:10 gone")


def costly(number: int, error: float | None, params: int, latency: float = 1.0, **more: Any) -> dict[str, Any]:
    return {**row(number, "COMPLETE", error), "params": params, "latency": latency, **more}


def test_with_several_objectives_the_front_is_shown(clock: Clock) -> None:
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    rows = {0: costly(0, 5.0, 900), 1: costly(1, 5.0, 1000), 2: costly(2, 4.0, 1000, feasible=False),
            3: costly(3, None, 1), 4: {**costly(4, 1.0, 1), "status": "PRUNED"}}  # fmt: skip
    progress = Progress(rows, 20, "", console, objectives=("validation_error", "params"))
    assert progress._best() == "Pareto front of 1, best 5.00 % error, 900 params: scheme 0 (trial 0)"
    rows[5] = costly(5, 4.5, 1200)
    rows[6] = costly(6, 9.0, 100)
    assert progress._best() == "Pareto front of 3, best 4.50 % error, 1200 params: scheme 5 (trial 5)"
    rows[7] = costly(7, 4.5, 900)  # it takes the place of 0 and of 5
    console.print(progress)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    at = lines.index("Pareto front of 2 trials:")
    assert lines[at + 1 : at + 3] == [
        "4.50 % error  900 params  trial 7  scheme 7",
        "9.00 % error  100 params  trial 6  scheme 6",
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_front_as_trials_end_one_by_one_is_that_of_all(seed: int) -> None:
    rng = random.Random(seed)
    names = ("validation_error", "params", "latency")
    rows: dict[int, dict[str, Any]] = {}
    progress = Progress(rows, 60, "", plain()[0], objectives=names)
    for number in range(60):
        rows[number] = costly(number, rng.randrange(9), rng.randrange(9), rng.randrange(9))
        if number % 3 == 0:
            progress._best()
    values = np.array([[one[name] for name in names] for one in rows.values()])
    found = {one["number"] for one in progress._pareto_front()}
    assert found == set(np.flatnonzero(fronts(values) == 0).tolist())


def test_of_a_long_front_five_trials_are_shown_that_span_it() -> None:
    rows = {number: costly(number, float(number), 100 - number) for number in range(41)}
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    console.print(Progress(rows, 50, "", console, objectives=("validation_error", "params")))
    text = console.export_text()
    assert "Pareto front of 41 trials, 5 of them:" in text
    shown = [int(number) for number in re.findall(r"params +trial (\d+) ", text)]
    assert shown == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("width", [120, 80, 60, 40, 24])
def test_narrow_terminals_are_not_overrun(width: int) -> None:
    objectives = ("validation_error", "params", "latency")
    rows = ROWS | {number: costly(number, 1.0 * number, 90000 - number, 1 / number, label="a long label " * 5)
                   for number in range(10, 30)} | {30: row(30, "FAIL", None, "so long " * 9)}  # fmt: skip
    for names in (objectives[:1], objectives):
        console = Console(record=True, force_terminal=True, width=width, file=io.StringIO())
        progress = Progress(rows, 1000, "a title that is longer than the terminal is wide", console, objectives=names)
        console.print(progress)
        lines = console.export_text().splitlines()
        assert all(len(line) <= width for line in lines)
        assert "23 done" in " ".join(lines)
        assert f"{len(rows) - 1}/1000" in " ".join(lines)
        # Each failure and each trial of the front has one line, and no more.
        assert sum("failed:" in line for line in lines) == 3
        assert not [line for line in lines if "so long" in line and not line.startswith("failed: 1× so long")]
        assert sum(" % error" in line for line in lines) == (5 if names == objectives else 1)


def test_the_view_is_drawn_while_trials_are_added() -> None:
    rows: dict[int, dict[str, Any]] = {}

    class Growing(dict[str, Any]):
        """A row at whose reading the other thread adds a trial."""

        def __getitem__(self, key: str) -> Any:
            rows[len(rows)] = row(len(rows), "RUNNING")
            return super().__getitem__(key)

    rows |= {number: Growing(row(number, "COMPLETE", 1.0)) for number in range(3)}
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    for names in (("validation_error",), ("validation_error", "params")):
        console.print(Progress(rows, 10, "", console, objectives=names))
    assert "3 done" in console.export_text()


def test_a_terminal_that_cannot_redraw_gets_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = io.StringIO()
    with Progress(ROWS, 20, "title", Console(file=text, force_terminal=True, width=200)) as progress:
        progress.update()
    assert len(text.getvalue().splitlines()) == 3


def test_a_terminal_has_a_live_view() -> None:
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    with Progress(ROWS, 20, "the [/title]", console) as progress:
        progress.update()
    text = console.export_text()
    shown = ("3 done, 1 stopped early, 3 failed", "failed: 2× worker lost", "[/no] memory", "best 5.12 %")
    for part in ("the [/title]", "trials", "7/20", *shown):
        assert part in text
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO())
    with Progress(ROWS, 20, "title", console) as progress:
        progress.confirming(2, 6)
    assert "retraining" in (text := console.export_text())
    assert "2/6" in text
