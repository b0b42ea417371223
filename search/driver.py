"""A search from configuration to confirmed results: open the run folder, run the trials, retrain the best."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler
from rich.console import Console

from odenas.nets.backbones import is_given
from odenas.results import Run, load
from odenas.results.wording import counted
from odenas.search.budget import parameter_budget
from odenas.search.checkpoint import Checkpoints
from odenas.search.cluster import check_address, cluster
from odenas.search.compilation import check_compiler
from odenas.search.config import MAY_CHANGE, SearchConfig
from odenas.search.confirm import confirm, unconfirmed
from odenas.search.data import load as load_data
from odenas.search.data import metric_of
from odenas.search.ledger import Ledger
from odenas.search.log_file import logging_to
from odenas.search.mirror import mirrored, recovered
from odenas.search.nodes import prepare_nodes
from odenas.search.progress import Progress
from odenas.search.samplers import check_sampler
from odenas.search.storage import check_storage, checkpoints_of
from odenas.search.storage import place as place_in
from odenas.search.transfer import ConsoleReport
from odenas.search.tune import lag_of, run_trials, whole_device, workers
from odenas.space import OdenasError


def search(config: SearchConfig, console: Console | None = None, sampler: BaseSampler | None = None) -> Run:
    """Run a search, or go on with the one that the run folder holds; return the run.

    A trial that was finished is not run again, one that was cut off goes on from its last epoch.

    Args:
        config: what to search for.
        console: where to show it.
        sampler: an Optuna sampler in place of the one that the configuration names. What it draws is its own affair:
            whether a seed means the same search again, too.

    Raises:
        OdenasError: the folder holds another search or something else, the data cannot be had, no network of this
            depth meets the budget of parameters, the sampler cannot do what is asked, nobody answers at the address,
            or folder or storage cannot be written.
    """
    console = console or Console(markup=False)
    check_compiler(config)
    if sampler is None:
        check_sampler(config)
    budget = parameter_budget(config)
    load_data(config.data, train_size=config.train_size, seed=config.seed, report=ConsoleReport(console))
    check_address(config.address)
    with opened(config) as (run, checkpoints):
        if not nothing_left(run, config):
            _go_on(run, config, budget, checkpoints, console, sampler)
    return run


def nothing_left(run: Run, config: SearchConfig) -> bool:
    """Return whether all trials of a search have ended and the best are retrained."""
    ended = run.trials["status"].isin(["COMPLETE", "PRUNED", "FAIL"]).sum()
    return bool(ended >= config.trials) and not (config.confirm.seeds and unconfirmed(run, config))


def _go_on(
    run: Run,
    config: SearchConfig,
    budget: int,
    checkpoints: Checkpoints,
    console: Console,
    sampler: BaseSampler | None,
) -> None:
    """Run the trials that are left, and retrain the best."""
    with cluster(config.address) as resources:
        count = workers(config, resources)
        prepare_nodes(config, ConsoleReport(console))
        ledger = Ledger(config, run, lag_of(config, count), checkpoints, sampler)
        title = f"odenas · {config.data} · {budget} parameters · {counted(config.epochs, 'epoch')} a trial · {run.path}"
        metric = metric_of(config.data)
        with Progress(ledger.rows, config.trials, title, console, metric, config.objectives) as progress:
            run_trials(ledger, progress, budget, count, whole_device(config))
            if config.confirm.seeds:
                confirm(run, config, budget, progress, count, checkpoints)


def open_run(config: SearchConfig) -> Run:
    """Make the run folder, or open the one of the same search.

    Raises:
        OdenasError: the folder holds something else, or a search with another configuration.
    """
    folder = config.folder
    if not (folder / "run.json").exists():
        return Run.create(folder, config.resolved(), versions(config.backbone))
    run, usual = load(folder), SearchConfig().resolved()
    # What the folders of older versions do not say is as it is where nothing is said.
    there = {**usual, **run.config}
    there |= {name: {**usual[name], **run.config.get(name, {})} for name in ("space", "recipe")}
    for name, wanted in config.resolved().items():
        given = there.get(name)
        if name in MAY_CHANGE or given == wanted:
            continue
        if isinstance(given, dict) and isinstance(wanted, dict):
            key = next(key for key in {**wanted, **given} if given.get(key) != wanted.get(key))
            name, given, wanted = f"{name}.{key}", given.get(key), wanted.get(key)
        raise OdenasError(
            f"`--run` is {folder}, which holds another search: there `{name}` is {given!r}, here {wanted!r}; choose "
            "another folder"
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
def exclusive(config: SearchConfig, at_work: str, argument: str = "--run") -> Iterator[Run]:
    """Make or open the run folder for this process alone; `at_work` says what holds it, where another does.

    Args:
        config: names the folder.
        at_work: what holds it, where something does.
        argument: by which the user gave it.

    Raises:
        OdenasError: another process works in it, or `open_run` refuses it.
    """
    run = open_run(config)
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OdenasError(f"`{argument}` is {run.path}, where {at_work}; wait for it or stop it") from None
    except OSError as error:
        raise OdenasError(f"`{argument}` is {run.path}, which cannot be written: {error.strerror}") from None
    try:
        yield run
    finally:
        lock.release()


@contextmanager
def recording(config: SearchConfig, argument: str = "--run") -> Iterator[Run]:
    """Open the run folder for this process alone, and send what the libraries log to it and not to the console."""
    with exclusive(config, "another process is at work", argument) as run:
        optuna.logging.disable_default_handler()
        optuna.logging.enable_propagation()
        with logging_to(run.log):
            yield run


@contextmanager
def opened(config: SearchConfig, argument: str = "--run") -> Iterator[tuple[Run, Checkpoints]]:
    """Open the run folder as `recording` does, and its storage, if it has one; yield the run and its checkpoints.

    Where the storage knows more of the run than the folder, that is brought back; the storage then follows the folder.
    """
    place = place_in(check_storage(config.storage), config.folder) if config.storage else None
    if place:
        recovered(config.folder, place)
    with recording(config, argument) as run, mirrored(run, place) if place else nullcontext():
        yield run, Checkpoints(checkpoints_of(place or str(run.path.absolute())))
