"""What a search shows while it runs: one live view in a terminal, a short line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from odenas.results.pareto import fronts, spread_order
from odenas.results.wording import counted
from odenas.search.figures import phrase, phrases
from odenas.search.metric import ERROR, Metric
from odenas.search.pace import Pace, duration

INTERVAL = 5.0
"""Seconds between two lines where there is no terminal, in the first minutes."""
SHARE, LONGEST = 1 / 60, 600.0
"""Later a line is due after this share of the time gone, in seconds at most the other: 60 lines in the first five
minutes, some 720 in three days."""
SHOWN = 5
"""Trials of the Pareto front that are shown at once."""
REASONS, REASON = 3, 60
"""Reasons of failures that are shown, the most frequent ones, and letters of each."""

Row = dict[str, Any]


class Progress:
    """The state of a search on the console. Use as a context manager; call `update` whenever something changed.

    Args:
        rows: the trials by number, as the ledger keeps them; read at each update.
        total: trials asked for.
        title: what the first line says.
        console: where to show it; a terminal gets the live view.
        metric: what judges the trials.
        objectives: columns of the trials that the search minimises; with several it shows the Pareto front.
    """

    def __init__(
        self,
        rows: dict[int, Row],
        total: int,
        title: str,
        console: Console | None = None,
        metric: Metric = ERROR,
        objectives: Sequence[str] = ("validation_error",),
    ) -> None:
        self.rows, self.total, self.title, self.metric = rows, total, title, metric
        self.objectives = tuple(objectives)
        self.console = console or Console(markup=False)
        self.confirmed: tuple[int, int] | None = None
        self.pace = Pace(self._finished())
        self.begun = self.pace.begun
        self.printed = -INTERVAL
        self._front: dict[int, Row] = {}
        self._seen: set[int] = set()
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.live = Live(self, console=self.console, refresh_per_second=4) if live else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        else:
            self.console.print(self.title, markup=False, highlight=False, soft_wrap=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.pace.note(self._done()[0])
        if self.live:
            self.live.stop()
        else:
            self._line()

    def update(self) -> None:
        """Show the present state: a terminal is refreshed by itself, elsewhere a line is due now and then."""
        self.pace.note(self._done()[0])
        now = time.monotonic()
        due = min(max(INTERVAL, SHARE * (now - self.begun)), LONGEST)
        if self.live is None and now - self.printed >= due:
            self._line()

    def confirming(self, done: int, total: int) -> None:
        """Say how many retrainings are done."""
        if self.confirmed is None:
            self.pace = Pace(done)
        self.confirmed = (done, total)
        self.update()

    def __rich__(self) -> Group:
        """Return the live view."""
        done, total = self._done()
        bar = ProgressBar(total, done, width=max(8, min(32, self.console.width - 28)))
        grid = Table.grid(padding=(0, 2))
        grid.add_row(self._what(), bar, f"{done}/{total}")
        failed = [Text(f"failed: {text}", "red", no_wrap=True, overflow="ellipsis") for text in self._failures()]
        lines: list[RenderableType] = [Text(self.title, style="bold"), grid, Text(self._counts()), *failed]
        best = self._best() if len(self.objectives) == 1 else self._front_table()
        return Group(*lines, best, Text(self._clock()))

    def _line(self) -> None:
        self.printed = time.monotonic()
        done, total = self._done()
        parts = [f"{self._what()} {done}/{total}"]
        if not self.confirmed:
            failed = ", ".join(self._failures())
            parts += [self._counts(), *([f"failed: {failed}"] if failed else []), self._best()]
        self.console.print(" · ".join([*parts, self._clock()]), markup=False, highlight=False, soft_wrap=True)

    def _what(self) -> str:
        return "retraining" if self.confirmed else "trials"

    def _done(self) -> tuple[int, int]:
        return self.confirmed or (self._finished(), self.total)

    def _rows(self, status: str | None = None) -> list[Row]:
        """Return the trials of now: the live view is drawn by a thread of its own, while the dictionary grows."""
        return [row for row in list(self.rows.values()) if status in (None, row["status"])]

    def _finished(self) -> int:
        return sum(row["status"] != "RUNNING" for row in self._rows())

    def _counts(self) -> str:
        rows = self._rows()
        counts = Counter(row["status"] for row in rows)
        again = sum((row.get("attempts") or 1) - 1 for row in rows)
        return (
            f"{counts['COMPLETE']} done, {counts['PRUNED']} stopped early, {counts['FAIL']} failed, "
            f"{counts['RUNNING']} running" + (f", {again} begun again" if again else "")
        )

    def _failures(self) -> list[str]:
        """Return why trials failed, the most frequent reasons first, each on one line."""
        texts = (" ".join(str(row["stop_reason"]).split()) for row in self._rows("FAIL"))
        reasons = Counter(text if len(text) <= REASON else text[: REASON - 1] + "…" for text in texts)
        shown = [f"{count}× {reason}" for reason, count in reasons.most_common(REASONS)]
        others = sum(reasons.values()) - sum(count for _, count in reasons.most_common(REASONS))
        return shown + ([f"{others}× other reasons"] if others else [])

    def _able(self) -> list[Row]:
        """Return the trials that can be best: done, within the constraints, with all objectives known."""
        return [
            row
            for row in self._rows("COMPLETE")
            if row.get("feasible") is not False and all(row.get(name) is not None for name in self.objectives)
        ]

    def _best(self) -> str:
        rows = self._able() if len(self.objectives) == 1 else self._pareto_front()
        if not rows:
            return "no scheme done yet"
        best = min(rows, key=lambda row: (row[self.objectives[0]], row.get("params") or 0, row["number"]))
        front = f"Pareto front of {len(rows)}, " if len(self.objectives) > 1 else ""
        shown = phrases(best, self.objectives, self.metric)
        return f"{front}best {shown}: {best['label']} (trial {best['number']})"

    def _pareto_front(self) -> list[Row]:
        """Return the trials that no other dominates, by the first objective. A dominated one never comes back."""
        new = {row["number"]: row for row in self._able() if row["number"] not in self._seen}
        if new:
            among = list((self._front | new).values())
            first = fronts([[row[name] for name in self.objectives] for row in among]) == 0
            self._front = {row["number"]: row for row, is_first in zip(among, first, strict=True) if is_first}
            self._seen |= set(new)
        return sorted(self._front.values(), key=lambda row: (*(row[name] for name in self.objectives), row["number"]))

    def _front_table(self) -> RenderableType:
        """Return the Pareto front, or those of its trials that show its extent."""
        rows = self._pareto_front()
        if not rows:
            return self._best()
        some = np.sort(spread_order([[row[name] for name in self.objectives] for row in rows])[:SHOWN])
        cells = [
            [*(phrase(name, rows[at][name], self.metric) for name in self.objectives), f"trial {rows[at]['number']}"]
            for at in some
        ]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        of = f", {len(some)} of them" if len(some) < len(rows) else ""
        lines = [f"Pareto front of {counted(len(rows), 'trial')}{of}:"]
        for at, row in zip(some, cells, strict=True):  # the label comes last, so that it is what a narrow terminal cuts
            lines.append("  ".join([*map(str.rjust, row, widths), rows[at]["label"]]))
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def _clock(self) -> str:
        rate = self.pace.rate(len(self._rows("RUNNING")))
        parts = [] if rate is None or self.confirmed else [f"{_few(3600 * rate)} trials/hour"]
        parts.append(f"{duration(time.monotonic() - self.begun)} gone")
        return ", ".join([*parts, *self._left(rate)])

    def _left(self, rate: float | None) -> list[str]:
        """Return the time left as a text, or nothing where nothing is known of it."""
        done, total = self._done()
        running = [] if self.confirmed else self._rows("RUNNING")
        known = [row for row in running if row.get("epochs") and row.get("seconds")]
        if done >= total:
            return []
        if running and len(known) == len(running) >= total - done:  # none is to begin: the longest one decides
            longest = max(row["seconds"] / row["epochs"] * (row["budget"] - row["epochs"]) for row in known)
            return [f"at most {duration(longest)} left"]
        if rate is not None:
            return [f"about {duration((total - done) / rate)} left"]
        if known:  # nothing has ended yet: as if no trial were to be stopped early
            budget = sum(row["seconds"] / row["epochs"] * row["budget"] for row in known) / len(known)
            return [f"at most {duration(budget * (total - done) / len(running))} left"]
        return []


def _few(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"
