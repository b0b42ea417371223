"""Absolute stability of a method: its behaviour on u' = λu, with z = hλ."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.method import Method
from odenas.space.precision import unit_roundoff
from odenas.space.root_condition import root_condition
from odenas.space.stability_polynomial import Table, stability_polynomial
from odenas.space.tableau import Number

Integers = tuple[tuple[int, ...], ...]
Gaussians = list[tuple[int, int]]  # a polynomial, lowest power first, of coefficients (real, imaginary)


def is_stable_at(method: Method, real: Number, imaginary: Number = 0) -> bool:
    """Return whether the root condition holds at z = real + i·imaginary; decided without rounding."""
    return _stable(_integers(stability_polynomial(method)), Fraction(real), Fraction(imaginary))


def spectral_radius(method: Method, z: ArrayLike) -> NDArray[np.float64]:
    """Return the largest |ζ| at each z (complex, any shape, which the result has), in floating point.

    It is infinite where the leading coefficient vanishes, as an implicit method's may: a step has no solution there.
    """
    table = np.array(stability_polynomial(method), dtype=float)
    points = np.asarray(z, dtype=complex)
    *rows, leading = [np.polyval(row[::-1], points.ravel()) for row in table]
    solvable = leading != 0
    companion = np.zeros((points.size, len(rows), len(rows)), dtype=complex)
    companion[:, 1:, :-1] = np.eye(len(rows) - 1)
    companion[:, :, -1] = -np.stack(rows, axis=-1) / np.where(solvable, leading, 1)[:, None]
    radii: NDArray[np.float64] = np.abs(np.linalg.eigvals(companion)).max(axis=-1)
    return np.where(solvable, radii, np.inf).reshape(points.shape)


def real_interval(method: Method) -> float:
    """Return the length x of the largest interval (−x, 0) of real z with absolute stability; 0 if there is none.

    Infinite only for implicit methods or where the slopes have no effect. Decisions are exact, so that the answer
    carries no tolerance; an interval shorter than 2⁻³⁰ (2⁻¹⁴ for float32 entries, whose rounding hides what is nearer
    to 0) counts as none.
    """
    return _interval(method, (-1, 0), max(Fraction(1, 2**30), 2**10 * unit_roundoff(method)))


def imaginary_interval(method: Method) -> float:
    """Return the largest y with absolute stability for z on (−iy, iy); 0 if there is none.

    As for `real_interval`, but growth begins here with |z|⁴ or |z|⁶, which rounding hides up to |z| ≈ unit^{1/4}:
    for float entries an interval shorter than 0.002 (float64) or 1/4 (float32) counts as none.
    """
    unit = unit_roundoff(method)
    return _interval(method, (0, 1), max(Fraction(1, 2**30), Fraction(16 * float(unit) ** 0.25)))


def _interval(method: Method, direction: tuple[int, int], start: Fraction) -> float:
    """Return the end of the stable stretch that begins at `start`·direction: seen in floats, decided exactly."""
    table = stability_polynomial(method)
    integers, (re, im) = _integers(table), direction

    def stable(y: Fraction) -> bool:
        return _stable(integers, re * y, im * y)

    def radius(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return spectral_radius(method, y * complex(re, im))

    if not stable(start):
        return 0.0
    monic = not any(table[-1][1:])
    bound = _bound(table) if monic else _last_change(integers, direction)
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
    candidates = sorted([*map(Fraction, suspects), *_poles(table[-1], re)])
    unstable = next((y for y in candidates if start < y <= end and not stable(y)), end)
    if stable(unstable):  # as only the bound itself can be, and with it all that lies beyond
        return math.inf
    below = (Fraction(y) for y in grid[grid < float(unstable)][::-1])
    low, high = next((y for y in below if y <= start or stable(y)), start), unstable
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return float((low + high) / 2)


def _bound(table: Table) -> float:
    """Return a |z| at and beyond which the root condition fails; infinite if the polynomial does not depend on z.

    `table` is monic. With all n roots in the unit disc the coefficient of ζⁱ is at most binomial(n, i) (Vieta), which
    a polynomial in z exceeds for good once its highest term is larger than that and all lower terms together (Cauchy).
    """
    bounds = []
    for i, row in enumerate(table[:-1]):
        sizes = [abs(entry) for entry in row]
        if any(sizes[1:]):
            bounds.append(_dominated([sizes[0] + math.comb(len(table) - 1, i), *sizes[1:]]))
    return min(bounds, default=math.inf)


def _poles(leading: Sequence[Fraction], direction: int) -> list[Fraction]:
    """Return the y at which the leading coefficient, if linear in z = y·direction, vanishes; there it is unstable.

    Other roots may stay in the disc right up to it, too near for a grid.
    """
    return [-leading[0] / (leading[1] * direction)] if direction and len(leading) == 2 and leading[1] else []


def _dominated(sizes: Sequence[Fraction | int]) -> float:
    """Return a power of 2, at least 1, from which on the highest term of Σ sizes[j] yʲ exceeds all others together."""
    degree = max(j for j, size in enumerate(sizes) if size)
    bound = Fraction(1)
    while sizes[degree] * bound**degree <= sum(size * bound**j for j, size in enumerate(sizes[:degree])):
        bound *= 2
    return float(bound)


def _last_change(table: Integers, direction: tuple[int, int]) -> float:
    """Return a y such that the root condition at y·direction, and at all beyond, is met everywhere or nowhere.

    This is the recursion of `root_condition` with polynomials in y for numbers. It decides by the sign of
    |p*(0)|² − |p(0)|², the leading coefficient of the next polynomial, which is the same for all y beyond its roots.
    """
    powers = [(1, 0)]
    for _ in table[0][1:]:
        powers += _times(powers[-1:], [direction])
    polynomial = [[(t * re, t * im) for t, (re, im) in zip(row, powers, strict=True)] for row in table]
    last = _dominated([abs(entry) for entry in table[-1]])  # no pole beyond
    while len(polynomial) > 1:
        top, tail = _conjugate(polynomial[-1]), polynomial[0]
        reduced = [
            _minus(_times(top, x), _times(tail, _conjugate(u)))
            for x, u in zip(polynomial[1:], polynomial[-2::-1], strict=True)
        ]
        parts = [part for entry in reversed(reduced) for part in zip(*entry, strict=True) if any(part)]
        if not parts:
            polynomial = [[(i * re, i * im) for re, im in entry] for i, entry in enumerate(polynomial)][1:]
            continue
        last = max(last, _dominated([abs(entry) for entry in parts[0]]))
        if not any(re > 0 for re, _ in reduced[-1]) or next(re for re, _ in reduced[-1][::-1] if re) < 0:
            break
        content = math.gcd(*(entry for part in parts for entry in part))
        polynomial = [[(re // content, im // content) for re, im in entry] for entry in reduced]
    return last


def _times(left: Gaussians, right: Gaussians) -> Gaussians:
    product = [(0, 0)] * (len(left) + len(right) - 1)
    for i, (a, b) in enumerate(left):
        for j, (c, d) in enumerate(right):
            re, im = product[i + j]
            product[i + j] = re + a * c - b * d, im + a * d + b * c
    return product


def _minus(left: Gaussians, right: Gaussians) -> Gaussians:
    return [(a - c, b - d) for (a, b), (c, d) in zip(left, right, strict=True)]


def _conjugate(polynomial: Gaussians) -> Gaussians:
    return [(re, -im) for re, im in polynomial]


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
    polynomial = [
        (sum(t * x for t, (x, _) in zip(row, z, strict=True)), sum(t * y for t, (_, y) in zip(row, z, strict=True)))
        for row in table
    ]
    return any(polynomial[-1]) and root_condition(polynomial)  # a leading coefficient 0 is an infinite root
