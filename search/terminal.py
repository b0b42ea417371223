"""What the commands print: the table of trials, and what to do next."""

from __future__ import annotations

import os
import shutil
import sys

from rich.console import Console

from odenas.nets.backbones import is_given
from odenas.results import Run, leaderboard
from odenas.results.ranking import objectives
from odenas.results.wording import counted
from odenas.search.cache import cache_folder, state
from odenas.search.cells import plain_table, text
from odenas.search.data import DATASETS, metric_of
from odenas.search.figures import figure, heading
from odenas.search.metric import Metric
from odenas.search.transfer import megabytes

console = Console(markup=False)  # a path or a failure may hold [brackets]
if not console.is_terminal:
    console.width = 120


def show_trials(run: Run, top: int) -> None:
    """Print the best trials of a run."""
    board = leaderboard(run)
    counts = board["status"].value_counts()
    states = ", ".join(f"{counts[name]} {word}" for name, word in STATES.items() if name in counts)
    metric, names = _metric(run), objectives(run)
    several, errors = len(names) > 1, [name for name in ("validation_error",) if name not in names]
    costs, shown = [name for name in ("params",) if name not in names], [*names, *errors]
    columns = ["front" if several else "#", "trial", *(heading(name, metric) for name in shown),
               "epochs", "scheme", "order", *costs, ""]  # fmt: skip
    right = [at for at, name in enumerate(columns) if name not in ("scheme", "")]
    table = plain_table(f"{run.path}: {counted(len(board), 'trial')} ({states})", right, *columns)
    for row in board.head(top).to_dict("records"):
        broken = "breaks a constraint" if row["feasible"] is False else ""
        table.add_row(
            text(row["rank"]),
            text(row["number"]),
            *(figure(name, row[name], metric) for name in shown),
            f"{row['epochs']}/{row['budget']}",
            row["label"],
            text(row["order"]),
            *(text(row[name]) for name in costs),
            broken if row["status"] == "COMPLETE" else text(row["stop_reason"]) or "running",
            style="bold" if several and text(row["rank"]) == "1" else None,
        )
    console.print(table)
    if len(board) > top:
        console.print(f"{len(board) - top} more: --top {len(board)}, or --out table.csv", highlight=False)
    if several and board["rank"].notna().any():
        count, of = counted(int(board["rank"].eq(1).sum()), "trial"), ", ".join(heading(name, metric) for name in names)
        console.print(
            f"Front 1 is the Pareto front ({count}): no other trial is as good in all of {of}, and better in one.",
            style="dim", highlight=False, soft_wrap=True,
        )  # fmt: skip


def show_next(run: Run) -> None:
    """Print where the run lies and what to do with it."""
    # As after `make search`, the environment may not be on the path.
    odenas = "odenas" if shutil.which("odenas") else os.path.relpath(sys.argv[0])
    console.print(f"\nThe run: {run.path}   ({odenas} results {run.path})", highlight=False, soft_wrap=True)
    if len(run.trials) and not run.trials["status"].eq("COMPLETE").any():
        console.print(f"No trial succeeded; {run.path / 'trials.jsonl'} says why.", highlight=False, soft_wrap=True)
        return
    winner_of = f"The winner as a network of its own: {odenas} export {run.path} --out network"
    if is_given(run.config.get("backbone", "residual")):
        winner_of = f"The weights of the best trials: {run.path / 'checkpoints'}"
    console.print(winner_of, highlight=False, soft_wrap=True)


def show_data_sets() -> None:
    """Print the data sets, and what the cache has of each."""
    folder = cache_folder()
    table = plain_table(None, (1, 2, 3, 5), "data set", "train", "validation", "test", "images", "classes", "")
    for row in DATASETS.values():
        shape = f"{row.channels}×{row.size}×{row.size}"
        there, count = ("with the installation", 0) if row.files is None else state(row.files, folder)
        size = f", {megabytes(count)}" if count else ""
        table.add_row(row.name, *map(str, (row.train, row.validation, row.test)), shape, str(row.classes), there + size)
    console.print(table)
    console.print(f"The folder: {folder}", highlight=False, soft_wrap=True)


STATES = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}


def _metric(run: Run) -> Metric:
    """Return what judges the networks of a run; one that names no data has those of a search that names none."""
    return metric_of(run.config.get("data", "digits"))
