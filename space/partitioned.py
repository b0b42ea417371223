"""What partitioned Runge–Kutta methods do on separable systems y' = f(t, z), z' = g(t, y), and are proved to be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from odenas.space.errors import OdenasError
from odenas.space.integrate import Array, Field, checked, integrate, value
from odenas.space.order import error_constant, order
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.rooted_trees import Tree, density, trees
from odenas.space.stability_polynomial import ONE, Bivariate, Table, as_table, plus, shift, stability_polynomial, times
from odenas.space.tableau import Number
from odenas.space.zero_stability import zero_stable

__all__ = ["Partitioned"]  # with all that is registered for it below


@order.register(Partitioned)
def _order(method: Partitioned, highest: int | None = None) -> int:
    """Return the largest p ≤ `highest` (8 if not given) such that all trees with up to p vertices have no defect.

    In a separable system f is followed by derivatives of g and g by those of f, so a rooted tree with the colour
    of its root is all there is: two conditions for each tree (Geometric Numerical Integration, III.2; Hairer,
    Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., II.15). Floats count as for a tableau.
    """
    highest = 8 if highest is None else highest
    unit = unit_roundoff(method)
    weights, majorant = _weights(method), _weights(method, absolute=True)
    for p in range(1, highest + 1):
        for tree in trees(p):
            for colour in (0, 1):
                allowed = 16 * p * unit * majorant(tree, colour) if unit else Fraction(0)
                if abs(Fraction(1, density(tree)) - weights(tree, colour)) > allowed:
                    return p - 1
    return highest


@error_constant.register(Partitioned)
def _error_constant(method: Partitioned) -> float:
    """Return the defect(t)·γ(t)/(p + 1)! of largest magnitude over the trees with p + 1 vertices and both colours.

    Divided by the total weight of the slopes that the root's colour stands for, which is 1 from order 1 on; infinite
    where that is 0. As for a tableau, 1/2 for coupled forward Euler.
    """
    p = order(method)
    totals = [sum(rationals(b), Fraction(0)) for b in (method.b, method.b2)]
    if not all(totals):
        return math.inf
    weights = _weights(method)
    scaled = [
        (1 - density(tree) * weights(tree, colour)) / totals[colour] for tree in trees(p + 1) for colour in (0, 1)
    ]
    return float(max(scaled, key=abs) / math.factorial(p + 1))


@zero_stable.register(Partitioned)
def _zero_stable(method: Partitioned) -> bool:
    """Return True: at h = 0 a step is the identity."""
    del method
    return True


@stability_polynomial.register(Partitioned)
@lru_cache(maxsize=256)
def _stability_polynomial(method: Partitioned) -> Table:
    """Return det(ζI − M(z)) for y' = λz, z' = λy, whose eigenvalues are ±λ: entry [i][j] is that of ζⁱ zʲ, z = hλ.

    z = iy is the harmonic oscillator. Stages and slopes are written as (factor of y_n, factor of z_n).
    """
    nothing: Bivariate = {}
    f_slopes: list[tuple[Bivariate, Bivariate]] = []
    g_slopes: list[tuple[Bivariate, Bivariate]] = []
    for A, A2 in zip(method.A, method.A2, strict=True):
        f_slopes.append(_slope(_combined((nothing, ONE), A2, g_slopes)))
        g_slopes.append(_slope(_combined((ONE, nothing), A, f_slopes)))
    (P, Q), (S, T) = (
        _combined((ONE, nothing), method.b, f_slopes),
        _combined((nothing, ONE), method.b2, g_slopes),
    )
    determinant = plus(times(P, T), times(Q, S), Fraction(-1))
    return as_table(plus(plus(ONE, shift(plus(P, T), 1, 0), Fraction(-1)), shift(determinant, 2, 0)))


@integrate.register(Partitioned)
def _integrate(
    method: Partitioned,
    f: Field,
    x0: ArrayLike,
    h: float,
    n: int,
    start: str = "rk4",
    t0: float = 0.0,
    v0: ArrayLike | None = None,
) -> Array:
    """Return n steps of x' = f(t, x), where x = (y, z): the halves of x along its first axis, which has even length.

    The first half of f(t, x) must depend on z alone and the second on y alone; each evaluation uses one of them.
    A method of one step needs no start-up, so `start` changes nothing.

    Raises:
        OdenasError: as for a tableau, or the first axis of x0 has no even length, or `v0` is given.
    """
    x, h, n, t0 = checked(x0, h, n, start, t0)
    if v0 is not None:
        raise OdenasError(f"`v0` is {v0!r}, but a partitioned method has the velocity, if any, in `x0`")
    if x.ndim == 0 or len(x) % 2:
        raise OdenasError(f"`x0` has the shape {x.shape}, but needs an even first axis: two halves, y and z")
    path, half = np.empty((n + 1, *x.shape), x.dtype), len(x) // 2
    path[0] = x

    def slope(t: float, Y: Array, Z: Array) -> Array:
        return h * value("f", f(t, np.concatenate([Y, Z])), x)

    for i in range(n):
        y, z, t = path[i, :half], path[i, half:], t0 + i * h
        Y = y
        f_slopes: list[Array] = []
        g_slopes: list[Array] = []
        for A, A2, (f_used, g_used), (c, d) in zip(method.A, method.A2, method.used, method.abscissae, strict=True):
            Z = _moved(z, A2, g_slopes)
            f_slopes.append(slope(t + float(c) * h, Y, Z)[:half] if f_used else 0 * y)
            Y = _moved(y, A, f_slopes)
            g_slopes.append(slope(t + float(d) * h, Y, Z)[half:] if g_used else 0 * z)
        path[i + 1] = np.concatenate([_moved(y, method.b, f_slopes), _moved(z, method.b2, g_slopes)])
    return path


def _moved(start: Array, weights: Sequence[Number], slopes: Sequence[Array]) -> Array:
    return start + sum((float(w) * slope for w, slope in zip(weights, slopes, strict=False) if w), np.zeros_like(start))


def _weights(method: Partitioned, absolute: bool = False) -> Callable[[Tree, int], Fraction]:
    """Return the weight of a step at a tree whose root is f (colour 0) or g (colour 1); 1/γ(t) for the solution."""
    parts = ((method.A, method.b), (method.A2, method.b2))
    matrices = [[[abs(a) if absolute else a for a in rationals(weights)] for weights in A] for A, _ in parts]
    rows = [[abs(w) if absolute else w for w in rationals(b)] for _, b in parts]

    @cache
    def slope(stage: int, tree: Tree, colour: int) -> Fraction:
        return math.prod((_sum(matrices[1 - colour][stage], child, 1 - colour) for child in tree), start=Fraction(1))

    def _sum(weights: Sequence[Fraction], tree: Tree, colour: int) -> Fraction:
        return sum((w * slope(j, tree, colour) for j, w in enumerate(weights) if w), Fraction(0))

    return lambda tree, colour: _sum(rows[colour], tree, colour)


def _combined(
    start: tuple[Bivariate, Bivariate], weights: Sequence[Number], slopes: Sequence[tuple[Bivariate, Bivariate]]
) -> tuple[Bivariate, Bivariate]:
    of_y, of_z = start
    for weight, (on_y, on_z) in zip(rationals(weights), slopes, strict=False):
        of_y, of_z = plus(of_y, on_y, weight), plus(of_z, on_z, weight)
    return of_y, of_z


def _slope(stage: tuple[Bivariate, Bivariate]) -> tuple[Bivariate, Bivariate]:
    return shift(stage[0], 0, 1), shift(stage[1], 0, 1)
