"""From a run folder to an exported network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from odenas.nets import SchemeNetwork, export
from odenas.nets.backbones import is_given, source_of
from odenas.results import Run, load
from odenas.results.summary import confirmed_winner
from odenas.search.budget import parameter_budget
from odenas.search.config import SearchConfig
from odenas.search.data import dataset, metric_of
from odenas.search.train import network_state
from odenas.search.trial import make_network, read_checkpoint
from odenas.space import OdenasError, Scheme, describe


def export_trial(path: str | Path, number: int | None, out: str | Path) -> tuple[int, dict[str, float]]:
    """Export the network of a trial as training left it; return its number and the differences that `export` found.

    Without a number it is the winner: of the retrained schemes the one with the best mean on the validation
    images, or before any retraining the trial with the best.

    Raises:
        OdenasError: no run, no such trial, none with weights, `out` holds something, or the run's backbone is a given
            one.
    """
    run = load(path)
    _check_code(run)
    number = winner(run) if number is None else number
    trials = run.trials.set_index("number")
    if number not in trials.index:
        there = f"the trials 0 to {trials.index.max()}" if len(trials) else "no trials"
        raise OdenasError(f"`--trial` is {number}, but {run.path} has {there}")
    row: dict[str, Any] = {str(name): value for name, value in trials.loc[number].items()}
    saved = read_checkpoint(run.checkpoint(number))
    if row["status"] != "COMPLETE" or saved is None:
        kept = [str(other) for other in trials.index[trials["status"] == "COMPLETE"] if run.checkpoint(other).exists()]
        raise OdenasError(
            f"`--trial` is {number}, which has no weights to export ({row['status']}); "
            f"kept are those of {', '.join(kept) or 'none'}"
        )
    config = SearchConfig(**run.config)
    data_set = dataset(config.data)
    scheme = Scheme.from_dict(json.loads(row["scheme"]))
    network = make_network(config, {"seed": 0, "params": parameter_budget(config)}, scheme)
    assert isinstance(network, SchemeNetwork)
    network.load_state_dict(network_state(saved[0]))
    metric = metric_of(config.data)
    provenance = {
        "run": run.path.name,
        "trial": number,
        "scheme": describe(scheme),
        "data": config.data,
        "training images": int(row["train_size"]),
        "epochs": int(row["epochs"]),
        "seed": int(row["seed"]),
        f"validation {metric.name} ({metric.unit})": round(metric.shown(float(row["validation_error"])), 4),
        **{name: value for name, value in run.versions.items() if name in ("odenas", "torch", "commit")},
    }
    differences = export(network, out, size=data_set.size, mean=data_set.mean, std=data_set.std, provenance=provenance)
    return number, differences


def _check_code(run: Run) -> None:
    """Check that the run's networks are of odenas's own code, which an export can write down."""
    backbone = run.config.get("backbone", "residual")
    if is_given(backbone):
        raise OdenasError(
            f"`RUN` is {run.path}, whose networks are {backbone}: an export would need {source_of(backbone)}, and only "
            f"networks that odenas builds can be exported yet; the weights are in {run.path / 'checkpoints'}"
        )


def winner(run: Run) -> int:
    """Return the number of the trial that won.

    Raises:
        OdenasError: no trial of the run is finished.
    """
    number = confirmed_winner(run.confirmations)
    if number is not None:
        return number
    finished = run.trials[run.trials["status"] == "COMPLETE"]
    if not len(finished):
        raise OdenasError(f"{run.path} has no finished trial; let `odenas search` go on first")
    return int(finished.sort_values(["validation_error", "params", "number"])["number"].iloc[0])
