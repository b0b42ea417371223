"""Intervals as a user gives them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from typing import Any

from odenas.space.ask import RESOLUTION, Interval
from odenas.space.errors import OdenasError, shown, unknown

WIDEST: Interval = (-10.0, 10.0)


def listed(given: Any) -> bool:
    """Return whether `given` has an order, as a list does, and is no text."""
    return isinstance(given, Collection) and not isinstance(given, str | bytes | Set | Mapping)


def interval(field: str, given: Any, within: Interval = WIDEST) -> Interval:
    """Return `given` as an interval.

    Raises:
        OdenasError: it is not two rising numbers of at most three decimals, or reaches beyond `within`.
    """
    ends = list(given) if listed(given) else [given]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if not numbers or len(ends) != 2 or not within[0] <= ends[0] <= ends[1] <= within[1]:
        raise OdenasError(f"`{field}` is {shown(ends)}, but must be two rising numbers from {within[0]} to {within[1]}")
    if any(round(end * RESOLUTION) / RESOLUTION != end for end in ends):
        raise OdenasError(f"`{field}` is {shown(ends)}, but its ends must have at most three decimals")
    return ends[0], ends[1]


def intervals(field: str, given: Any, widest: Mapping[str, Interval] | None = None) -> dict[str, Interval]:
    """Return a table of intervals by name, each checked; `widest` says which names there are, and how far they reach.

    Raises:
        OdenasError: it is no table, or a name is unknown, or `interval` refuses one.
    """
    if not isinstance(given, Mapping):
        raise OdenasError(f"`{field}` is {shown(given)}, but must be a table of intervals by name")
    for name in given:
        if widest is not None and name not in widest:
            raise unknown(f"key of {field}", name, widest)
        if not isinstance(name, str) or not name.isprintable():
            raise OdenasError(f"`{field}` has the key {shown(name)}, but needs names of coordinates")
    return {name: interval(f"{field}.{name}", ends, (widest or {}).get(name, WIDEST)) for name, ends in given.items()}
