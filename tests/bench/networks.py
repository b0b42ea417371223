"""Training throughput and latency of networks, against pytorchcv's and against their Euler twins, in one run.

All networks train in turn, in an order that turns from round to round; a round gives one ratio for each, and the tables
their median and quartiles over the rounds. "branches alone" are the convolutions, norms and activations of the twin
without its steps: what its throughput is above the twin's is the integrator's own cost.

    make bench ARGS="--rounds 20 --threads 2"
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import pandas as pd
import torch
from contenders import CONTENDERS, LATENCIES, PEER, Contender, Row
from rich.console import Console
from rich.table import Table

from odenas.nets import parameters

BATCH = 128


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return how long it takes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def spread(values: list[float], digits: int = 3) -> str:
    """Return median and quartiles."""
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def timed(rows: dict[str, Row], rounds: int, measure: Callable[[Contender], float], device: torch.device) -> Any:
    """Return the contenders, and the measurements of each over the rounds."""
    contenders = {name: Contender(row, device, BATCH) for name, row in rows.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-2, rounds):
        names = list(contenders)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            value = measure(contenders[name])
            if number >= 0:  # the first rounds warm up
                found[name].append(value)
    return contenders, found


def show(title: str, rows: dict[str, Row], contenders: Any, found: dict[str, list[float]], faster: bool) -> Table:
    """Return a table: each contender's measurement, and its ratio to what it is compared with."""
    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    unit = "images/s" if faster else "ms"
    for column in ("network", "parameters", unit, "× pytorchcv", "against", "×", "aim"):
        table.add_column(column, justify="left" if column in ("network", "against") else "right", no_wrap=True)
    for name, row in rows.items():
        shown = [BATCH / value if faster else 1000 * value for value in found[name]]

        def ratio(other: str, own: str = name) -> str:
            pairs = zip(found[other], found[own], strict=True)
            return spread([theirs / ours if faster else ours / theirs for theirs, ours in pairs])

        aim = "" if row.aim is None else f"{'≥' if faster else '≤'} {row.aim}"
        cells = (spread(shown, 0 if faster else 2), ratio(PEER), row.against, ratio(row.against), aim)
        table.add_row(name, str(parameters(contenders[name].network)), *cells)
    return table


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument(
        "--networks", nargs="+", choices=[*CONTENDERS, *LATENCIES], help="which to time; all if none"
    )
    arguments.add_argument("--out", type=Path, help="where to write the raw rows as CSV")
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or 'CPU'}"
    console = Console(width=180, markup=False, highlight=False)
    console.print(f"batch {BATCH}, {where}, {given.threads} threads, torch {torch.__version__}, {given.rounds} rounds:")
    console.print("median (quartiles)\n")
    raw = []
    for title, rows, measure, faster in (
        ("training", CONTENDERS, lambda contender: seconds(contender.step, device), True),
        ("latency, one image", LATENCIES, lambda one: min(seconds(one.forward, device) for _ in range(5)), False),
    ):
        rows = {name: row for name, row in rows.items() if not given.networks or name in given.networks}
        if not rows:
            continue
        needed = {PEER, *(row.against for row in rows.values())} - set(rows)
        rows = {name: CONTENDERS[name] for name in needed} | rows
        contenders, found = timed(rows, given.rounds, measure, device)
        console.print(show(title, rows, contenders, found, faster))
        raw += [
            {"what": title, "network": name, "round": i, "seconds": value}
            for name, values in found.items()
            for i, value in enumerate(values)
        ]
    if given.out:
        of_run = {"device": where, "threads": given.threads, "batch": BATCH, "torch": torch.__version__}
        pd.DataFrame(raw).assign(**of_run).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
