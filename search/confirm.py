"""Retraining over seeds: what the best schemes, their Euler twins and LM-ResNet are worth, on the test images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from odenas.results import Run, leaderboard
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.progress import Progress
from odenas.search.retraining import Job, checkpoint_name, is_of_the_machine, retrain_all
from odenas.search.trial_row import provenance
from odenas.space import Scheme, describe, scheme


@dataclass(frozen=True)
class Contender:
    """A network to retrain: what it is called, its part, the trial it comes from, whose twin it is."""

    label: str
    role: str
    scheme: Scheme
    number: int | None = None
    twin_of: str | None = None


def contenders(run: Run, top: int) -> list[Contender]:
    """Return the first of the leaderboard that are not forward Euler, and LM-ResNet, each with its twin."""
    chosen: list[Contender] = []
    board = leaderboard(run)
    for row in board[board["rank"].notna()].to_dict("records"):
        value = Scheme.from_dict(json.loads(row["scheme"]))
        if value != value.twin() and all(value != other.scheme for other in chosen) and len(chosen) < top:
            number = int(row["number"])
            chosen.append(Contender(f"trial {number}: {describe(value)}", "candidate", value, number))
    if all(scheme("lm") != other.scheme for other in chosen):
        chosen.append(Contender("lm", "baseline", scheme("lm")))
    twins = [
        Contender(f"twin of {one.label}", "twin", one.scheme.twin(), one.number, twin_of=one.label) for one in chosen
    ]
    return chosen + twins


def confirmation_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds of the retrainings: none is a seed of a trial's, and more of them begin with the fewer."""
    return [int(np.random.SeedSequence([seed, 2, index]).generate_state(1)[0]) for index in range(count)]


def unconfirmed(run: Run, config: SearchConfig) -> list[Job]:
    """Return the schemes and seeds that the confirmation lacks, seed by seed: what is cut off is paired so far.

    A training that failed is there like others, unless for a reason that lies not in it, such as a lost worker.
    """
    entered, past = contenders(run, config.confirm.top), _ended(run, config)
    have = set(zip(past["label"], past["seed"], strict=True))
    return [
        (value, seed)
        for seed in confirmation_seeds(config.seed, config.confirm.seeds)
        for value in dict.fromkeys(one.scheme for one in entered)
        if any(one.scheme == value and (one.label, seed) not in have for one in entered)
    ]


def confirm(
    run: Run,
    config: SearchConfig,
    params: int,
    progress: Progress,
    workers: int,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Retrain the contenders over seeds, `workers` at a time, and record each with its test error.

    All contenders have the same seeds, so that differences are paired; contenders with one scheme share a training.
    What the run folder already holds for as many epochs and images is not trained again, and what was cut off goes on
    from its last epoch.

    Args:
        run: to retrain the best of.
        config: of the run, with the epochs, images, seeds and number of schemes that are asked for.
        params: budget of parameters.
        progress: told of each retraining that ends.
        workers: trainings at a time.
        checkpoints: where the trainings' states lie; the run folder's, if not given.
    """
    checkpoints = checkpoints or Checkpoints(str((run.path / "checkpoints").absolute()))
    # Objectives and time limits are of the trials.
    config = config.model_copy(
        update={"timeout": None, "objectives": ("validation_error",), "constraints": (), "loggers": ()}
    )
    entered, lacking = contenders(run, config.confirm.top), unconfirmed(run, config)
    known = _known(run, config)
    total = len({one.scheme for one in entered}) * config.confirm.seeds

    def record(job: Job, columns: dict[str, Any]) -> None:
        for one in entered:
            if one.scheme == job[0]:
                run.record_confirmation(columns | _row(run, config, one, job[1]))
        checkpoints.delete(checkpoint_name(config, job))

    # A scheme may be known by another name: LM-ResNet was the baseline, and is among the best now.
    for job in lacking:
        if job in known:
            record(job, known[job])
    left = [job for job in lacking if job not in known]
    progress.confirming(total - len(left), total)
    for done, (job, columns) in enumerate(retrain_all(left, config, params, checkpoints.place, workers), start=1):
        record(job, columns)
        progress.confirming(total - len(left) + done, total)


def configuration_of(run: Run, **changes: Any) -> SearchConfig:
    """Return the configuration of a run, with those of `changes` that are not None.

    What the folder of an older version does not say is as it is where nothing is said.

    Raises:
        OdenasError: a value is out of range, or the folder is of a newer version.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    return SearchConfig(**run.config | {"run": str(run.path)} | given)


def _ended(run: Run, config: SearchConfig) -> pd.DataFrame:
    """Return the retrainings of this fidelity that are not to be tried again."""
    past = run.confirmations
    size = past["train_size"].isna() if config.train_size is None else past["train_size"].eq(config.train_size)
    past = past[past["data"].eq(config.data) & past["budget"].eq(config.epochs) & size.fillna(False)]
    again = [is_of_the_machine(None if pd.isna(reason) else reason) for reason in past["stop_reason"]]
    return past[past["status"].eq("COMPLETE") | (past["status"].eq("FAIL") & ~np.array(again, dtype=bool))]


def _known(run: Run, config: SearchConfig) -> dict[Job, dict[str, Any]]:
    """Return what the trainings of this fidelity gave, whatever their networks were called."""
    past = _ended(run, config).astype(object)
    rows = past.where(past.notna(), None).to_dict("records")
    return {
        (Scheme.from_dict(json.loads(row["scheme"])), int(row["seed"])): {str(name): row[name] for name in row}
        for row in rows
    }


def _row(run: Run, config: SearchConfig, one: Contender, seed: int) -> dict[str, Any]:
    return {
        "label": one.label,
        "role": one.role,
        "number": one.number,
        "twin_of": one.twin_of,
        "scheme": json.dumps(one.scheme.to_dict()),
        "data": config.data,
        "train_size": config.train_size,
        "seed": seed,
        "budget": config.epochs,
        **provenance(run),
    }
