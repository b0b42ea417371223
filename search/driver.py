"""A search from configuration to confirmed results: open the run folder, run the trials, retrain the best."""

from __future__ import annotations

import logging
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from rich.console import Console

from odenas.nets.backbones import is_given
from odenas.results import Run, load
from odenas.results.wording import counted
from odenas.search.budget import parameter_budget
from odenas.search.cluster import check_address, cluster
from odenas.search.compilation import check_compiler
from odenas.search.config import MAY_CHANGE, SearchConfig
from odenas.search.confirm import confirm
from odenas.search.data import load as load_data
from odenas.search.data import metric_of
from odenas.search.ledger import Ledger
from odenas.search.progress import Progress
from odenas.search.tune import run_trials, workers
from odenas.space import OdenasError


def search(config: SearchConfig, console: Console | None = None) -> Run:
    """Run a search, or go on with the one that the run folder holds; return the run.

    A trial that was finished is not run again, one that was cut off goes on from its last epoch.

    Raises:
        OdenasError: the folder holds another search or something else, the data cannot be had, no network of this
            depth meets the budget of parameters, or nobody answers at the address.
    """
    console = console or Console(markup=False)
    check_compiler(config)
    budget = parameter_budget(config)

    def report(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    load_data(config.data, train_size=config.train_size, seed=config.seed, report=report)
    check_address(config.address)
    with _recording(config) as run, cluster(config.address) as resources:
        ledger = Ledger(config, run)
        count = workers(config, resources)
        title = f"odenas · {config.data} · {budget} parameters · {counted(config.epochs, 'epoch')} a trial · {run.path}"
        with Progress(ledger.rows, config.trials, title, console, metric_of(config.data)) as progress:
            run_trials(ledger, progress, budget, count)
            if config.confirm.seeds:
                confirm(run, config, budget, progress, count, config.confirm.top, config.confirm.seeds)
    return run


def open_run(config: SearchConfig) -> Run:
    """Make the run folder, or open the one of the same search.

    Raises:
        OdenasError: the folder holds something else, or a search with another configuration.
    """
    folder = config.folder
    if not (folder / "run.json").exists():
        return Run.create(folder, config.resolved(), versions(config.backbone))
    run, wanted = load(folder), config.resolved()
    there = {"backbone": "residual", "compiled": False, **run.config}  # the folders of older versions do not say
    there["recipe"] = {"algorithm": "sgd", **run.config.get("recipe", {})}
    for name in wanted:
        if name not in MAY_CHANGE and there.get(name) != wanted[name]:
            raise OdenasError(
                f"`--run` is {folder}, which holds another search: there `{name}` is {there.get(name)!r}, "
                f"here {wanted[name]!r}; choose another folder"
            )
    return run


def versions(backbone: str = "residual") -> dict[str, str]:
    """Return the versions that a run's numbers depend on, and the commit of a checkout."""
    library = [backbone.partition(":")[0]] if is_given(backbone) else []
    found = {name: version(name) for name in ("odenas", "torch", "ray", "optuna", "numpy", *library)}
    found["python"] = platform.python_version()
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return found
    if done.returncode == 0:
        found["commit"] = done.stdout.strip()
    return found


@contextmanager
def exclusive(config: SearchConfig, at_work: str) -> Iterator[Run]:
    """Make or open the run folder for this process alone; `at_work` says what holds it, where another does.

    Raises:
        OdenasError: another process works in it, or `open_run` refuses it.
    """
    run = open_run(config)
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OdenasError(f"`--run` is {run.path}, where {at_work}; wait for it or stop it") from None
    try:
        yield run
    finally:
        lock.release()


@contextmanager
def _recording(config: SearchConfig) -> Iterator[Run]:
    """Open the run folder for this process alone, and send what the libraries log to it and not to the console."""
    with exclusive(config, "another search is running") as run:
        optuna.logging.disable_default_handler()
        optuna.logging.enable_propagation()
        handler = logging.FileHandler(run.log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield run
        finally:
            root.removeHandler(handler)
            handler.close()
