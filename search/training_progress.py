"""What trainings show while they run: one live line in a terminal, a short line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from odenas.search.metric import ERROR, Metric
from odenas.search.progress import INTERVAL


class TrainingProgress:
    """The state of a number of trainings on the console. Use as a context manager.

    Args:
        total: trainings to do.
        epochs: of each.
        console: where to show it; a terminal gets the live line.
        metric: what judges the networks.
    """

    def __init__(self, total: int, epochs: int, console: Console, metric: Metric = ERROR) -> None:
        self.total, self.epochs, self.console, self.metric = total, epochs, console, metric
        self.title, self.last, self.done = "", "", 0
        self.epoch_number, self.measured, self.seconds = 0, 0, 0.0
        self.started = time.monotonic()
        self.printed = -INTERVAL
        self.shown = True
        self.live = Live(self, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> TrainingProgress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.live:
            self.live.stop()
        elif not self.shown:
            self._print()

    def begin(self, title: str) -> None:
        """Say which training begins."""
        self.title, self.last, self.epoch_number = title, "", 0

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Take the row of the last epoch done."""
        self.epoch_number = row["epoch"]
        self.measured += 1
        self.seconds += row["seconds"]
        shown = f"{self.metric.shown(row['validation_error']):.2f} {self.metric.unit}"
        self.last = f"loss {row['train_loss']:.3f} · validation {self.metric.name} {shown}"
        self.shown = False
        if self.live is None and time.monotonic() - self.printed >= INTERVAL:
            self._print()

    def say(self, line: str) -> None:
        """Print a line that is no progress, in a terminal above the live one."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Say that the training is over; elsewhere than in a terminal, its last epoch is always shown."""
        if self.live is None and not self.shown:
            self._print()
        self.done += 1

    def __rich__(self) -> Text:
        """Return the live line."""
        return Text(self._line(), no_wrap=True, overflow="ellipsis")

    def _print(self) -> None:
        self.printed, self.shown = time.monotonic(), True
        self.console.print(self._line(), markup=False, highlight=False, soft_wrap=True)

    def _line(self) -> str:
        which = f"{self.done + 1}/{self.total} " if self.total > 1 else ""
        parts = [f"{which}{self.title}", f"epoch {self.epoch_number}/{self.epochs}", self.last, self._clock()]
        return " · ".join(part for part in parts if part)

    def _clock(self) -> str:
        left = (self.total - self.done) * self.epochs - self.epoch_number
        estimate = f", about {_clock(self.seconds / self.measured * left)} left" if self.measured and left > 0 else ""
        return f"{_clock(time.monotonic() - self.started)} gone{estimate}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
