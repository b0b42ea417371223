"""What the scheduling of a search costs: start-up, time for each trial, the driver's memory, and disk.

Trials that do nothing say what the search itself takes; trials that train say what share of the workers' time is left
to training. Each measurement is a process of its own. The peers in the same run: what a plain Ray Tune search over as
many trials takes, with Optuna's own searcher.

    python tests/bench/scheduling.py --trials 1000 --repeats 3
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

WORKERS = 2


def megabytes(path: Path) -> float:
    """Return what the files below a folder take."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def resident() -> float:
    """Return the megabytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def nothing(task: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Report what a training of three epochs would, at once."""
    fields = {"params": 1000 + task["seed"] % 1000}
    report({"epoch": 0, "rows": [], "fields": fields, "coefficients": []})
    for epoch in range(1, 4):
        row = {"epoch": epoch, "train_loss": 1.0, "train_error": 50.0, "validation_loss": 1.0,
               "validation_error": (task["seed"] % 977) / 10 / epoch, "learning_rate": 0.1, "seconds": 0.0}  # fmt: skip
        report({"epoch": epoch, "rows": [row], "fields": fields, "coefficients": []})


def searched(trials: int, sampler: str, folder: Path, begun: float) -> dict[str, float]:
    """Run a search whose trials do nothing, in this process; return what it took."""
    from odenas.results import Run
    from odenas.search.cluster import cluster
    from odenas.search.config import SearchConfig
    from odenas.search.ledger import Ledger
    from odenas.search.progress import Progress
    from odenas.search.tune import run_trials, whole_device

    ends: list[tuple[float, float]] = []

    class Watched(Ledger):
        """A ledger that notes when trials end, and the memory that the process then has."""

        def report(self, number: int, epochs: Any, **fields: Any) -> None:
            if not ends:
                ends.append((time.time(), resident()))
            super().report(number, epochs, **fields)

        def finish(self, *given: Any, **named: Any) -> str:
            status = super().finish(*given, **named)
            ends.append((time.time(), resident()))
            return status

    config = SearchConfig(trials=trials, epochs=3, sampler=sampler, grace=1, workers=WORKERS)
    run = Run.create(folder / "run", config.resolved(), {})
    with cluster(None):
        ledger = Watched(config, run)
        with Progress(ledger.rows, trials, "", Console(file=io.StringIO())) as progress:
            run_trials(ledger, progress, 1000, WORKERS, whole_device(config), nothing)
    quarter = len(ends) // 4  # what is loaded once is loaded by then
    return {
        "start": ends[0][0] - begun,
        "trial": (ends[-1][0] - ends[0][0]) / trials,
        "memory": (ends[-1][1] - ends[quarter][1]) / (len(ends) - 1 - quarter),
        "disk": 1000 * megabytes(folder / "run") / trials,
    }


@cache
def default_space() -> Any:
    """Return the space of a search that is told none."""
    from odenas.search.config import SearchConfig

    return SearchConfig().space


def draw(trial: Any) -> None:
    """Draw a scheme: Tune pickles this function."""
    default_space().suggest(trial)


def plain(trials: int, folder: Path, begun: float) -> dict[str, float]:
    """Run a plain Ray Tune search with Optuna's searcher over the same space; return what it took."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    times = []

    def train(config: dict[str, Any]) -> None:
        for epoch in range(1, 4):
            tune.report({"epoch": epoch, "objective": float(len(config)) / epoch, "at": time.time()})

    class Times(tune.Callback):
        """When results came."""

        def on_trial_result(self, *_: Any, **__: Any) -> None:
            times.append(time.time())

    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=50)
    tune.Tuner(
        train,
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(draw, metric="objective", mode="min", seed=0),
            num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True, metric="objective", mode="min",
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[Times()]),
    ).fit()  # fmt: skip
    ray.shutdown()
    return {
        "start": times[0] - begun,
        "trial": (times[-1] - times[0]) / trials,
        "disk": 1000 * megabytes(folder) / trials,
    }


def busy(trials: int, folder: Path, _: float) -> dict[str, float]:
    """Run a search whose trials train for ten seconds and more; return the share of the workers' time that trains."""
    from odenas.results import load
    from odenas.search import SearchConfig, search

    space = {"family": ("multistep",), "steps": (1, 2), "order": (1, 2), "transition": ("restart",)}
    config = SearchConfig(
        data="digits", run=str(folder / "run"), trials=trials, epochs=12, train_size=1000, depth=56, width=8,
        scheduler="none", workers=WORKERS, confirm={"seeds": 0}, space=space,
    )  # fmt: skip
    search(config, Console(file=io.StringIO()))
    run = load(config.folder)
    table, epochs = run.trials, run.epochs
    ends = epochs["finished"].astype("int64") / 1e6
    begins = ends - epochs["seconds"]
    # From the first epoch, as long as there is a trial for each worker: until the last one is handed out.
    begun, ended = begins.min(), table["started"].max().timestamp()
    trained = (ends.clip(upper=ended) - begins.clip(upper=ended)).sum()
    return {
        "share": trained / (WORKERS * (ended - begun)),
        "length": float(table["seconds"].median()),
        "trials": float(len(table)),
    }


KINDS: dict[str, Callable[[int, Path, float], dict[str, float]]] = {
    "tpe": lambda trials, folder, begun: searched(trials, "tpe", folder, begun),
    "random": lambda trials, folder, begun: searched(trials, "random", folder, begun),
    "plain": plain,
    "busy": busy,
}


def measured(kind: str, trials: int) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--of", kind, "--trials", str(trials), "--begun", str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--trials", type=int, default=200, help="that do nothing")
    arguments.add_argument("--training", type=int, default=16, help="trials that train")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--of", choices=KINDS, help=argparse.SUPPRESS)
    arguments.add_argument("--begun", type=float, default=time.time(), help=argparse.SUPPRESS)
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    if given.of:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(KINDS[given.of](given.trials, Path(folder), given.begun)))
        return
    table = Table(
        box=None, pad_edge=False, title_justify="left",
        title=f"{given.trials} trials that do nothing, {WORKERS} workers; median (range) of {given.repeats} runs",
    )  # fmt: skip
    for column in (
        "",
        "start-up s (≤ 12)",
        "s a trial (≤ 0.15)",
        "driver MB a trial (< 0.1)",
        "disk kB a trial (≤ 20)",
    ):
        table.add_column(column, justify="right" if column else "left")
    for kind, title in (("tpe", "odenas, TPE"), ("random", "odenas, random"), ("plain", "plain Tune, Optuna's TPE")):
        runs = [measured(kind, given.trials) for _ in range(given.repeats)]
        cells = []
        for name, digits in (("start", 1), ("trial", 3), ("memory", 3), ("disk", 1)):
            values = [run[name] for run in runs if name in run]
            cells.append(
                f"{median(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})" if values else ""
            )
        table.add_row(title, *cells)
    console = Console(width=140)
    console.print(table)
    runs = [measured("busy", given.training) for _ in range(given.repeats)]
    shares, length = sorted(run["share"] for run in runs), median(run["length"] for run in runs)
    console.print(
        f"\nOf workers × wall time, from the first epoch until the last trial is handed out, "
        f"{100 * median(shares):.1f} % ({100 * shares[0]:.1f}, {100 * shares[-1]:.1f}) is spent in epochs (aim ≥ 92): "
        f"{given.training} trials of {length:.0f} s, {given.repeats} runs."
    )


if __name__ == "__main__":
    main()
