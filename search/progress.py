"""What a search shows while it runs: one live view in a terminal, a short line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from odenas.search.metric import ERROR, Metric

INTERVAL = 5.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """The state of a search on the console. Use as a context manager; call `update` whenever something changed.

    Args:
        rows: the trials by number, as the ledger keeps them; read at each update.
        total: trials asked for.
        title: what the first line says.
        console: where to show it; a terminal gets the live view.
        metric: what judges the trials.
    """

    def __init__(
        self,
        rows: dict[int, dict[str, Any]],
        total: int,
        title: str,
        console: Console | None = None,
        metric: Metric = ERROR,
    ) -> None:
        self.rows, self.total, self.title, self.metric = rows, total, title, metric
        self.console = console or Console(markup=False)
        self.finished_before = sum(row["status"] != "RUNNING" for row in rows.values())
        self.confirmed: tuple[int, int] | None = None
        self.begun = self.phase_begun = time.monotonic()
        self.printed = -INTERVAL
        self.live = Live(self, console=self.console, refresh_per_second=4) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        else:
            self.console.print(self.title, markup=False, soft_wrap=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.live:
            self.live.stop()
        else:
            self._line()

    def update(self) -> None:
        """Show the present state: a terminal is refreshed by itself, elsewhere a line is due every few seconds."""
        if self.live is None and time.monotonic() - self.printed >= INTERVAL:
            self._line()

    def confirming(self, done: int, total: int) -> None:
        """Say how many retrainings are done."""
        if self.confirmed is None:
            self.phase_begun = time.monotonic()
        self.confirmed = (done, total)
        self.update()

    def __rich__(self) -> Group:
        """Return the live view."""
        done, total = self.confirmed or (self._finished(), self.total)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "retraining" if self.confirmed else "trials", ProgressBar(total, done, width=32), f"{done}/{total}"
        )
        return Group(
            Text(self.title, style="bold"), grid, Text(self._counts()), Text(self._best()), Text(self._clock())
        )

    def _line(self) -> None:
        self.printed = time.monotonic()
        done, total = self.confirmed or (self._finished(), self.total)
        what = "retraining" if self.confirmed else "trials"
        parts = [f"{what} {done}/{total}", self._counts(), self._best(), self._clock()]
        self.console.print(
            " · ".join(parts if not self.confirmed else [parts[0], parts[3]]), markup=False, soft_wrap=True
        )

    def _finished(self) -> int:
        return sum(row["status"] != "RUNNING" for row in self.rows.values())

    def _counts(self) -> str:
        counts = Counter(row["status"] for row in self.rows.values())
        reasons = Counter(row["stop_reason"] for row in self.rows.values() if row["status"] == "FAIL")
        failed = f" ({', '.join(f'{count}× {reason}' for reason, count in reasons.most_common(3))})" if reasons else ""
        return (
            f"{counts['COMPLETE']} done, {counts['PRUNED']} stopped early, {counts['FAIL']} failed{failed}, "
            f"{counts['RUNNING']} running"
        )

    def _best(self) -> str:
        complete = [row for row in self.rows.values() if row["status"] == "COMPLETE"]
        if not complete:
            return "no scheme done yet"
        best = min(complete, key=lambda row: (row["validation_error"], row["number"]))
        shown = f"{self.metric.shown(best['validation_error']):.2f} {self.metric.unit} {self.metric.name}"
        return f"best {shown}: {best['label']} (trial {best['number']})"

    def _clock(self) -> str:
        elapsed, phase = time.monotonic() - self.begun, time.monotonic() - self.phase_begun
        done, total = self.confirmed or (self._finished() - self.finished_before, self.total - self.finished_before)
        left = f", about {_minutes(phase / done * (total - done))} left" if done > 0 else ""
        return f"{_minutes(elapsed)} gone{left}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
