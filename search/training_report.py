"""What `odenas train` prints before and after: the network and its recipe, then the test error and what it rests on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from odenas.nets.named import NamedNetwork
from odenas.results import Run, published, summary
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS, Data

PUBLISHED_ON = "cifar10"


def show_plan(name: str, row: NamedNetwork, config: SearchConfig, images: Data, console: Console) -> None:
    """Print what is going to be trained, by which recipe, and where that departs from the published one."""
    recipe = row.recipe
    say(console, f"{name}: {row.about}.")
    say(
        console,
        f"Recipe of {recipe.source}: {recipe.epochs} epochs of CIFAR-10, SGD with momentum {recipe.momentum:g}"
        f"{' (Nesterov)' if recipe.nesterov else ''}, weight decay {recipe.weight_decay:g}, batch {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g}, ÷10 after {_epochs(recipe.milestones)}.",
    )
    say(console, f"Here: {'; '.join(departures(row, config, images))}.")


def departures(row: NamedNetwork, config: SearchConfig, images: Data) -> list[str]:
    """Return what a training does otherwise than the published one, each in a few words."""
    recipe, found = row.recipe, []
    if config.epochs != recipe.epochs:
        falls = _epochs([share * config.epochs for share in config.recipe.milestones])
        found.append(f"{config.epochs} epoch{'s' * (config.epochs > 1)}, so the learning rate falls after {falls}")
    where = "" if config.data == PUBLISHED_ON else f"{config.data}, "
    found.append(f"{where}{len(images.train)} training images, {len(images.validation)} others kept to validate")
    if row.scheme.coefficients.learning == "learned":
        found.append("the scheme's coefficients have no weight decay")
    return found


def show_test(name: str, row: NamedNetwork, run: Run, config: SearchConfig, console: Console) -> None:
    """Print the test errors of a training run, over its seeds and beside the twin's, and what they rest on."""
    rows = summary(run.confirmations)
    mine = rows[rows["label"] == name].iloc[0]
    twins = rows[rows["twin_of"] == name]
    say(console, "")
    say(console, f"Error on the {DATASETS[config.data].test} test images of {config.data}, read once, at the end:")
    for label, network in [(name, mine), *((f"twin of {name}, forward Euler", twin) for _, twin in twins.iterrows())]:
        say(console, f"  {label}: {_error(run, network)} · {network['params']} parameters")
    if len(twins):
        say(console, f"  less its twin: {_difference(mine)}")
    trained = run.trials.iloc[0]
    commit = "" if pd.isna(trained["commit"]) else f", commit {trained['commit'][:12]}"
    say(
        console,
        f"Trained for {config.epochs} of the recipe's {row.recipe.epochs} epochs on {trained['train_size']} images, on "
        f"{trained['device']}; odenas {trained['version_odenas']}, torch {trained['version_torch']}{commit}.",
    )
    if config.data == PUBLISHED_ON:
        for line in published_errors(row):
            say(console, f"Published: {line}")


def published_errors(row: NamedNetwork) -> list[str]:
    """Return the errors on CIFAR-10 that are published of this very network, with what to know of each."""
    table = published()
    table = table[(table["network"] == row.published) & (table["data"] == PUBLISHED_ON)] if row.published else table[:0]
    lines = []
    for known in table.to_dict("records"):
        spread = "" if pd.isna(known["spread"]) else f" ± {known['spread']:.2f}"
        runs = "" if pd.isna(known["n_runs"]) else f", {known['n_runs']} run{'s' * (known['n_runs'] != 1)}"
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


def _epochs(falls: Sequence[float]) -> str:
    return f"epoch{'s' * (len(falls) > 1)} {' and '.join(f'{epoch:.4g}' for epoch in falls)}"


def _error(run: Run, network: Any) -> str:
    """Return the mean ± standard deviation over the seeds, and each seed's error."""
    if pd.isna(network["mean"]):
        return f"no training succeeded, {network['failed']} failed"
    rows = run.confirmations
    own = rows[(rows["label"] == network["label"]) & rows["test_error"].notna()]
    each = ", ".join(f"{error:.2f} (seed {seed})" for seed, error in zip(own["seed"], own["test_error"], strict=True))
    failed = f"; {network['failed']} failed" if network["failed"] else ""
    if network["seeds"] == 1:
        return f"{network['mean']:.2f} %, seed {own['seed'].iloc[0]}{failed}"
    return f"{network['mean']:.2f} ± {network['std']:.2f} % over {network['seeds']} seeds: {each}{failed}"


def _difference(network: Any) -> str:
    if pd.isna(network["difference"]):
        return str(network["verdict"])
    interval = ""
    if not pd.isna(network["difference_low"]):
        interval = f" [{network['difference_low']:+.2f}, {network['difference_high']:+.2f}] at 95 %"
    return f"{network['difference']:+.2f}{interval}, paired by seed: {network['verdict']}"
