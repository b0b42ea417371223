"""Zero-stability of a tableau: the root condition of ρ."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np

from odenas.space.precision import rationals, unit_roundoff
from odenas.space.root_condition import root_condition
from odenas.space.tableau import Number, Tableau, exact


def zero_stable(tableau: Tableau) -> bool:
    """Return whether all roots of ρ(ζ) = ζᵏ − Σ_j V_j ζ^{k−1−j} lie in |ζ| ≤ 1 and those on |ζ| = 1 are simple.

    This decides for every explicit tableau: with h = 0 the history of slopes is only shifted, hence nilpotent, so
    the powers of the step's matrix are bounded if and only if those of the companion matrix of ρ are
    (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., III.3 and III.8).
    Where V is exact the answer is proved; where V holds floats it is the answer for the tableau that they were
    rounded from, and a method that rounding cannot tell from one with a double unit root is refused.
    """
    states = list(tableau.V)
    while states[-1] == 0:  # a root 0, which harms nothing
        states.pop()
    return _exactly(states) if exact(tableau.V) else _rounded(states, float(unit_roundoff(tableau)))


def _exactly(states: list[Number]) -> bool:
    rho = [*(-v for v in reversed(rationals(states))), Fraction(1)]
    scale = math.lcm(*(alpha.denominator for alpha in rho))
    return root_condition([(int(alpha * scale), 0) for alpha in rho])


def _rounded(states: list[Number], unit: float) -> bool:
    """Return the answer for V rounded with the relative error `unit`, by first-order perturbation of the roots.

    ρ(1) = 0 is known, so the root 1 is divided out: q = ρ/(ζ − 1), whose value on |ζ| ≤ 1 rounding changes by at
    most Σ_j j |δα_j| = δ; the factor 8 allows for coefficients that were computed. The root 1 is simple if q(1) > δ
    (q(1) < 0 would need a real root above 1). A simple root r of q moves by at most δ/|q'(r)|, a double one by
    √(2δ/|q''(r)|), and |q'(r)| ≤ 1.5√(δ|q''(r)|) is what gives the latter away, higher multiplicities included
    (Wilkinson, Rounding Errors in Algebraic Processes, ch. 2).
    """
    unit = max(unit, 2.0**-51)  # the float64 eigenvalues that the roots are have errors of this size
    rho = [1.0, *(-float(v) for v in states)]
    delta = 8 * unit * sum(j * abs(alpha) for j, alpha in enumerate(reversed(rho)))
    quotient = [float(c) for c in accumulate([Fraction(1), *(-v for v in rationals(states))])][:-1]
    if math.fsum(quotient) <= delta:
        return False
    roots = np.roots(quotient)
    first, second = (abs(np.polyval(np.polyder(quotient, m), roots)) for m in (1, 2))
    multiple = first <= 1.5 * np.sqrt(delta * second)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = 1.5 * np.fmax(np.sqrt(delta / second), first / second)
        slack = np.where(multiple, -np.fmin(margin, 0.25), delta / first)
    return bool(np.all(abs(roots) <= 1 + slack))
