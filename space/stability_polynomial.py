"""The stability polynomial of a tableau, with rational coefficients in ζ and z = hλ."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from odenas.space.precision import rationals
from odenas.space.tableau import Number, Tableau

Table = tuple[tuple[Fraction, ...], ...]
Bivariate = dict[tuple[int, int], Fraction]  # (power of q = 1/ζ, power of z) -> coefficient

ONE: Bivariate = {(0, 0): Fraction(1)}


@lru_cache(maxsize=256)
def stability_polynomial(tableau: Tableau) -> Table:
    """Return det(ζI − M(z)) without its roots ζ = 0: entry [i][j] is the coefficient of ζⁱ zʲ; it is monic in ζ.

    M(z) is one step's matrix on (x_n … x_{n−k+1}, F_{n−1} … F_{n−k+1}). With q = 1/ζ for one step back, stages read
    Y_i = a_i x_n + b_i F_n and the step ζ x_n = P x_n + Q F_n, where F_n = z (u x_n + w F_n) is the first stage's
    slope; what is left of the determinant is (1 − qP)(1 − zw) − q Q z u. For a linear multistep method it is
    ρ(ζ) − zσ(ζ), for a Runge–Kutta method ζ − R(z) (Hairer, Wanner, Solving Ordinary Differential Equations II,
    2nd ed., IV.2 and V.1). A float counts as the number it is, save that V is made to sum to 1 again.
    """
    V = rationals(tableau.V)
    # Rounding breaks ΣV = 1, and then the root that should leave ζ = 1 with e^z starts from elsewhere.
    V = (1 - sum(V[1:], Fraction(0)), *V[1:])
    slopes: list[tuple[Bivariate, Bivariate]] = [({}, ONE)]
    for U, W, A in zip(tableau.U[1:], tableau.W[1:], tableau.A[1:], strict=True):
        on_x, on_F = _series(U), _series((0, *W))
        for a, (slope_x, slope_F) in zip(rationals(A), slopes, strict=False):
            on_x, on_F = _plus(on_x, slope_x, a), _plus(on_F, slope_F, a)
        slopes.append((_shift(on_x, 0, 1), _shift(on_F, 0, 1)))
    P, Q = _series(V), _series((0, *tableau.R))
    for b, (slope_x, slope_F) in zip(rationals(tableau.B), slopes, strict=True):
        P, Q = _plus(P, slope_x, b), _plus(Q, slope_F, b)
    u, w = _series(tableau.U[0]), _series((0, *tableau.W[0]))
    remaining = _plus(ONE, _shift(P, 1, 0), Fraction(-1))
    determinant = _times(remaining, _plus(ONE, _shift(w, 0, 1), Fraction(-1)))
    determinant = _plus(determinant, _shift(_times(Q, u), 1, 1), Fraction(-1))
    degree = max(i for i, _ in determinant)
    width = max(j for _, j in determinant) + 1
    return tuple(tuple(determinant.get((degree - i, j), Fraction(0)) for j in range(width)) for i in range(degree + 1))


def _series(row: Iterable[Number]) -> Bivariate:
    """Return Σ_j row[j] qʲ."""
    return {(j, 0): entry for j, entry in enumerate(rationals(row)) if entry}


def _plus(left: Bivariate, right: Bivariate, factor: Fraction) -> Bivariate:
    total = dict(left)
    for power, entry in right.items():
        total[power] = total.get(power, Fraction(0)) + factor * entry
    return {power: entry for power, entry in total.items() if entry}


def _times(left: Bivariate, right: Bivariate) -> Bivariate:
    product: Bivariate = {}
    for (i, j), entry in left.items():
        product = _plus(product, _shift(right, i, j), entry)
    return product


def _shift(series: Bivariate, i: int, j: int) -> Bivariate:
    """Return qⁱ zʲ times `series`."""
    return {(a + i, b + j): entry for (a, b), entry in series.items()}
