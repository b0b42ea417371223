"""How good the search is: TPE with the enqueued classics against random draws, on a part of Fashion-MNIST.

For each seed a search of 40 random schemes and one of 20 trials by TPE that begins with the classics, all trained to
the whole budget. What counts is the best validation error after so many trials; all curves are printed, and written as
CSV with `--out`. About twenty minutes on two cores.

    python tests/bench/search_quality.py --seeds 3 --out curves.csv
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from odenas.search import SearchConfig, search

RANDOM, TPE = 40, 20
SIZE: dict[str, Any] = {
    "data": "fashion-mnist",
    "depth": 14,
    "width": 4,
    "train_size": 1500,
    "epochs": 4,
    "scheduler": "none",
    # At 0.05 the seeds of a scheme differ by about one point, at the usual 0.1 by ten.
    "recipe": {"batch_size": 32, "learning_rate": 0.05},
    "confirm": {"seeds": 0},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random", "trials": RANDOM, "enqueue": ()},
    "tpe": {"sampler": "tpe", "trials": TPE},
}


def curve(name: str, seed: int, folder: Path) -> pd.DataFrame:
    """Return the trials of a search in their order, with the best validation error so far."""
    config = SearchConfig(**SIZE, **SEARCHES[name], seed=seed, run=str(folder / f"{name}-{seed}"))
    trials = search(config, Console(file=io.StringIO())).trials
    table = trials[["number", "label", "status", "validation_error", "seconds"]].copy()
    table["best"] = table["validation_error"].where(table["status"] == "COMPLETE").cummin().ffill()
    return table.assign(search=name, seed=seed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--out", type=Path, help="CSV of all curves")
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        curves = pd.concat([curve(name, seed, Path(folder)) for seed in range(given.seeds) for name in SEARCHES])
    if given.out:
        curves.to_csv(given.out, index=False)
    shown = Table(box=None, pad_edge=False, title_justify="left",
                  title="Best validation error (%) so far, after so many trials")  # fmt: skip
    marks = [1, 5, 10, 15, 20, 25, 30, 35, 40]
    for column in ("seed", "search", *map(str, marks), "reaches random's best of 40 at"):
        shown.add_column(column, justify="left" if column == "search" else "right")
    reached = 0
    for seed in range(given.seeds):
        both = {name: curves[(curves["seed"] == seed) & (curves["search"] == name)] for name in SEARCHES}
        goal = both["random"]["best"].iloc[-1]
        for name, table in both.items():
            best = table["best"].tolist()
            there = table["number"][table["best"] <= goal]
            reached += bool(name == "tpe" and len(there))
            cells = [f"{best[mark - 1]:.2f}" if mark <= len(best) else "" for mark in marks]
            shown.add_row(str(seed), name, *cells, str(there.iloc[0] + 1) if len(there) else "never")
    console.print(shown)
    console.print(f"TPE reaches the best of {RANDOM} random trials within {TPE} for {reached} of {given.seeds} seeds.")


if __name__ == "__main__":
    main()
