"""Absolute stability of a tableau: its behaviour on u' = λu, with z = hλ."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.precision import unit_roundoff
from odenas.space.root_condition import root_condition
from odenas.space.stability_polynomial import Table, stability_polynomial
from odenas.space.tableau import Number, Tableau

Integers = tuple[tuple[int, ...], ...]


def is_stable_at(tableau: Tableau, real: Number, imaginary: Number = 0) -> bool:
    """Return whether the root condition holds at z = real + i·imaginary; decided without rounding."""
    return _stable(_integers(stability_polynomial(tableau)), Fraction(real), Fraction(imaginary))


def spectral_radius(tableau: Tableau, z: ArrayLike) -> NDArray[np.float64]:
    """Return the largest |ζ| at each z (complex, any shape, which the result has), in floating point."""
    table = np.array(stability_polynomial(tableau), dtype=float)
    points = np.asarray(z, dtype=complex)
    rows = [np.polyval(row[::-1], points.ravel()) for row in table[:-1]]
    companion = np.zeros((points.size, len(rows), len(rows)), dtype=complex)
    companion[:, 1:, :-1] = np.eye(len(rows) - 1)
    companion[:, :, -1] = -np.stack(rows, axis=-1)
    radii: NDArray[np.float64] = np.abs(np.linalg.eigvals(companion)).max(axis=-1)
    return radii.reshape(points.shape)


def real_interval(tableau: Tableau) -> float:
    """Return the length x of the largest interval (−x, 0) of real z with absolute stability; 0 if there is none.

    Infinite only where the slopes have no effect. Decisions are exact, so that the answer carries no tolerance; an
    interval shorter than 2⁻³⁰ (2⁻¹⁴ for float32 entries, whose rounding hides what is nearer to 0) counts as none.
    """
    return _interval(tableau, (-1, 0), max(Fraction(1, 2**30), 2**10 * unit_roundoff(tableau)))


def imaginary_interval(tableau: Tableau) -> float:
    """Return the largest y with absolute stability for z on (−iy, iy); 0 if there is none.

    As for `real_interval`, but growth begins here with |z|⁴ or |z|⁶, which rounding hides up to |z| ≈ unit^{1/4}:
    for float entries an interval shorter than 0.002 (float64) or 1/4 (float32) counts as none.
    """
    unit = unit_roundoff(tableau)
    return _interval(tableau, (0, 1), max(Fraction(1, 2**30), Fraction(16 * float(unit) ** 0.25)))


def _interval(tableau: Tableau, direction: tuple[int, int], start: Fraction) -> float:
    """Return the end of the stable stretch that begins at `start`·direction: seen in floats, decided exactly."""
    table = stability_polynomial(tableau)
    integers, (re, im) = _integers(table), direction

    def stable(y: Fraction) -> bool:
        return _stable(integers, re * y, im * y)

    def radius(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return spectral_radius(tableau, y * complex(re, im))

    bound = _bound(table)
    if not stable(start):
        return 0.0
    if math.isinf(bound):
        return math.inf
    coarse = np.geomspace(float(start), bound, 8 * max(4, math.ceil(math.log2(bound / start))))
    above = (Fraction(y) for y in coarse[radius(coarse) > 1 + 1e-9])
    end = next((y for y in above if not stable(y)), Fraction(bound))
    grid = np.union1d(coarse[coarse < float(end)], np.linspace(0, float(end), 513)[1:])
    values = radius(grid)
    peak = np.r_[False, (values[1:-1] >= values[:-2]) & (values[1:-1] >= values[2:]), False]
    # A peak that only noise makes is tested where it stands, a true one at its top, between the points of the grid.
    curved = peak & (values > 0.99) & (2 * values - np.roll(values, 1) - np.roll(values, -1) > 1e-9)
    tops = [_top(radius, grid[i - 1], grid[i + 1]) for i in np.flatnonzero(curved)]
    suspects = np.union1d(grid[(values > 1 + 1e-9) | (peak & (values > 1 - 1e-6))], tops)
    unstable = next((y for y in map(Fraction, suspects) if y > start and not stable(y)), end)
    below = (Fraction(y) for y in grid[grid < float(unstable)][::-1])
    low, high = next((y for y in below if y <= start or stable(y)), start), unstable
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return float((low + high) / 2)


def _bound(table: Table) -> float:
    """Return a |z| at and beyond which the root condition fails; infinite if the polynomial does not depend on z.

    With all n roots in the unit disc the coefficient of ζⁱ is at most binomial(n, i) (Vieta), which a polynomial in
    z exceeds for good once its highest term is larger than that and all lower terms together (Cauchy).
    """
    bounds = []
    for i, row in enumerate(table[:-1]):
        sizes = [abs(entry) for entry in row]
        degree = max((j for j, size in enumerate(sizes) if size), default=0)
        if degree > 0:
            sizes[0] += math.comb(len(table) - 1, i)
            bound = Fraction(1)
            while sizes[degree] * bound**degree <= sum(size * bound**j for j, size in enumerate(sizes[:degree])):
                bound *= 2
            bounds.append(float(bound))
    return min(bounds, default=math.inf)


def _top(radius: Callable[[NDArray[np.float64]], NDArray[np.float64]], left: float, right: float) -> float:
    """Return where `radius` is largest between `left` and `right`, to 2⁻¹² of their distance."""
    for _ in range(3):
        points = np.linspace(left, right, 33)
        i = int(np.argmax(radius(points)))
        left, right = points[max(i - 1, 0)], points[min(i + 1, 32)]
    return float(points[i])


def _integers(table: Table) -> Integers:
    """Return `table` times the least common denominator of its entries."""
    scale = math.lcm(*(entry.denominator for row in table for entry in row))
    return tuple(tuple(int(entry * scale) for entry in row) for row in table)


def _stable(table: Integers, real: Fraction, imaginary: Fraction) -> bool:
    """Return whether the polynomial Σ table[i][j] ζⁱ zʲ satisfies the root condition at z = real + i·imaginary."""
    c = math.lcm(real.denominator, imaginary.denominator)
    a, b = int(real * c), int(imaginary * c)
    width = len(table[0])
    powers = [(1, 0)]  # of a + ib
    for _ in range(width - 1):
        x, y = powers[-1]
        powers.append((a * x - b * y, a * y + b * x))
    z = [(x * c ** (width - 1 - j), y * c ** (width - 1 - j)) for j, (x, y) in enumerate(powers)]
    return root_condition(
        [
            (sum(t * x for t, (x, _) in zip(row, z, strict=True)), sum(t * y for t, (_, y) in zip(row, z, strict=True)))
            for row in table
        ]
    )
