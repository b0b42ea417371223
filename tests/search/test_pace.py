"""How fast trials end, and how a time is written."""

import random

import pytest
from clock import Clock

from odenas.search.pace import RECENT, Pace, duration


def test_what_was_done_before_says_nothing(clock: Clock) -> None:
    pace = Pace(100)
    clock.now += 50
    assert pace.rate() is None
    pace.note(100)
    assert pace.rate() is None
    pace.note(105)
    assert pace.rate() == 0.1
    clock.now += 50
    assert pace.rate() == 0.05  # nothing ended meanwhile
    assert pace.elapsed == 100


def test_a_rate_without_time_is_not_known(clock: Clock) -> None:
    pace = Pace()
    pace.note(3)
    assert pace.rate() is None


def test_only_the_last_while_counts(clock: Clock) -> None:
    """A search that slows down, as one does when early stopping finds less to stop, says so soon."""
    pace = Pace()
    for done in range(1, 201):
        clock.now += 1
        pace.note(done)
    assert pace.rate() == 1
    for done in range(201, 201 + RECENT):
        clock.now += 10
        pace.note(done)
    assert pace.rate() == 0.1


def test_trials_that_end_all_at_once_do_not_look_fast(clock: Clock) -> None:
    pace = Pace()
    for done in range(1, 11):  # 200 at a time, 100 seconds each
        clock.now += 100
        pace.note(200 * done)
        assert pace.rate(at_once=200) == pytest.approx(2.0, rel=0.5)


@pytest.mark.parametrize("stopped", [0.0, 0.8])
def test_the_forecast_of_a_search_with_early_stopping(clock: Clock, stopped: float) -> None:
    """Four workers; a share of the trials is stopped after a fifth of the time."""
    rng = random.Random(0)
    total, ends = 400, [0.0] * 4
    times = []
    for _ in range(total):
        ends.sort()
        ends[0] += 20 if rng.random() < stopped else 100
        times.append(ends[0])
    times.sort()
    pace, begun = Pace(), clock.now
    for done, at in enumerate(times, 1):
        clock.now = begun + at
        pace.note(done)
        if total // 4 <= done < total * 3 // 4:
            rate = pace.rate(4)
            assert rate is not None
            assert (total - done) / rate == pytest.approx(times[-1] - at, rel=0.3)


def test_durations() -> None:
    seconds = [0, 65.9, 3599, 3600, 86399, 86400, 3 * 86400 + 7200]
    shown = ["0:00", "1:05", "59:59", "1 h 00 min", "23 h 59 min", "1 d 00 h", "3 d 02 h"]
    assert [duration(value) for value in seconds] == shown
