"""What the commands print of a confirmation: a table, and in plain sentences whether the gain is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from odenas.results import Run, summary
from odenas.results.inference import LEVEL, POWER
from odenas.results.summary import confirmed_winner, families, parts
from odenas.results.wording import counted
from odenas.search.cells import interval, number, plain_table, signed, signed_interval, spread
from odenas.search.data import metric_of
from odenas.search.metric import Metric
from odenas.space import Scheme, describe

WIDE = 110
"""Columns of a console in which an interval stands beside its middle, not below."""
SHORT = {"better": "better", "worse": "worse", "within noise": "within noise", "the same difference": "no spread",
         "one seed": "one seed", "no finished": "all failed", "no seed": "no pair", "no twin": ""}  # fmt: skip
"""How a verdict begins -> what the table says of it."""

Row = dict[str, Any]


def show_confirmation(run: Run, console: Console) -> None:
    """Print what retraining over seeds says, for each number of epochs and images: what each scheme is worth."""
    confirmations = run.confirmations
    metric = metric_of(run.config.get("data", "digits"))
    for trainings in families(confirmations):
        rows = _rows(run, trainings)
        if not rows:
            continue
        console.print()
        console.print(_table(rows, trainings, metric, console.width >= WIDE))
        console.print()
        for line in [*_failures(rows, trainings), *_sentences(rows, _winning(trainings), metric)]:
            # In a file a sentence is a line; a terminal would break it within a word.
            console.print(line, highlight=False, soft_wrap=not console.is_terminal)
        console.print(_notes(rows, metric), style="dim", highlight=False)


def _winning(trainings: pd.DataFrame) -> str | None:
    """Return the scheme of the winner: two trials may have it, of which the table shows one."""
    winner = confirmed_winner(trainings)
    if winner is None:
        return None
    return str(trainings.loc[trainings["role"].eq("candidate") & trainings["number"].eq(winner), "scheme"].iloc[0])


def _rows(run: Run, trainings: pd.DataFrame) -> list[Row]:
    """Return the rows of SUMMARY, best first, each network once, with "name" (for people) and "search" (its score)."""
    plain = summary(trainings).astype(object)
    schemes = trainings.drop_duplicates("label").set_index("label")["scheme"]
    trials = run.trials.set_index("number")
    kept: dict[tuple[bool, str], Row] = {}
    for row in plain.where(plain.notna(), None).to_dict("records"):
        twin, label = row["role"] == "twin", row["label"]
        row["name"] = describe(Scheme.from_dict(json.loads(schemes[label])))
        row["search"], row["scheme"] = None, schemes[label]
        if not twin and row["number"] in trials.index:
            row["name"] += f" (trial {row['number']})"
            row["search"] = trials["validation_error"][row["number"]]
            row["same_fidelity"] = trials["budget"][row["number"]] == row["budget"] and _as_many(
                trials["train_size"][row["number"]], run.config.get("train_size"), row["train_size"]
            )
        # Twins that are one network are one row, and so is a scheme that was the baseline and is a candidate now.
        there = kept.get((twin, schemes[label]))
        named = {str(name): value for name, value in row.items()}
        if there is None or _standing(named) > _standing(there):
            kept[twin, schemes[label]] = named
    return sorted(kept.values(), key=lambda row: (row["mean"] is None, row["mean"]))


def _standing(row: Row) -> tuple[int, bool]:
    return row["seeds"], row["role"] == "candidate"


def _as_many(trained_on: Any, configured: int | None, retrained_on: int | None) -> bool:
    """Return whether trial and retraining had as many images; all of them are no number in a configuration."""
    return retrained_on == configured if retrained_on is None else bool(trained_on == retrained_on)


def _table(rows: list[Row], trainings: pd.DataFrame, metric: Metric, wide: bool) -> Table:
    divided, gap = parts(trainings), " " if wide else "\n"
    first, params = rows[0], [row["params"] for row in rows if row["params"] is not None]
    sizes = f", {min(params)} to {max(params)} parameters" if params else ""
    images = "" if first["train_size"] is None else f", {first['train_size']} images"
    title = f"Retrained over {counted(max(row['seeds'] + row['failed'] for row in rows), 'seed')}: " + (
        f"{counted(first['budget'], 'epoch')}{images}{sizes}"
    )
    table = plain_table(
        title, range(1, 5 + len(divided.columns)), "scheme", f"search{gap}{metric.unit}", f"again{gap}{metric.unit}",
        f"test {metric.name} {metric.unit}{gap}[95 %]", *divided.columns, f"less its twin{gap}[95 %]", "",
    )  # fmt: skip
    for row in rows:
        mean_ends = metric.shown_interval(row["low"], row["high"])
        difference_ends = metric.shown_interval(row["difference_low"], row["difference_high"])
        each = divided.reindex([row["label"]]).to_numpy().flat
        table.add_row(
            row["name"],
            number(metric.shown(row["search"])),
            number(metric.shown(row["validation_error"])),
            f"{spread(metric.shown(row['mean']), row['std'])}{gap}{interval(*mean_ends)}".rstrip(),
            *(number(metric.shown(value)) for value in each),
            f"{signed(metric.shown(row['difference']))}{gap}{signed_interval(*difference_ends)}".rstrip(),
            "twin" if row["role"] == "twin" else _short(row["verdict"]),
        )
    return table


def _short(verdict: str) -> str:
    return next((short for start, short in SHORT.items() if verdict.startswith(start)), "")


def _failures(rows: list[Row], trainings: pd.DataFrame) -> Iterator[str]:
    """Yield a line for each network of which trainings failed: how many, and why."""
    for row in rows:
        if row["failed"]:
            own = trainings[trainings["label"].eq(row["label"]) & trainings["status"].eq("FAIL")]
            reasons = own["stop_reason"].fillna(own["failure"]).dropna().value_counts()
            why = ", ".join(f"{count}× {str(reason).splitlines()[-1]}" for reason, count in reasons.head(3).items())
            whole = counted(row["seeds"] + row["failed"], "training")
            yield f"{row['name']}: {row['failed']} of {whole} failed{f' ({why})' if why else ''}."


def _sentences(rows: list[Row], winning: str | None, metric: Metric) -> Iterator[str]:
    """Yield whether the gain of the best is real, and what the search's own numbers were worth."""
    candidates = [row for row in rows if row["role"] == "candidate"]
    for row in candidates:
        if row["scheme"] == winning:
            yield f"Best of those found: {row['label']} (by its mean validation {metric.name} over the seeds)."
            yield _verdict(row, metric)
    if candidates and winning is None:
        yield "None of the schemes that were found ended its training with every seed."
    others = [row for row in candidates if row["scheme"] != winning and str(row["verdict"]).startswith("better")]
    if others:
        yield f"Better than its Euler twin, too: {', '.join(row['label'] for row in others)}."
    if curse := _curse(candidates, metric):
        yield curse


