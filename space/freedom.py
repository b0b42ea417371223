"""Degrees of freedom: how many coefficients of a tableau the order conditions leave free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from odenas.space.errors import OdenasError
from odenas.space.order import defects
from odenas.space.precision import rationals
from odenas.space.tableau import Row, Tableau

# So small that what is not linear in it is lost in float64, and nothing is lost in Fractions.
STEP = Fraction(1, 2**80)


def degrees_of_freedom(tableau: Tableau, order: int) -> int:
    """Return how many coefficients of `tableau` its order leaves free: all, less the independent conditions.

    The coefficients are V and the slopes of a linear multistep method (2k of them), A and b of a Runge–Kutta method
    (s(s + 1)/2), and V, R, B, A and the rows of U and W beyond the first of any other. The conditions are those of
    all trees up to the order, ΣV = 1 and ΣU_i = 1; the rank of their Jacobian is found from differences in Fractions,
    so that only the rank itself is decided in floating point.

    Raises:
        OdenasError: the tableau has not the order.
    """
    if any(any(defects(tableau, vertices).values()) for vertices in range(1, order + 1)):
        raise OdenasError(f"`order` is {order}, but the tableau has not that order in exact arithmetic")
    rows = [[change / STEP for change in _changes(moved, order)] for moved in _moved(tableau)]
    rank = np.linalg.matrix_rank(np.array(rows, dtype=float)) if rows else 0
    return len(rows) - int(rank)


def _changes(moved: Tableau, order: int) -> list[Fraction]:
    """Return the residual of every condition; without the checks of a tableau, which ΣV ≠ 1 would not pass."""
    sums = [sum(rationals(row), Fraction(-1)) for row in (moved.V, *moved.U)]
    bushy = range(1, order + 1)
    return sums + [residual for vertices in bushy for residual in defects(moved, vertices).values()]


def _moved(tableau: Tableau) -> Iterator[Tableau]:
    """Yield the tableau with each of its coefficients in turn moved by STEP."""
    for name in ("V", "R", "B") if tableau.steps > 1 else ("B",):
        row = getattr(tableau, name)
        for j in range(len(row)):
            yield _with(tableau, name, _bumped(row, j))
    if tableau.is_multistep:
        return
    for name in ("A", "U", "W") if tableau.steps > 1 else ("A",):
        matrix = getattr(tableau, name)
        for i in range(1, tableau.stages):
            for j in range(i if name == "A" else len(matrix[i])):
                yield _with(tableau, name, (*matrix[:i], _bumped(matrix[i], j), *matrix[i + 1 :]))


def _bumped(row: Row, j: int) -> Row:
    return (*row[:j], Fraction(row[j]) + STEP, *row[j + 1 :])


def _with(tableau: Tableau, name: str, entries: object) -> Tableau:
    """Return the tableau with other entries, unchecked: with V moved alone, ΣV ≠ 1."""
    moved = replace(tableau)
    object.__setattr__(moved, name, entries)
    return moved
