"""Polynomials by the thousand: the root condition and real roots of arrays with one polynomial in each column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ON_CIRCLE = 2.0**-33  # what a Schur–Cohn remainder of a polynomial with all its roots on the circle may be
ROUNDING = 2.0**-46  # what rounding may make of it in a single step


def schur(polynomials: Array) -> NDArray[np.bool_]:
    """Return whether all roots of each monic polynomial lie in |ζ| < 1, none nearer to 1 than ON_CIRCLE can tell."""
    inside = np.ones(polynomials.shape[1], dtype=bool)
    while len(polynomials) > 1:
        reduced = _reduced(polynomials)
        inside &= reduced[0].real > ON_CIRCLE  # 1 − |κ|² of the reflection coefficient κ = p(0)
        polynomials = reduced / np.where(inside, reduced[0], np.inf)  # what is settled becomes 0
    return inside


def root_condition(polynomials: Array) -> NDArray[np.bool_]:
    """Return whether all roots of each monic polynomial lie in |ζ| ≤ 1 and those on |ζ| = 1 are simple.

    `root_condition` (Miller 1971) in floating point: where p₁ vanishes within ON_CIRCLE, the roots of p' decide. What
    roots close to the circle amplify rounding by, the product of all 1/(1 − |κ|²), is allowed for besides.
    """
    met = np.ones(polynomials.shape[1], dtype=bool)
    open_, rounding = met.copy(), np.full(met.shape, ROUNDING)
    while len(polynomials) > 1:
        reduced = _reduced(polynomials)
        circle = np.flatnonzero(open_ & (abs(reduced).max(axis=0) <= np.maximum(ON_CIRCLE, rounding)))
        if circle.size:
            degree = len(polynomials) - 1
            derivative = polynomials[:-1, circle] * (np.arange(degree, 0, -1) / degree)[:, None]
            met[circle] = schur(derivative)
            open_[circle] = False
        met &= ~open_ | (reduced[0].real > 0)
        open_ &= met
        gap = np.where(open_, reduced[0].real, np.inf)
        polynomials, rounding = reduced / gap, rounding / gap
    return met


def _reduced(polynomials: Array) -> Array:
    """Return p₁ = (p − p(0) p*)/ζ of the monic p (columns, highest power first): see `root_condition`."""
    reduced: Array = polynomials[:-1] - polynomials[-1] * polynomials[:0:-1].conj()
    return reduced


def rising(rows: Array) -> Array:
    """Return each column sorted, which by exchanges of whole rows is several times as fast as `np.sort`."""
    ordered = list(rows)
    for last in range(len(ordered) - 1, 0, -1):
        for i in range(last):
            low, high = np.minimum(ordered[i], ordered[i + 1]), np.maximum(ordered[i], ordered[i + 1])
            ordered[i], ordered[i + 1] = low, high
    return np.stack(ordered) if ordered else rows


def lowest(a: Array) -> Array:
    """Return the first coefficient of each polynomial (columns, constant first) that is not 0; 0 if there is none."""
    found: Array = np.take_along_axis(a, np.argmax(a != 0, axis=0)[None], axis=0)[0]
    return found


def chebyshev(k: int) -> tuple[Array, Array]:
    """Return the coefficients of T_0…T_{k−1} (k×k) and U_0…U_{k−2} (k−1×k−1) of 1 − s, constant first."""
    T, U = np.zeros((k + 1, k + 1)), np.zeros((k + 1, k + 1))
    T[0, 0] = U[0, 0] = 1
    T[1, :2], U[1, :2] = (1, -1), (2, -2)
    for rows in (T, U):
        for d in range(2, k + 1):
            rows[d] = 2 * rows[d - 1] - rows[d - 2]
            rows[d, 1:] -= 2 * rows[d - 1, :-1]
    return T[:k, :k], U[: k - 1, : k - 1]


def times(a: Array, b: Array) -> Array:
    """Return the products of polynomials (columns)."""
    product = np.zeros((len(a) + len(b) - 1, a.shape[1]))
    for i, c in enumerate(b):
        product[i : i + len(a)] += c * a
    return product


def wronskian(a: Array, b: Array) -> Array:
    """Return a'b − ab' of polynomials (columns, constant first), from ζa'b − aζb'."""
    powers = np.arange(len(a) + len(b))[:, None]
    return times(a * powers[: len(a)], b)[1:] - times(a, b * powers[: len(b)])[1:]


def horner(coefficients: Array, at: Array) -> Array:
    """Return the values of polynomials (columns, highest power first) at points (m, n)."""
    value: Array = coefficients[0] + 0 * at
    for c in coefficients[1:]:
        value = value * at + c
    return value


def real_roots(a: Array) -> Array:
    """Return the real roots in (0, 2) of polynomials (columns, constant first); NaN where there are fewer.

    Up to degree 2 in closed form; beyond, one root lies between two neighbours among 0, 2 and the roots of the
    derivative where the signs differ. Roots without a change of sign, which end no interval, may be left out.
    """
    degree = len(a) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        if degree < 2:
            found = -a[:degree] / a[degree:]
        elif degree == 2:
            larger = -(a[1] + np.copysign(np.sqrt(a[1] ** 2 - 4 * a[2] * a[0]), a[1])) / 2
            found = np.stack([larger / a[2], a[0] / larger])
        else:
            found = _bisected(a, real_roots(a[1:] * np.arange(1, degree + 1)[:, None]))
        return np.where((found > 0) & (found < 2), found, np.nan)


def _bisected(a: Array, extrema: Array) -> Array:
    """Return the roots in (0, 2), given the extrema there, between two of which there is one at most."""
    zeros = np.zeros((1, a.shape[1]))
    edges = np.concatenate([zeros, rising(np.where(np.isnan(extrema), 2.0, extrema)), zeros + 2])
    positive = horner(a[::-1], edges) > 0
    positive[0] = lowest(a) > 0  # a root 0 is no change of sign between 0 and 2
    piece, row = np.nonzero(positive[1:] != positive[:-1])
    low, high, own, upwards = edges[piece, row], edges[piece + 1, row], a[::-1, row], positive[piece + 1, row]
    for _ in range(30):
        middle = (low + high) / 2
        above = (horner(own, middle) > 0) == upwards
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    root = (low + high) / 2
    for _ in range(2):  # Newton's steps double the digits, where they stay between the two
        slope = horner(own[:-1] * np.arange(len(own) - 1, 0, -1)[:, None], root)
        root = np.fmax(low, np.fmin(high, root - horner(own, root) / slope))
    found = np.full((len(a) - 1, a.shape[1]), np.nan)
    found[piece, row] = root
    return found
