"""The stability polynomial of a tableau, with rational coefficients in ζ and z = hλ."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache, singledispatch

from odenas.space.method import Method, no_method
from odenas.space.precision import rationals
from odenas.space.tableau import Number, Tableau

Table = tuple[tuple[Fraction, ...], ...]
Bivariate = dict[tuple[int, int], Fraction]  # (power of q = 1/ζ, power of z) -> coefficient

ONE: Bivariate = {(0, 0): Fraction(1)}


@singledispatch
def stability_polynomial(method: Method) -> Table:
    """Return det(ζI − M(z)) without its roots ζ = 0: entry [i][j] is the coefficient of ζⁱ zʲ.

    M(z) is the matrix of one step on the linear test equation, z = hλ; the polynomial is monic in ζ where the
    method is explicit. Every kind of method registers its own (`functools.singledispatch`).
    """
    raise no_method(method, "a stability polynomial")


@stability_polynomial.register(Tableau)
@lru_cache(maxsize=256)
def _of_tableau(tableau: Tableau) -> Table:
    """Return the polynomial of a general linear method.

    M(z) is one step's matrix on (x_n … x_{n−k+1}, F_{n−1} … F_{n−k+1}). With q = 1/ζ for one step back, stages read
    Y_i = a_i x_n + b_i F_n and the step ζ x_n = P x_n + Q F_n, where F_n = z (u x_n + w F_n) is the first stage's
    slope; what is left of the determinant is (1 − qP)(1 − zw) − q Q z u. For a linear multistep method it is
    ρ(ζ) − zσ(ζ), for a Runge–Kutta method ζ − R(z) (Hairer, Wanner, Solving Ordinary Differential Equations II,
    2nd ed., IV.2 and V.1). For x'' = f, with f = λ²x, it is ρ(ζ) − z²σ(ζ). A float counts as the number it is, save
    that V is made to sum to 1 again.
    """
    V = rationals(tableau.V)
    # Rounding breaks ΣV = 1, and then the root that should leave ζ = 1 with e^z starts from elsewhere.
    V = (1 - sum(V[1:], Fraction(0)), *V[1:])
    slopes: list[tuple[Bivariate, Bivariate]] = [({}, ONE)]
    for U, W, A in zip(tableau.U[1:], tableau.W[1:], tableau.A[1:], strict=True):
        on_x, on_F = _series(U), _series((0, *W))
        for a, (slope_x, slope_F) in zip(rationals(A), slopes, strict=False):
            on_x, on_F = plus(on_x, slope_x, a), plus(on_F, slope_F, a)
        slopes.append((shift(on_x, 0, 1), shift(on_F, 0, 1)))
    P, Q = _series(V), _series((0, *tableau.R))
    for b, (slope_x, slope_F) in zip(rationals(tableau.B), slopes, strict=True):
        P, Q = plus(P, slope_x, b), plus(Q, slope_F, b)
    u, w = _series(tableau.U[0]), _series((0, *tableau.W[0]))
    remaining = plus(ONE, shift(P, 1, 0), Fraction(-1))
    determinant = times(remaining, plus(ONE, shift(w, 0, 1), Fraction(-1)))
    determinant = plus(determinant, shift(times(Q, u), 1, 1), Fraction(-1))
    if tableau.derivative == 2:
        determinant = {(i, 2 * j): entry for (i, j), entry in determinant.items()}
    return as_table(determinant)


def as_table(determinant: Bivariate) -> Table:
    """Return a polynomial in q = 1/ζ, times the power of ζ that makes it one in ζ: [i][j] is that of ζⁱ zʲ."""
    degree = max(i for i, _ in determinant)
    width = max(j for _, j in determinant) + 1
    return tuple(tuple(determinant.get((degree - i, j), Fraction(0)) for j in range(width)) for i in range(degree + 1))


def _series(row: Iterable[Number]) -> Bivariate:
    """Return Σ_j row[j] qʲ."""
    return {(j, 0): entry for j, entry in enumerate(rationals(row)) if entry}


def plus(left: Bivariate, right: Bivariate, factor: Fraction = Fraction(1)) -> Bivariate:
    """Return left + factor·right."""
    total = dict(left)
    for power, entry in right.items():
        total[power] = total.get(power, Fraction(0)) + factor * entry
    return {power: entry for power, entry in total.items() if entry}


def times(left: Bivariate, right: Bivariate) -> Bivariate:
    """Return left·right."""
    product: Bivariate = {}
    for (i, j), entry in left.items():
        product = plus(product, shift(right, i, j), entry)
    return product


def shift(series: Bivariate, i: int, j: int) -> Bivariate:
    """Return qⁱ zʲ times `series`."""
    return {(a + i, b + j): entry for (a, b), entry in series.items()}
