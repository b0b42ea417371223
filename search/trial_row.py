"""The columns of a training that begins: what is trained, with which seed, where and by what."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import numpy as np

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.trial import layers
from odenas.space import Scheme


def first_row(
    run: Run, config: SearchConfig, number: int | None, label: str, value: Scheme, seed: int
) -> dict[str, Any]:
    """Return the columns of a training that begins."""
    return {
        "number": number,
        "label": label,
        "status": "RUNNING",
        "epochs": 0,
        "budget": config.epochs,
        "data": config.data,
        "seed": seed,
        "depth": layers(config.depth, value),
        **scheme_fields(value),
        "started": now(),
        **provenance(run),
    }


def scheme_fields(value: Scheme) -> dict[str, Any]:
    """Return the columns that describe a scheme."""
    return {
        "steps": value.tableau.steps,
        "stages": value.tableau.stages,
        "order": value.order,
        "zero_stable": value.zero_stable,
        "error_constant": value.error_constant,
        "real_interval": value.real_interval,
        "imaginary_interval": value.imaginary_interval,
        "learning": value.coefficients.learning,
        "sharing": value.coefficients.sharing,
        "constraint": value.coefficients.constraint,
        "scale": value.scale,
        "start": value.start,
        "transition": value.transition,
        "tying": value.tying,
        "block": value.blocks.kind,
        "activation": value.blocks.activation,
        "noise": value.stochasticity.variant,
        "noise_rate": value.stochasticity.rate,
        "scheme": json.dumps(value.to_dict()),
    }


def provenance(run: Run) -> dict[str, Any]:
    """Return the columns that say where and with what a row of this run came about."""
    versions = {f"version_{name}": run.versions.get(name) for name in ("odenas", "torch")}
    return {"hostname": socket.gethostname(), **versions, "commit": run.versions.get("commit")}


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial, different for each number and reproducible from the search's seed."""
    return int(np.random.SeedSequence([seed, 1, number]).generate_state(1)[0])


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)
