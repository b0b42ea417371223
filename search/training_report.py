"""What `odenas train` prints before and after: the network and its recipe, then what the test says and rests on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from odenas.nets.named_networks import NamedNetwork
from odenas.nets.published_recipes import recipe_on
from odenas.results import Run, published, summary
from odenas.results.summary import parts
from odenas.results.wording import counted
from odenas.search.config import SearchConfig
from odenas.search.data import Data, dataset, metric_of
from odenas.search.metric import Metric
from odenas.search.training_recipes import PUBLISHED_ON, described, has_published_task, recipe_of


def show_plan(name: str, row: NamedNetwork, config: SearchConfig, images: Data, console: Console) -> None:
    """Print what is going to be trained, by which recipe, and where that departs from the published one."""
    recipe, own = recipe_on(config.data, row.recipe), config.recipe
    known = recipe_of(row, config.data, own, config.train_size)
    say(console, f"{name}: {row.about}.")
    if not has_published_task(config.data):
        say(
            console,
            f"The recipes of named networks are for classifiers. That of a search on {config.data}: {described(own)}.",
        )
        backbone = row.options.get("backbone", config.backbone)
        say(console, f"Here: a {backbone} network, {counted(config.epochs, 'epoch')}, {_counts(images)}.")
        return
    if known and known.name == "published":
        say(
            console,
            f"Recipe of {recipe.source}: {recipe.epochs} epochs of {recipe.data}, SGD with momentum {recipe.momentum:g}"
            f"{' (Nesterov)' if recipe.nesterov else ''}, weight decay {recipe.weight_decay:g}, batch "
            f"{recipe.batch_size}, learning rate {recipe.learning_rate:g}, ÷10 after {_epochs(recipe.milestones)}.",
        )
    elif known:
        say(console, f"Recipe {known.name!r}, in place of the published one: {known.epochs} epochs, {described(own)}.")
    else:
        say(console, f"A recipe of its own: {described(own)}.")
    say(console, f"Here: {'; '.join(departures(row, config, images))}.")


def departures(row: NamedNetwork, config: SearchConfig, images: Data) -> list[str]:
    """Return what a training does otherwise than its recipe says, each in a few words."""
    recipe, found = recipe_on(config.data, row.recipe), []
    known = recipe_of(row, config.data, config.recipe, config.train_size)
    if known is None or config.epochs != known.epochs:
        falls = _epochs([share * config.epochs for share in config.recipe.milestones])
        so = f", so the learning rate falls after {falls}" if config.recipe.schedule == "step" else ""
        found.append(f"{counted(config.epochs, 'epoch')}{so}")
    where = "" if config.data == recipe.data.lower().replace("-", "") else f"{config.data}, "
    found.append(f"{where}{_counts(images)}")
    if row.scheme.coefficients.learning == "learned":
        found.append("the scheme's coefficients have no weight decay")
    return found


def show_test(name: str, row: NamedNetwork, run: Run, config: SearchConfig, console: Console) -> None:
    """Print what a training run says on the test, over its seeds and beside the twin, and what it rests on."""
    rows = summary(run.confirmations)
    mine = rows[rows["label"] == name].iloc[0]
    twins = rows[rows["twin_of"] == name]
    say(console, "")
    metric, data_set = metric_of(config.data), dataset(config.data)
    divided = parts(run.confirmations)
    say(console, f"{metric.heading} on the {data_set.test} test images of {config.data}, read once, at the end:")
    for label, network in [(name, mine), *((f"twin of {name}, forward Euler", twin) for _, twin in twins.iterrows())]:
        say(console, f"  {label}: {_measured(run, network, metric)} · {network['params']} parameters")
        if network["label"] in divided.index:
            each = (f"{part}: {metric.shown(value):.2f}" for part, value in divided.loc[network["label"]].items())
            say(console, f"    {' · '.join(each)}")
    if len(twins):
        say(console, f"  less its twin: {_difference(mine, metric)}")
    trained = run.trials.iloc[0]
    commit = "" if pd.isna(trained["commit"]) else f", commit {trained['commit'][:12]}"
    known = recipe_of(row, config.data, config.recipe, config.train_size)
    full = known.epochs if known and has_published_task(config.data) else None
    trained_for = (
        f"{config.epochs} of the recipe's {counted(full, 'epoch')}" if full else counted(config.epochs, "epoch")
    )
    say(
        console,
        f"Trained for {trained_for} on {trained['train_size']} images, on "
        f"{trained['device']}; odenas {trained['version_odenas']}, torch {trained['version_torch']}{commit}.",
    )
    by = "" if known and known.name == "published" else ", by another recipe"
    for line in published_errors(row, config.data):
        say(console, f"Published{by}: {line}")


def published_errors(row: NamedNetwork, data: str = PUBLISHED_ON) -> list[str]:
    """Return the errors on a data set that are published of this very network, with what to know of each."""
    table = published()
    table = table[(table["network"] == row.published) & (table["data"] == data)] if row.published else table[:0]
    lines = []
    for known in table.to_dict("records"):
        spread = "" if pd.isna(known["spread"]) else f" ± {known['spread']:.2f}"
        runs = "" if pd.isna(known["n_runs"]) else f", {counted(known['n_runs'], 'run')}"
        note = "" if pd.isna(known["note"]) else f"; {known['note']}"
        statistic = "" if known["statistic"] == "not stated" else f", {known['statistic']}"
        lines.append(f"{known['error_percent']:.2f}{spread} %{statistic}{runs} ({known['source']}{note})")
    return lines


def show_next(run: Run, console: Console) -> None:
    """Print where the run lies and what to do with it."""
    odenas = "odenas" if shutil.which("odenas") else os.path.relpath(sys.argv[0])
    say(console, f"The run: {run.path}   ({odenas} results {run.path})")
    say(console, f"The trained network as a folder of its own: {odenas} export {run.path} --out network")


def say(console: Console, line: str) -> None:
    """Print a line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _counts(images: Data) -> str:
    return f"{len(images.train)} training images, {len(images.validation)} others kept to validate"


def _epochs(falls: Sequence[float]) -> str:
    return f"epoch{'s' * (len(falls) > 1)} {' and '.join(f'{epoch:.4g}' for epoch in falls)}"


def _measured(run: Run, network: Any, metric: Metric) -> str:
    """Return the mean ± standard deviation over the seeds, and each seed's number."""
    if pd.isna(network["mean"]):
        return f"no training succeeded, {network['failed']} failed"
    rows = run.confirmations
    own = rows[(rows["label"] == network["label"]) & rows["test_error"].notna()]
    shown = (metric.shown(error) for error in own["test_error"])
    each = ", ".join(f"{number:.2f} (seed {seed})" for seed, number in zip(own["seed"], shown, strict=True))
    mean = f"{metric.shown(network['mean']):.2f}"
    failed = f"; {network['failed']} failed" if network["failed"] else ""
    if network["seeds"] == 1:
        return f"{mean} {metric.unit}, seed {own['seed'].iloc[0]}{failed}"
    return f"{mean} ± {network['std']:.2f} {metric.unit} over {counted(network['seeds'], 'seed')}: {each}{failed}"


def _difference(network: Any, metric: Metric) -> str:
    if pd.isna(network["difference"]):
        return str(network["verdict"])
    interval = ""
    if not pd.isna(network["difference_low"]):
        low, high = metric.shown_interval(network["difference_low"], network["difference_high"])
        interval = f" [{low:+.2f}, {high:+.2f}] at 95 %"
    return f"{metric.shown(network['difference']):+.2f}{interval}, paired by seed: {network['verdict']}"
