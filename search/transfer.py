"""What is shown while a data set comes: a bar in a terminal, a short line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from odenas.search.sources import Report

INTERVAL = 5.0
"""Seconds between two lines where there is no terminal."""

Shown = Callable[[int | None], None]
"""Is called with the number of bytes that there are, or with None where only time passes."""


class ConsoleReport:
    """A report that prints each line on a console, and in a terminal lets `transfer` draw a bar there."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, line: str) -> None:
        """Print a line as it is."""
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def transfer(report: Report, what: str, total: int | None = None, there: int | None = None) -> Iterator[Shown]:
    """Show the progress of `what`: of `total` bytes, where that is known, `there` are there at the beginning."""
    if isinstance(report, ConsoleReport) and report.console.is_terminal:
        bytes_ = () if there is None else (DownloadColumn(), TransferSpeedColumn())
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), *bytes_, TimeElapsedColumn())
        with Progress(*columns, console=report.console, transient=True) as bar:
            task = bar.add_task(what, total=total, completed=there or 0)
            yield lambda count: bar.update(task, completed=count)
    else:
        yield _lines(report, what, total)


def _lines(report: Report, what: str, total: int | None) -> Shown:
    """Return what reports a line every INTERVAL seconds, and none where it takes less."""
    begun = said = time.monotonic()

    def show(count: int | None) -> None:
        nonlocal said
        if (now := time.monotonic()) - said >= INTERVAL:
            said = now
            amount = f"{now - begun:.0f} s" if count is None else megabytes(count, total)
            report(f"{what}: {amount}")

    return show


def megabytes(count: int, total: int | None = None) -> str:
    """Return a number of bytes for a reader, of a total where it is known."""
    return f"{count / 1e6:.1f} MB" if total is None else f"{count / 1e6:.1f} of {total / 1e6:.1f} MB"