def _verdict(row: Row, metric: Metric) -> str:
    """Return in plain words whether the difference from the twin is one, and what would tell."""
    pairs, comparisons, verdict = row["pairs"], row["comparisons"], str(row["verdict"])
    if row["p_holm"] is None:
        more = " More seeds (--seeds) would tell." if (pairs or 0) < 2 else ""
        return f"Nothing can be said of its gain over its Euler twin: {verdict}.{more}"
    size = _size(row["difference"], metric)
    how = f"{LEVEL:.0%} confidence, {counted(pairs, 'seed')}, {counted(comparisons, 'comparison')}"
    if verdict.startswith("better"):
        return f"The gain is real: on the test images it is {size} better than its Euler twin ({how})."
    if verdict.startswith("worse"):
        return f"There is no gain: on the test images it is {size} worse than its Euler twin ({how})."
    needed = "more than 10 000" if row["seeds_needed"] is None else f"some {row['seeds_needed']}"
    return (
        f"No gain is proved: on the test images it is within noise of its Euler twin ({how}).\n"
        f"{counted(pairs, 'seed')} cannot tell a difference of {size} from none; to see one of this size with a chance "
        f"of {POWER:.0%}, {needed} seeds would be needed."
    )


def _curse(candidates: list[Row], metric: Metric) -> str | None:
    """Return by how much the search's own numbers flattered the candidates, on the same validation images."""
    same = [row for row in candidates if row.get("same_fidelity") and row["validation_error"] is not None]
    if not same:
        return None
    search, again = (sum(row[name] for row in same) / len(same) for name in ("search", "validation_error"))
    what = f"the best {len(same)}, in the mean" if len(same) > 1 else "the best"
    return (
        f"Winner's curse: for {what}, the search saw a validation {metric.name} of {metric.shown(search):.2f} "
        f"{metric.unit}; with new seeds it is {metric.shown(again):.2f} {metric.unit}, "
        f"{_size(again - search, metric)} {'worse' if again > search else 'better'}."
    )


def _size(difference: float, metric: Metric) -> str:
    """Return the size of a difference with its unit; of two percentages it is no percentage."""
    return f"{abs(difference):.2f} {'percentage points' if metric.unit == '%' else metric.unit}"


def _notes(rows: list[Row], metric: Metric) -> str:
    """Return how to read the table."""
    lines = ["± is the standard deviation over seeds, [ ] the 95 % interval."]
    if any(row["search"] is not None for row in rows):
        lines = [
            f"`search` is the validation {metric.name} that the search saw: one seed, and the best of many, so expect "
            "it to flatter; `again` is its mean over the seeds here.",
            *lines,
        ]
    if any(row["search"] is not None and not row.get("same_fidelity") for row in rows):
        lines.append("The search trained for other epochs or on other images, so that its numbers are not comparable.")
    if any(row["pairs"] for row in rows):
        lines.append("Differences are paired by seed; their intervals are not corrected for the number of comparisons.")
    return " ".join(lines)
