"""How fast a count grows, of late, and when it will be full."""

from __future__ import annotations

import time

RECENT = 100
"""Events that a rate looks back on; more where many are under way at once, since those may end together."""


class Pace:
    """The times at which a count grew. Time is that of `time.monotonic`.

    Args:
        done: the count at the beginning; it says nothing of how fast things go here.
    """

    def __init__(self, done: int = 0) -> None:
        self.before, self.begun = done, time.monotonic()
        self.times: list[float] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def note(self, done: int) -> None:
        """Note how many are done by now."""
        self.times += [time.monotonic()] * (done - self.before - len(self.times))

    def rate(self, at_once: int = 1) -> float | None:
        """Return events per second, counted back from now; None as long as nothing happened.

        Where events end at random this is the maximum likelihood estimate with those under way taken as censored. It
        falls while nothing ends, and early stopping, which makes trials short, is in it as soon as it happens.

        Args:
            at_once: events under way at a time.
        """
        span = max(RECENT, 3 * at_once)
        since = self.times[-span - 1] if len(self.times) > span else self.begun
        passed = time.monotonic() - since
        return min(span, len(self.times)) / passed if self.times and passed > 0 else None


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: "1:05" (minutes, seconds), "3 h 05 min" or "2 d 03 h"."""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600} h {whole // 60 % 60:02d} min"
    return f"{whole // 86400} d {whole // 3600 % 24:02d} h"
