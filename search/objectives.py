"""What a search minimises: columns of the table of trials."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from odenas.space import OdenasError
from odenas.space.errors import unknown


@dataclass(frozen=True)
class Objective:
    """A row of OBJECTIVES.

    Args:
        title: heading of its column, for people.
        units: what may follow a number of it, and how many of the table's units that is.
        falls: whether it may become less while a trial trains; the others are settled before, or only grow.
    """

    title: str
    units: Mapping[str, float]
    falls: bool = False


COUNT = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}

OBJECTIVES: dict[str, Objective] = {
    "validation_error": Objective("error", {"": 1.0, "%": 1.0}, falls=True),
    "params": Objective("params", COUNT),
    "macs": Objective("MACs", COUNT),
    "evaluations": Objective("f evaluations", COUNT),
    "latency": Objective("latency ms", {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}),
    "seconds": Objective("seconds", {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}),
}
"""What can be minimised or constrained, by its column of the trials; `seconds` is the wall time of the training."""

ERROR = "validation_error"


def check_objectives(objectives: Iterable[str], constrained: Iterable[str] = ()) -> None:
    """Check the names of the objectives, beside the names of what has a bound.

    Raises:
        OdenasError: one is unknown or named twice, or nothing is asked of the validation error.
    """
    names = list(objectives)
    for name in names:
        if name not in OBJECTIVES:
            raise unknown("objectives", name, OBJECTIVES)
    if len(set(names)) < len(names):
        raise OdenasError(f"`objectives` names {next(n for n in names if names.count(n) > 1)} twice")
    if ERROR not in [*names, *constrained]:
        raise OdenasError(
            f"`objectives` is {', '.join(names)}, but needs {ERROR} too, or a bound on it in `constraints`"
        )


def values_of(row: Mapping[str, Any], objectives: Iterable[str]) -> tuple[float, ...]:
    """Return a trial's objectives; what is not known, or not finite, is infinite: worse than all else."""
    return tuple(_finite(row.get(name)) for name in objectives)


def _finite(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.inf
