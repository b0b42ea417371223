"""Zero-stability of a tableau: the root condition of ρ."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import singledispatch
from itertools import accumulate

import numpy as np

from odenas.space.method import Method, no_method
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.root_condition import root_condition
from odenas.space.tableau import Number, Tableau, exact


@singledispatch
def zero_stable(method: Method) -> bool:
    """Return whether the powers of the step's matrix at h = 0 are bounded.

    Every kind of method registers its own (`functools.singledispatch`).
    """
    raise no_method(method, "zero-stability")


@zero_stable.register(Tableau)
def _of_tableau(tableau: Tableau) -> bool:
    """Return whether all roots of ρ(ζ) = ζᵏ − Σ_j V_j ζ^{k−1−j} lie in |ζ| ≤ 1 and those on |ζ| = 1 are simple.

    This decides for every explicit tableau: with h = 0 the history of slopes is only shifted, hence nilpotent, so
    the powers of the step's matrix are bounded if and only if those of the companion matrix of ρ are
    (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., III.3 and III.8).
    For x'' = f roots on the circle may be double, the root 1 among them: x may grow as t does (same book, III.10).
    Where V is exact the answer is proved; where V holds floats it is the answer for the tableau that they were
    rounded from, and a method that rounding cannot tell from one with a root too many on the circle is refused.
    """
    states = list(tableau.V)
    while states[-1] == 0:  # a root 0, which harms nothing
        states.pop()
    if exact(tableau.V):
        return _exactly(states, tableau.derivative)
    return _rounded(states, float(unit_roundoff(tableau)), tableau.derivative)


def _exactly(states: list[Number], multiplicity: int) -> bool:
    """Return the answer for the exact V; with g = gcd(ρ, ρ') a double root of ρ is a simple one of ρ/g and of g."""
    rho = [*(-v for v in reversed(rationals(states))), Fraction(1)]
    if multiplicity == 1:
        return root_condition(_integers(rho))
    common = _common_divisor(rho, [i * alpha for i, alpha in enumerate(rho)][1:])
    return root_condition(_integers(_divided(rho, common)[0])) and root_condition(_integers(common))


def _integers(polynomial: list[Fraction]) -> list[tuple[int, int]]:
    """Return the polynomial times the common denominator of its coefficients, as Gaussian integers."""
    scale = math.lcm(*(alpha.denominator for alpha in polynomial))
    return [(int(alpha * scale), 0) for alpha in polynomial]


def _common_divisor(left: list[Fraction], right: list[Fraction]) -> list[Fraction]:
    """Return the greatest common divisor of two polynomials, lowest power first (Euclid's algorithm)."""
    while right:
        remainder = _divided(left, right)[1]
        while remainder and remainder[-1] == 0:
            remainder.pop()
        left, right = right, [entry / remainder[-1] for entry in remainder]
    return left


def _divided(polynomial: list[Fraction], by: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """Return quotient and remainder of two polynomials, lowest power first; the last entry of `by` is not 0."""
    remainder, quotient = list(polynomial), []
    while len(remainder) >= len(by):
        factor = remainder.pop() / by[-1]
        quotient.append(factor)
        start = len(remainder) - len(by) + 1
        for i, entry in enumerate(by[:-1]):
            remainder[start + i] -= factor * entry
    return quotient[::-1], remainder


def _rounded(states: list[Number], unit: float, multiplicity: int) -> bool:
    """Return the answer for V rounded with the relative error `unit`, by perturbation of the roots to first order.

    ρ(1) = 0 is known, so the root 1 is divided out: q = ρ/(ζ − 1), whose value on |ζ| ≤ 1 rounding changes by at
    most Σ_j j |δα_j| = δ; the factor 8 allows for coefficients that were computed. The root 1 is simple if q(1) > δ
    (q(1) < 0 would need a real root above 1); where it may be double it is divided out again, with δ = Σ_j j² |δα_j|.
    A simple root r of q moves by at most δ/|q'(r)|, a double one by √(2δ/|q''(r)|), and |q'(r)| ≤ 1.5√(δ|q''(r)|)
    is what gives the latter away, higher multiplicities included; |q''(r)| ≤ 3 ∛(δ|q⁽³⁾(r)|²) does so for a triple one
    (Wilkinson, Rounding Errors in Algebraic Processes, ch. 2).
    """
    unit = max(unit, 2.0**-51)  # the float64 eigenvalues that the roots are have errors of this size
    rho = [Fraction(1), *(-v for v in rationals(states))]
    quotient, delta = rho, 0.0
    for times in range(1, multiplicity + 1):
        quotient = list(accumulate(quotient))[:-1]
        delta = 8 * unit * sum(j**times * abs(float(alpha)) for j, alpha in enumerate(reversed(rho)))
        if sum(quotient) > delta:
            break
    else:
        return False
    q = [float(c) for c in quotient]
    roots = np.roots(q)
    first, second, third = (abs(np.polyval(np.polyder(q, m), roots)) for m in (1, 2, 3))
    multiple = first <= 1.5 * np.sqrt(delta * second)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = 1.5 * np.fmax(np.sqrt(delta / second), first / second)
        slack = np.where(multiple, -np.fmin(margin, 0.25), delta / first)
        if multiplicity == 2:
            double = multiple & (second > 3 * np.cbrt(delta * third**2))
            slack = np.where(double, 1.5 * np.sqrt(2 * delta / second), slack)
    return bool(np.all(abs(roots) <= 1 + slack))
