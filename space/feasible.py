"""Feasible coordinates: a box of free numbers in which every point is a zero-stable k-step method of order p.

A scheme x_{n+1} = Σ_j V_j x_{n−j} + h Σ_j β_j f(x_{n−j}) has ρ(ζ) = (ζ − 1) q(ζ). It is zero-stable when q is a Schur
polynomial. The Schur polynomials of degree m are exactly the images of the box (−1, 1)^m of *reflection coefficients*
under the step-up recursion (Levinson–Durbin; Barndorff-Nielsen & Schou 1973, J. Multivariate Analysis 3, p. 408):

    q_0 = 1,    q_m(ζ) = ζ q_{m−1}(ζ) + κ_m q*_{m−1}(ζ),    q* the polynomial with its coefficients reversed.

One smooth map serves real and complex roots alike, which a list of roots does not. The last coefficient may also be
κ_m = +1: then all roots of q lie on the unit circle, are simple, and none is 1 (q is para-orthogonal: Szegő,
Orthogonal Polynomials, 1939, §11.3), which is how the midpoint method (κ_1 = 1) belongs to the box. So the box holds
every method whose roots of q lie all inside the circle or all on it; those with some inside and some on it are limits.

The order conditions are linear in β: given the slopes that are left free, the first p slopes follow. The maps use
only + − × ÷, so that the same source serves Fractions, numpy arrays and torch tensors with gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeVar

N = TypeVar("N", bound=Any)


def states_from_reflections(reflections: Sequence[N]) -> list[N]:
    """Return the state weights V (k) of the method with these k − 1 reflection coefficients.

    For k = 2 the one coefficient is the k of P1: V = (1 − κ, κ).
    """
    q: list[Any] = [1]
    for kappa in reflections:
        padded = [*q, 0]
        q = [a + kappa * b for a, b in zip(padded, reversed(padded), strict=True)]
    # ρ = (ζ − 1) q has the coefficients q_j − q_{j−1}; V is minus all but the leading one.
    return [before - after for before, after in zip(q, [*q[1:], 0], strict=True)]


def reflections_from_states(states: Sequence[Fraction]) -> list[Fraction]:
    """Return the k − 1 reflection coefficients of the state weights V (k): the inverse of the step-up recursion.

    The result lies outside the box where the method is not zero-stable. Where the last is 1 and k > 3, others lead to
    the same V, for then ζ q_{m−1} + q*_{m−1} does not determine q_{m−1}.

    Raises:
        ZeroDivisionError: a reflection coefficient is −1 (a double root at 1) or +1 before the last (a root on the
            circle beside one in it, or a multiple one).
    """
    q = [Fraction(1)]
    for weight in states[:-1]:
        q.append(q[-1] - weight)
    kappas: list[Fraction] = []
    while len(q) > 1:
        m, kappa = len(q) - 1, q[-1]
        if kappa == 1 and not kappas:
            # All roots on the circle: q' / m is the Schur polynomial that leads to this q.
            q = [a * Fraction(m - j, m) for j, a in enumerate(q[:-1])]
        else:
            q = [(a - kappa * b) / (1 - kappa * kappa) for a, b in zip(q[:-1], reversed(q[1:]), strict=True)]
        kappas.append(kappa)
    return kappas[::-1]


def slopes_of_order(states: Sequence[N], free: Sequence[N], order: int) -> list[N]:
    """Return the slope weights β (k) that give the state weights V (k) the order p, the last k − p slopes being free.

    Solves Σ_j β_j (−j)^{q−1} = (1 − Σ_j V_j (−j)^q) / q for q = 1…p (Hairer, Nørsett & Wanner I, III.2.4, with time
    counted from t_n) for β_0…β_{p−1}.
    """
    one = _one([*states, *free])
    moments: list[Any] = []
    for q in range(1, order + 1):
        right = one - sum(weight * (-j) ** q for j, weight in enumerate(states))
        known = sum((weight * (-j) ** (q - 1) for j, weight in enumerate(free, start=order)), 0 * one)
        moments.append(right * (one / q) - known)
    return [*_solved(moments, one), *free]


def _one(entries: Sequence[Any]) -> Any:
    """Return 1 as a Fraction, if all entries are exact, else as a float."""
    return Fraction(1) if all(isinstance(entry, int | Fraction) for entry in entries) else 1.0


def _solved(moments: Sequence[Any], one: Any) -> list[Any]:
    """Return the weights of the nodes 0, −1, −2, … whose moments are these."""
    rows = (EXACT if isinstance(one, Fraction) else ROUNDED)[len(moments)]
    return [sum(entry * moment for entry, moment in zip(row, moments, strict=True)) for row in rows]


def _inverse_vandermonde(size: int) -> tuple[tuple[Fraction, ...], ...]:
    """Return row i, column q: the coefficient of t^q in the Lagrange polynomial of node −i among 0, −1, …, 1 − size."""
    rows = []
    for i in range(size):
        polynomial = [Fraction(1)]
        for j in range(size):
            if j != i:  # times (t + j) / (j − i)
                shifted, scaled = [Fraction(0), *polynomial], [*(j * c for c in polynomial), Fraction(0)]
                polynomial = [(a + b) / (j - i) for a, b in zip(shifted, scaled, strict=True)]
        rows.append(tuple(polynomial))
    return tuple(rows)


# For as many moments as the highest order that a scheme may state; worked out here, because `torch.compile` follows
# every line of what uses them.
EXACT = {size: _inverse_vandermonde(size) for size in range(11)}
ROUNDED = {size: tuple(tuple(map(float, row)) for row in rows) for size, rows in EXACT.items()}


def slopes_of_errors(states: Sequence[N], errors: Sequence[N], order: int) -> list[N]:
    """Return the slope weights β (k) of order p whose next defects C_{p+1}, …, C_k are the given `errors`.

    C_q = (1 − Σ_j V_j (−j)^q)/q! − Σ_j β_j (−j)^{q−1}/(q − 1)! (Hairer, Nørsett & Wanner I, III.2.6, with time counted
    from t_n). Error constants as coordinates of the slopes that the order leaves free: all errors 0 is order k. The
    inverse of `errors_of_slopes`.
    """
    one, steps = _one([*states, *errors]), len(states)
    moments: list[Any] = []
    for q in range(1, steps + 1):
        right = one - sum(weight * (-j) ** q for j, weight in enumerate(states))
        error = errors[q - order - 1] * math.factorial(q - 1) if q > order else 0 * one
        moments.append(right * (one / q) - error)
    return _solved(moments, one)


def errors_of_slopes(states: Sequence[Fraction], slopes: Sequence[Fraction], order: int) -> list[Fraction]:
    """Return the defects C_{p+1}, …, C_k of a method of order p with these state and slope weights."""
    errors = []
    for q in range(order + 1, len(states) + 1):
        right = 1 - sum((weight * (-j) ** q for j, weight in enumerate(states)), Fraction(0))
        moment = sum((weight * (-j) ** (q - 1) for j, weight in enumerate(slopes)), Fraction(0))
        errors.append(right / math.factorial(q) - moment / math.factorial(q - 1))
    return errors
