"""The root condition of a polynomial, decided without rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence

Gaussian = tuple[int, int]


def root_condition(polynomial: Sequence[Gaussian]) -> bool:
    """Return whether every root of `polynomial` lies in |ζ| ≤ 1 and those on |ζ| = 1 are simple.

    `polynomial` holds the coefficients, lowest power first, as Gaussian integers (real, imaginary); the last one is
    not 0. With p*(ζ) = ζⁿ p̄(1/ζ) and the reduced p₁(ζ) = (p*(0) p(ζ) − p(0) p*(ζ))/ζ of degree < n, p has the
    property ("simple von Neumann") if and only if either |p*(0)| > |p(0)| and p₁ has it, or p₁ ≡ 0 and all roots of
    p' lie in |ζ| < 1 (J. J. H. Miller, On the location of zeros of certain classes of polynomials with applications
    to numerical analysis, J. Inst. Math. Appl. 8 (1971) 397–406; Strikwerda, Finite
    Difference Schemes and Partial Differential Equations, 2nd ed., 4.3).
    """
    while len(polynomial) > 1:
        reduced = _reduced(polynomial)
        if not any(map(any, reduced)):
            return _schur([(i * re, i * im) for i, (re, im) in enumerate(polynomial)][1:])
        if not _leads(polynomial):
            return False
        polynomial = reduced
    return True


def _schur(polynomial: Sequence[Gaussian]) -> bool:
    """Return whether every root lies in |ζ| < 1: |p*(0)| > |p(0)| and p₁ has the property too (Miller)."""
    while len(polynomial) > 1:
        if not _leads(polynomial):
            return False
        polynomial = _reduced(polynomial)
    return True


def _leads(polynomial: Sequence[Gaussian]) -> bool:
    (last_re, last_im), (first_re, first_im) = polynomial[-1], polynomial[0]
    return last_re * last_re + last_im * last_im > first_re * first_re + first_im * first_im


def _reduced(polynomial: Sequence[Gaussian]) -> list[Gaussian]:
    (c, d), (a, b) = polynomial[-1], polynomial[0]
    reduced = [
        # conj(c + id)·(x + iy) − (a + ib)·conj(u + iv)
        (c * x + d * y - a * u - b * v, c * y - d * x - b * u + a * v)
        for (x, y), (u, v) in zip(polynomial[1:], polynomial[-2::-1], strict=True)
    ]
    # Without this the integers double in length with every reduction.
    content = math.gcd(*(part for pair in reduced for part in pair))
    return [(re // content, im // content) for re, im in reduced] if content > 1 else reduced
