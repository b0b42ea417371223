"""What a scheme must keep to be of use: bounds on what its network costs, such as `params <= 300k`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from odenas.search.objectives import OBJECTIVES
from odenas.space import OdenasError
from odenas.space.errors import unknown

FORM = re.compile(r"\s*(\w+)\s*(<=|≤)\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([A-Za-zµ%]*)\s*", re.ASCII)


@dataclass(frozen=True)
class Constraint:
    """A column of the trials may be at most `limit`, in the column's unit; `text` is as the user wrote it."""

    name: str
    limit: float
    text: str

    def violation(self, row: Mapping[str, Any]) -> float | None:
        """Return by what share of the limit a trial exceeds it: kept up to 0. None where the column is not known."""
        value = row.get(self.name)
        return None if value is None else float(value) / self.limit - 1


def constraint(text: str) -> Constraint:
    """Return the constraint of a text such as "params <= 300k" or "latency ≤ 2 ms".

    Raises:
        OdenasError: it has another form, an unknown column or unit, or a limit of 0.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise OdenasError(f"`constraints` holds {text!r}, but a constraint is NAME <= NUMBER, such as 'params <= 300k'")
    name, _, number, unit = found.groups()
    if name not in OBJECTIVES:
        raise unknown("constraints", name, OBJECTIVES)
    units = OBJECTIVES[name].units
    if unit not in units:
        raise OdenasError(f"`constraints` holds {text!r}: {name} knows {', '.join(u for u in units if u)}, not {unit}")
    limit = float(number) * units[unit]
    if not 0 < limit < float("inf"):
        raise OdenasError(f"`constraints` holds {text!r}, but a limit must be positive and finite")
    return Constraint(name, limit, text.strip())


def violations(row: Mapping[str, Any], constraints: Iterable[Constraint]) -> dict[str, float]:
    """Return by what share a trial exceeds each of the limits whose columns are known; kept up to 0."""
    found = {each.text: each.violation(row) for each in constraints}
    return {text: value for text, value in found.items() if value is not None}


def total_violation(row: Mapping[str, Any], constraints: Iterable[Constraint]) -> float:
    """Return the sum of the shares by which a trial exceeds its limits: 0 for a feasible one (Deb et al. 2002, §VI)."""
    return sum(max(0.0, value) for value in violations(row, constraints).values())


def lasting(constraints: Iterable[Constraint]) -> list[Constraint]:
    """Return the constraints that a trial cannot keep any more once it has broken them."""
    return [each for each in constraints if not OBJECTIVES[each.name].falls]


def broken(row: Mapping[str, Any], constraints: Iterable[Constraint]) -> str | None:
    """Return what a trial breaks for good, in words, or None while there is nothing."""
    for each in lasting(constraints):
        exceeded = each.violation(row)
        if exceeded is not None and exceeded > 0:
            return f"breaks {each.text}: {float(row[each.name]):.6g}"
    return None
