"""The re-evaluation of a search by itself: its best schemes, their Euler twins and LM-ResNet, for as long as asked."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console

from odenas.results import Run, leaderboard, load
from odenas.results.wording import counted
from odenas.search.budget import parameter_budget
from odenas.search.cluster import check_address, cluster
from odenas.search.compilation import check_compiler
from odenas.search.config import SearchConfig
from odenas.search.confirm import configuration_of, confirm, unconfirmed
from odenas.search.data import load as load_data
from odenas.search.data import metric_of
from odenas.search.driver import opened
from odenas.search.nodes import prepare_nodes
from odenas.search.progress import Progress
from odenas.search.transfer import ConsoleReport
from odenas.search.tune import workers
from odenas.space import OdenasError


def reevaluate(
    path: str,
    top: int | None = None,
    seeds: int | None = None,
    console: Console | None = None,
    **changes: Any,
) -> Run:
    """Retrain the best schemes of a run, their Euler twins and LM-ResNet at the run's number of parameters.

    The same call goes on where it was cut off, each training after its last epoch; with more seeds or schemes only
    what is missing is trained. Other epochs or another number of images are other rows of the run's confirmations.

    Args:
        path: the folder of a search, whether or not it is finished.
        top: how many of the best schemes; as the search's configuration says, if not given.
        seeds: trainings of each network, all with the same seeds; as the configuration says, if not given.
        console: where to show it.
        changes: keys of the configuration, None for those that stay: epochs, train_size, workers, gpus, address.

    Raises:
        OdenasError: the folder holds no search or no finished trial, another process works in it, a value is out of
            range, the data cannot be had, or nobody answers at the address.
    """
    console = console or Console(markup=False)
    run = load(path)
    config = _configuration(run, top, seeds, changes)
    check_compiler(config)
    budget = parameter_budget(config)

    report = ConsoleReport(console)
    load_data(config.data, train_size=config.train_size, seed=config.seed, report=report)
    check_address(config.address)
    with opened(configuration_of(run), "RUN") as (run, checkpoints):
        _check_trials(run)
        if left := _unfinished(run, config):
            report(f"{left} Those that are best so far are retrained.")
        if unconfirmed(run, config):
            with cluster(config.address) as resources:
                prepare_nodes(config, report)
                count, title = workers(config, resources), _title(run, config, budget)
                metric = metric_of(config.data)
                with Progress(_rows(run), config.trials, title, console, metric, config.objectives) as progress:
                    confirm(run, config, budget, progress, count, checkpoints)
    return run


def _configuration(run: Run, top: int | None, seeds: int | None, changes: dict[str, Any]) -> SearchConfig:
    """Return what the retrainings are told.

    Raises:
        OdenasError: the run is none of a search, or a value is out of range.
    """
    if run.config.get("network"):
        raise OdenasError(
            f"`RUN` is {run.path}, a folder of `odenas train`, which has read its test errors; `odenas train "
            f"{run.config['network']} --twin --seeds N` trains over more seeds"
        )
    config = configuration_of(run, **changes)
    # A search may leave its confirmation out, with no seeds.
    usual = config.confirm.seeds or SearchConfig(data=config.data).confirm.seeds
    return configuration_of(run, **changes, confirm={"top": top or config.confirm.top, "seeds": seeds or usual})


def _check_trials(run: Run) -> None:
    """Check that there is a scheme to retrain.

    Raises:
        OdenasError: no trial is finished, or none of those keeps the constraints.
    """
    board = leaderboard(run)
    if board["rank"].notna().any():
        return
    finished = int(board["status"].eq("COMPLETE").sum())
    kept = f"; of {counted(finished, 'finished trial')} none keeps the constraints" if finished else ""
    raise OdenasError(f"`RUN` is {run.path}, which has no trial to retrain{kept or ': none is finished'}; let "
                      "`odenas search` go on first")  # fmt: skip


def _unfinished(run: Run, config: SearchConfig) -> str | None:
    """Return what to say of a search that is not at its end."""
    ended = int(run.trials["status"].isin(["COMPLETE", "PRUNED", "FAIL"]).sum())
    if ended >= config.trials:
        return None
    return f"The search is not finished: {ended} of {counted(config.trials, 'trial')} have ended."


def _rows(run: Run) -> dict[int, dict[str, Any]]:
    plain = run.trials.astype(object)
    return {int(row["number"]): {str(name): value for name, value in row.items()}
            for row in plain.where(pd.notna(plain), None).to_dict("records")}  # fmt: skip


def _title(run: Run, config: SearchConfig, budget: int) -> str:
    each = f"{counted(config.epochs, 'epoch')} a training · {counted(config.confirm.seeds, 'seed')}"
    return f"odenas · {config.data} · {budget} parameters · {each} · {run.path}"
