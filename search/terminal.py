"""What the commands print: tables of trials, of retrained schemes, of named schemes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from odenas.nets.backbones import is_given
from odenas.results import Run, leaderboard, summary
from odenas.results.summary import parts
from odenas.results.wording import counted
from odenas.search.data import metric_of
from odenas.search.exporting import winner
from odenas.search.metric import Metric
from odenas.space import Scheme, describe

console = Console(markup=False)  # a path or a failure may hold [brackets]
if not console.is_terminal:
    console.width = 120


def show_trials(run: Run, top: int) -> None:
    """Print the best trials of a run."""
    board = leaderboard(run)
    counts = board["status"].value_counts()
    states = ", ".join(f"{counts[name]} {word}" for name, word in STATES.items() if name in counts)
    metric = _metric(run)
    table = _table(f"{run.path}: {counted(len(board), 'trial')} ({states})", RIGHT_TRIALS, "#", "trial",
                   f"validation {metric.name} {metric.unit}", "epochs", "scheme", "order", "params", "")  # fmt: skip
    for row in board.head(top).to_dict("records"):
        table.add_row(
            _text(row["rank"]),
            _text(row["number"]),
            _number(metric.shown(row["validation_error"])),
            f"{row['epochs']}/{row['budget']}",
            row["label"],
            _text(row["order"]),
            _text(row["params"]),
            "" if row["status"] == "COMPLETE" else _text(row["stop_reason"]) or "running",
        )
    console.print(table)
    if len(board) > top:
        console.print(f"{len(board) - top} more: --top {len(board)}, or --out table.csv", highlight=False)


def show_confirmation(run: Run) -> None:
    """Print what retraining over seeds says: what each scheme is worth on the test beside its Euler twin."""
    rows = summary(run.confirmations)
    if not len(rows):
        return
    schemes_of = run.confirmations.drop_duplicates("label").set_index("label")["scheme"]
    # Twins that are one and the same network are one row.
    rows = rows[~(rows["role"].eq("twin") & rows["label"].map(schemes_of).duplicated())]
    trials = run.trials.set_index("number")["validation_error"]
    first, metric, divided = rows.iloc[0], _metric(run), parts(run.confirmations)
    table = _table(
        f"Retrained over {counted(int(rows['seeds'].max()), 'seed')}: {counted(int(first['budget']), 'epoch')}, "
        f"{rows['params'].min()} to {rows['params'].max()} parameters",
        range(1, 4 + len(divided.columns)), "scheme", f"search {metric.unit}", f"test {metric.name} {metric.unit}",
        *divided.columns, "less its Euler twin [95 %]", "",
    )  # fmt: skip
    for row in rows.sort_values("mean", na_position="last").to_dict("records"):
        twin = row["role"] == "twin"
        label = describe(Scheme.from_dict(json.loads(schemes_of[row["label"]])))
        table.add_row(
            label if twin or pd.isna(row["number"]) else f"{label} (trial {row['number']})",
            "" if twin or pd.isna(row["number"]) else _number(metric.shown(trials[row["number"]])),
            _spread(metric.shown(row["mean"]), row["std"]),
            *(_number(metric.shown(value)) for value in divided.reindex([row["label"]]).to_numpy().flat),
            _interval(
                metric.shown(row["difference"]), *metric.shown_interval(row["difference_low"], row["difference_high"])
            ),
            "twin" if twin else str(row["verdict"]).split(" than ")[0].split(" of its ")[0].split(" (")[0],
        )
    console.print()
    console.print(table)
    candidates = rows[rows["role"] == "candidate"]
    best = candidates[candidates["number"] == winner(run)] if len(candidates) else candidates
    for row in best.to_dict("records"):
        console.print(f"Best of those found: {row['label']}", style="bold", highlight=False, soft_wrap=True, end="")
        console.print(
            f" (by its mean validation {metric.name} over the seeds).\nOn the test images it is {row['verdict']}.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        "The difference is paired by seed; ± is the standard deviation over seeds. The column `search` is the\n"
        f"validation {metric.name} that the search saw: one seed, and the best of many, so expect it to flatter.",
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


STATES = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}
RIGHT_TRIALS = (0, 1, 2, 3, 5, 6)


def _metric(run: Run) -> Metric:
    """Return what judges the networks of a run; one that names no data has those of a search that names none."""
    return metric_of(run.config.get("data", "digits"))


def _table(title: str | None, right: Collection[int], *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"


def _spread(mean: Any, std: Any) -> str:
    return _number(mean) + ("" if pd.isna(std) else f" ± {std:.2f}")


def _interval(middle: Any, low: Any, high: Any) -> str:
    if pd.isna(middle):
        return ""
    return _signed(middle) + ("" if pd.isna(low) else f" [{_signed(low)}, {_signed(high)}]")


def _signed(value: float) -> str:
    """Return a number with its sign and two decimals, and no −0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"
