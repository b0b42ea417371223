"""The region of absolute stability of a method, on a grid and by its boundary."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.polynomial import polynomial as poly
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError
from odenas.space.method import Method
from odenas.space.root_condition import root_condition
from odenas.space.stability_polynomial import Table, stability_polynomial

BLOCK = 8192
"""Points reduced together: a polynomial of degree 5 at so many takes 0.8 MB, which stays in the cache."""

Polynomial = NDArray[Any]  # coefficients, lowest power first, as Fractions


def stability_region(method: Method, real: ArrayLike, imaginary: ArrayLike) -> NDArray[np.bool_]:
    """Return whether `method` is absolutely stable at each z = real[j] + i·imaginary[i], shape (imaginary, real).

    Decided in floating point: right but for points that rounding cannot tell from the boundary, where a root ζ is on
    the unit circle; what is only boundary, such as the imaginary interval of the midpoint method, counts as unstable.
    `is_stable_at` decides exactly.

    Raises:
        OdenasError: `real` or `imaginary` is no one-dimensional array of finite numbers.
    """
    x, y = _axis("real", real), _axis("imaginary", imaginary)
    return stability_margin(method, x[None, :] + 1j * y[:, None]) > 0


def stability_margin(method: Method, z: ArrayLike) -> NDArray[np.float64]:
    """Return at each z (complex, any shape, which the result has) a number in [−1, 1], positive where stable.

    It is continuous across the boundary, so that its zero contour draws the region. With p of degree n in ζ and
    γ = p(0)/(leading coefficient), all roots of p lie in |ζ| < 1 if and only if |γ| < 1 and those of the reduced
    (p − γ p*)/ζ do, p*(ζ) = ζⁿ p̄(1/ζ) (Miller 1971, as in `root_condition`). The margin is the least 1 − |γ|² of
    all reductions, up to the first that is not positive. A factor of the stability polynomial that does not depend
    on z is the same everywhere and is decided exactly beforehand.
    """
    points = np.asarray(z, dtype=complex)
    table, factor_stable = _split(stability_polynomial(method))
    margin = np.full(points.size, 1.0 if factor_stable else -1.0)
    if factor_stable and len(table) > 1:
        rows = np.array(table, dtype=float)
        flat = points.ravel()
        for start in range(0, flat.size, BLOCK):
            margin[start : start + BLOCK] = _margin(rows, flat[start : start + BLOCK])
    return margin.reshape(points.shape)


def boundary_locus(method: Method, points: int = 720) -> NDArray[np.complex128]:
    """Return the curve on which a root has modulus 1: all z with p(ζ, z) = 0 for `points` values ζ = e^{iθ}.

    Shape (points, d) with d the degree in z, 1 for a multistep method, and the roots of one ζ in no particular order;
    θ goes from 0 to 2π, both included, so that the curve closes. Infinite where a root z leaves to infinity. The
    boundary of the region is part of this curve (Hairer, Wanner, Solving Ordinary Differential Equations II, 2nd ed.,
    V.1).

    Raises:
        OdenasError: `points` is no integer of at least 2.
    """
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 2:
        raise OdenasError(f"`points` is {points!r}, but must be an integer of at least 2")
    table, _ = _split(stability_polynomial(method))
    zeta = np.exp(1j * np.linspace(0, 2 * np.pi, int(points)))
    columns = np.array(table, dtype=float).T  # [j] is the coefficient of zʲ, a polynomial in ζ
    coefficients = np.stack([np.polyval(column[::-1], zeta) for column in columns], axis=-1)
    locus = np.full((len(zeta), len(columns) - 1), complex(np.inf, 0))
    for i, polynomial in enumerate(coefficients):
        large = np.flatnonzero(abs(polynomial) > 1e-13 * abs(polynomial).max())
        roots = np.roots(polynomial[: large[-1] + 1][::-1])
        locus[i, : len(roots)] = roots
    return locus


def _margin(table: NDArray[np.float64], z: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the margin at each of the points `z`, which has one dimension."""
    p = np.empty((len(table), len(z)), dtype=complex)  # p[i] is the coefficient of ζⁱ
    with np.errstate(all="ignore"):  # what overflows is not positive, hence unstable
        for i, row in enumerate(table):
            p[i] = row[-1]
            for entry in row[-2::-1]:
                p[i] *= z
                p[i] += entry
        if np.any(table[-1, 1:]) or table[-1, 0] != 1:
            p[:-1] /= p[-1]
        margin = np.ones(len(z))
        alive = np.arange(len(z))
        for degree in range(len(table) - 1, 0, -1):
            gamma = p[0]
            left = 1 - gamma.real**2 - gamma.imag**2
            left[np.isnan(left)] = -1
            np.minimum(margin[alive], left, out=left)
            margin[alive] = left
            inside = left > 0
            if not inside.all():
                alive, p = alive[inside], p[:, inside]
                gamma = p[0]
            if degree > 1:
                # With a leading coefficient 1 the reduced polynomial has the leading coefficient 1 − |γ|².
                scale = 1 / (1 - gamma.real**2 - gamma.imag**2)
                p = (p[1:degree] - gamma * p[degree - 1 : 0 : -1].conj()) * scale
    return np.maximum(margin, -1)


def _split(table: Table) -> tuple[Table, bool]:
    """Return `table` without the factor that does not depend on z, and whether that satisfies the root condition.

    The factor is the greatest common divisor of the coefficients of zʲ, polynomials in ζ: a common factor of ρ and σ.
    """
    columns: list[Polynomial] = [poly.polytrim(np.array(column, dtype=object)) for column in zip(*table, strict=True)]
    factor, *others = [column for column in columns if any(column)]
    for other in others:
        while any(other):
            factor, other = other, poly.polydiv(factor, other)[1]
    factor = factor / factor[-1]
    quotients = [poly.polydiv(column, factor)[0] for column in columns]
    height = len(table) - len(factor) + 1
    padded = [[*quotient, *[Fraction(0)] * (height - len(quotient))] for quotient in quotients]
    scale = math.lcm(*(entry.denominator for entry in factor))
    return tuple(zip(*padded, strict=True)), root_condition([(int(entry * scale), 0) for entry in factor])


def _axis(field: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        axis = np.asarray(values)
        axis = axis.astype(float) if axis.dtype.kind in "iuf" else np.empty((0, 0))
    except (TypeError, ValueError, OverflowError):
        axis = np.empty((0, 0))
    if axis.ndim != 1 or not np.isfinite(axis).all():
        raise OdenasError(f"`{field}` is {values!r:.80}, but must be a one-dimensional array of finite real numbers")
    return axis
