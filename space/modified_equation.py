"""The modified equation of a tableau: the differential equation that its solutions follow to second order."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from odenas.space.errors import OdenasError
from odenas.space.method import Method
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.tableau import Number, Tableau


class ModifiedEquation(NamedTuple):
    """drag·u' + inertia·Δt·u'' = g + O(Δt²), followed by a smooth u through the states of steps of size Δt.

    Args:
        drag: the factor of u'; 1 + k for x_{n+1} = (1 − k) x_n + k x_{n−1} + Δt f(x_n).
        inertia: the factor of Δt·u'', in units of the step; (1 − k)/2 for that method, 1/2 for forward Euler.
        ratio: inertia over drag: C₂/σ(1) where the order is 1, and 0 from order 2 on. Infinite where the drag is 0:
            the method then integrates the second-order equation inertia·Δt·u'' = g.
    """

    drag: Number
    inertia: Number
    ratio: Number


def modified_equation(tableau: Method) -> ModifiedEquation:
    """Return drag and inertia of the tableau, as Fractions where it is exact (Lu et al. 2018, for two-step methods).

    The right-hand side is g = sf, with f the field given to the tableau and s = Σ B_i + Σ R_j the total weight of its
    slopes. For a consistent tableau s is the drag, so that u' + ratio·Δt·u'' = f. Where the scheme's scale is
    "absorbed" the network's slopes have weights that sum to 1, so that g is the network's own f: drag and inertia are
    the same for `Scheme.tableau` and for `Scheme.applied`, because both are unchanged when f is divided by a number
    and all its weights are multiplied by it.

    Proof: a smooth u has u(t − jΔt) = u − jΔt u' + j²Δt²/2 u'' + O(Δt³), so that the states of a step contribute
    (1 + Σ_j j V_j) u' + ½(1 − Σ_j j² V_j) Δt u'', the drag and a first part of the inertia. Stage i lies by c_iΔt
    after t, c_i = −Σ_j j U_ij + (ΣW_i + ΣA_i) f/u', and f/u' = drag/s to leading order. Its slope is f + c_iΔt f' with
    f' = (drag/s) u'', which goes over to the left-hand side; F_{n−j} is the first stage's slope, jΔt earlier. So

        inertia = ½(1 − Σ_j j² V_j) − (drag/s) (Σ_i B_i c_i + Σ_j R_j (c_1 − j)),

    which is ½ − Σ b_i c_i for a Runge–Kutta method and ½(1 − k) + β₀ for a consistent two-step method with the slope
    weight β₀ of f(x_{n−1}). What the parasitic roots of ρ add is not smooth and has to die out first.

    Raises:
        OdenasError: `tableau` is of another kind or one for x'' = f; the slopes' weights sum to 0, so that f acts
            through its changes only; or a stage has ΣU_i ≠ 1, so that f is evaluated away from the solution.
    """
    if not isinstance(tableau, Tableau):
        raise OdenasError(f"`tableau` is a {type(tableau).__name__}, but a modified equation needs a Tableau")
    if tableau.derivative != 1:
        raise OdenasError(f"`derivative` is {tableau.derivative}, but a modified equation with drag needs 1: x' = f")
    unit = unit_roundoff(tableau)
    for i, U in enumerate(map(rationals, tableau.U)):
        if abs(sum(U, Fraction(-1))) > 8 * unit * sum(map(abs, U), Fraction(0)):
            raise OdenasError(f"`U` sums to {float(sum(U)):g} in row {i}, but a modified equation needs rows of sum 1")
    V, R, B = rationals(tableau.V), rationals(tableau.R), rationals(tableau.B)
    total = sum(B + R)
    if total == 0:
        raise OdenasError("`B` and `R` sum to 0, but a modified equation needs slopes that act on the solution")
    drag = 1 + sum((j * v for j, v in enumerate(V)), Fraction(0))
    speed = drag / total  # f/u' to leading order
    stages = zip(tableau.U, tableau.W, tableau.A, strict=True)
    c = [[speed * w for w in rationals((*W, *A))] + [-j * u for j, u in enumerate(rationals(U))] for U, W, A in stages]
    terms = [Fraction(1, 2), *(-j * j * v / 2 for j, v in enumerate(V))]
    terms += [-speed * b * part for b, parts in zip(B, c, strict=True) for part in parts]
    terms += [-speed * r * part for j, r in enumerate(R, start=1) for part in (*c[0], Fraction(-j))]
    inertia = sum(terms, Fraction(0))
    if abs(inertia) <= 32 * unit * sum(map(abs, terms)):
        inertia = Fraction(0)  # it is not told from 0 by entries known to `unit`
    ratio = inertia / drag if drag else math.inf
    return ModifiedEquation(*((drag, inertia, ratio) if tableau.exact else map(float, (drag, inertia, ratio))))
