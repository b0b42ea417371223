"""The angle α of A(α)-stability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial import polynomial as poly
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.method import Method
from odenas.space.stability import real_interval
from odenas.space.stability_polynomial import stability_polynomial

Polynomial = NDArray[Any]  # coefficients, lowest power first, as Fractions


def stability_angle(method: Method) -> float:
    """Return the largest α ≤ 90, in degrees, such that `method` is stable at every z ≠ 0 with |arg(−z)| < α.

    90 means A-stable, 0 that there is no such α: every explicit method. It is for linear multistep methods
    (Hairer, Wanner, Solving Ordinary Differential Equations II, 2nd ed., V.2). On the boundary of the region lies a
    root on the unit circle, z = ρ(ζ)/σ(ζ) with ζ = e^{iθ}. The wedge is stable if and only if the negative axis is
    and none of these z is in it, for a root that crosses the circle makes one side unstable. With c = cos θ,
    ρ σ̄ = P(c) + i sin θ Q(c), so that tan²α is the least of (1 − c²) Q²/P² where P < 0, and A-stable is P ≥ 0.
    P and Q are exact; the places of the minima are found in floating point, which moves α by its square only.

    Raises:
        OdenasError: the stability polynomial is not linear in z.
    """
    table = stability_polynomial(method)
    if len(table[0]) != 2:
        raise OdenasError(
            f"`method` has a stability polynomial of degree {len(table[0]) - 1} in z, but A(α) needs one of degree 1"
        )
    if math.isfinite(real_interval(method)):
        return 0.0
    P, Q = _locus([row[0] for row in table], [-row[1] for row in table])
    # A common factor is a root of ρ or σ on the circle, where z is 0 or ∞ and only its direction is wanted.
    common = _gcd(P, Q)
    p, q = _quotient(P, common), _quotient(Q, common)
    square: Polynomial = poly.polymul(_array([1, 0, -1]), poly.polymul(q, q))
    # The derivative of square/p² vanishes where this does.
    slope = poly.polysub(poly.polymul(poly.polyder(square), p), 2 * poly.polymul(square, poly.polyder(p)))
    stationary = _roots(slope)
    ends = [Fraction(-1), *_roots(P), Fraction(1)]
    tangents = [math.inf]
    for low, high in pairwise(ends):
        if poly.polyval((low + high) / 2, P) < 0:
            for c in (low, *(c for c in stationary if low < c < high), high):
                size = poly.polyval(c, p) ** 2
                tangents.append(float(poly.polyval(c, square) / size) if size else math.inf)
    return math.degrees(math.atan(math.sqrt(min(tangents))))


def _locus(rho: Sequence[Fraction], sigma: Sequence[Fraction]) -> tuple[Polynomial, Polynomial]:
    """Return P and Q with ρ(e^{iθ}) times the conjugate of σ(e^{iθ}) = P(cos θ) + i sin θ Q(cos θ)."""
    size = len(rho)
    first, second = [_array([1]), _array([0, 1])], [_array([0]), _array([1])]  # T_d and U_{d−1}, Chebyshev's
    for kind in (first, second):
        while len(kind) < size:
            kind.append(poly.polysub(poly.polymul(_array([0, 2]), kind[-1]), kind[-2]))
    P, Q = _array([0]), _array([0])
    for i, r in enumerate(rho):
        for j, s in enumerate(sigma):
            d = abs(i - j)
            P = poly.polyadd(P, r * s * first[d])
            Q = poly.polyadd(Q, (r * s if i > j else -r * s) * second[d])
    return P, Q


def _quotient(left: Polynomial, right: Polynomial) -> Polynomial:
    quotient: Polynomial = poly.polydiv(left, right)[0]
    return quotient


def _gcd(left: Polynomial, right: Polynomial) -> Polynomial:
    while any(right):
        left, right = right, poly.polydiv(left, right)[1]
    return left


def _roots(polynomial: Polynomial) -> list[Fraction]:
    """Return the roots in (−1, 1), ascending, each to floating point precision; a multiple one is found once.

    Roots at ±1 are taken out first: there ρ(1) = 0 puts a multiple one, whose rounding would spread over others.
    """
    for end in (Fraction(1), Fraction(-1)):
        while len(polynomial) > 1 and poly.polyval(end, polynomial) == 0:
            polynomial = _quotient(polynomial, _array([-end, 1]))
    if len(polynomial) == 1:
        return []
    simple = _quotient(polynomial, _gcd(polynomial, poly.polyder(polynomial)))
    roots = poly.polyroots((simple / max(map(abs, simple))).astype(float))
    real = np.sort(roots[abs(roots.imag) < 1e-9].real)
    return [Fraction(float(c)) for c in real if -1 < c < 1]


def _array(entries: Sequence[int | Fraction]) -> Polynomial:
    return np.array([Fraction(entry) for entry in entries], dtype=object)
