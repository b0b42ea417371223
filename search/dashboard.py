"""The study of a run as a file that optuna-dashboard and Optuna itself open."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from odenas.results import Run
from odenas.results.files import replacing
from odenas.search.config import SearchConfig
from odenas.search.constraints import constraint, violations
from odenas.search.data import metric_of
from odenas.search.figures import heading
from odenas.search.metric import Metric
from odenas.search.objectives import values_of
from odenas.search.own_samplers import distributions
from odenas.search.study import STATES
from odenas.space import OdenasError

SUFFIX = ".journal"

ATTRIBUTES = (
    "number", "label", "stop_reason", "failure", "attempts", "feasible", "validation_error", "epochs", "budget", "seed",
    "params", "macs", "evaluations", "latency", "seconds", "order", "steps", "stages", "hostname", "device", "scheme",
)  # fmt: skip
"""Columns of the trials that are the user attributes of Optuna's trials."""


def write_study(run: Run, path: str | PathLike[str]) -> int:
    """Write the study of a search as an Optuna `JournalStorage` file; return how many trials it holds.

    It is made of the run folder alone and named like it. All objectives are minimised, in the units of the table of
    trials. A trial that ended without an objective is FAIL there. With one objective the trials have their epochs as
    intermediate values. A file that is there is replaced as a whole, or stays as it is if this fails.

    Raises:
        OdenasError: the path ends otherwise or cannot be written, or the run is no search.
    """
    target, config = Path(path), SearchConfig(**run.config)
    if target.suffix != SUFFIX:
        raise OdenasError(f"`--out` is {str(path)!r}, but a study must end in {SUFFIX}")
    if not target.parent.is_dir():
        raise OdenasError(f"`--out` is {str(path)!r}, but its folder does not exist; make {target.parent} first")
    if config.network is not None:
        raise OdenasError(f"`RUN` is {run.path}, a training of {config.network}: there is a study of a search alone")
    trials = list(_trials(run, config))
    try:
        with replacing(target) as temporary, _quiet():
            study = optuna.create_study(
                study_name=run.path.absolute().name,
                storage=JournalStorage(JournalFileBackend(str(temporary))),
                directions=["minimize"] * len(config.objectives),
            )
            study.set_metric_names([_name(name, metric_of(config.data)) for name in config.objectives])
            study.set_user_attr("run", str(run.path.absolute()))
            study.set_user_attr("constraints", list(config.constraints))
            study.add_trials(trials)
    except OSError as error:
        raise OdenasError(f"`--out` is {str(path)!r}, but cannot be written: {error.strerror or error}") from None
    return len(trials)


def _trials(run: Run, config: SearchConfig) -> Iterator[FrozenTrial]:
    """Yield the trials of a run as Optuna keeps them."""
    kinds, limits = distributions(config.space), [constraint(text) for text in config.constraints]
    single = len(config.objectives) == 1
    curves: dict[int, dict[int, float]] = {}
    if config.objectives == ("validation_error",):  # Optuna takes intermediate values of one objective alone
        known = run.epochs[["number", "epoch", "validation_error"]].dropna()
        for number, epoch, error in known.itertuples(index=False):
            curves.setdefault(int(number), {})[int(epoch)] = float(error)
    for found in run.trials.to_dict("records"):
        row: dict[str, Any] = {str(name): None if pd.isna(value) else value for name, value in found.items()}
        draw = json.loads(row["draw"] or "{}")
        asked = FixedTrial(draw)
        if draw:
            config.space.suggest(asked)
        state, values = _end(row, config)
        broken = violations(row, limits)
        trial = create_trial(
            state=state,
            values=values if state == TrialState.COMPLETE or (single and state == TrialState.PRUNED) else None,
            params=draw,
            distributions={name: {**kinds, **asked.distributions}[name] for name in draw},
            user_attrs={name: _plain(row[name]) for name in ATTRIBUTES if row[name] is not None} | broken,
            # The form that both optuna-dashboard and every supported version of Optuna read.
            system_attrs={"constraints": list(broken.values())} if limits and len(broken) == len(limits) else {},
            intermediate_values=curves.get(int(row["number"])),
        )
        trial.datetime_start = _local(row["started"])
        trial.datetime_complete = _local(row["finished"] or row["started"]) if state.is_finished() else None
        yield trial


def _end(row: Mapping[str, Any], config: SearchConfig) -> tuple[TrialState, list[float] | None]:
    """Return the state of a trial and its objectives, as far as all are known."""
    known = all(row[name] is not None for name in config.objectives)
    state = STATES.get(row["status"], TrialState.RUNNING)
    if state == TrialState.COMPLETE and not known:
        state = TrialState.FAIL
    return state, list(values_of(row, config.objectives)) if known else None


def _name(objective: str, metric: Metric) -> str:
    """Return what an objective is called: of a metric that is to grow, its negative is minimised."""
    negative = objective == "validation_error" and metric.sign < 0
    return ("−" if negative else "") + heading(objective, metric)


def _plain(value: Any) -> Any:
    """Return a cell as JSON keeps it."""
    return value.item() if hasattr(value, "item") else value


def _local(date: pd.Timestamp | None) -> Any:
    """Return a date as Optuna keeps it: in local time, without a zone."""
    return None if date is None else date.to_pydatetime().astimezone().replace(tzinfo=None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna say nothing of the study that it makes."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
