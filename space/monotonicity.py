"""Strong stability preservation (SSP): the step size up to which a tableau is monotone where forward Euler is."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.method import Method
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.tableau import Row, Tableau

Polynomials = NDArray[Any]  # Fractions, shape (n, degree + 1): coefficients of powers of r, lowest first
Rows = list[list[Fraction]]


def ssp_coefficient(tableau: Method) -> float:
    """Return the SSP coefficient: the largest r such that h ≤ r h_E keeps every bound that forward Euler keeps.

    If ‖v + h_E f(v)‖ ≤ ‖v‖ for all v, then for h ≤ r h_E the new state is in norm at most the largest of the k old
    ones, for every norm (or convex functional) and every such f; for larger h it need not be. It is 0 if no h > 0
    will do, and infinite only where the slopes have no effect. The states in the history are arbitrary.

    With the old states and the stages as one vector, w = S x + h T f(w), r is feasible if and only if
    (I + rT)⁻¹ S ≥ 0 and Q = r(I + rT)⁻¹ T ≥ 0 entry by entry, provided that no stage is idle and no two are equal
    (Spijker, Stepsize conditions for general monotonicity in numerical initial value problems, SIAM J. Numer. Anal.
    45 (2007) 1226–1245; Ketcheson, Gottlieb, Macdonald, Strong stability preserving two-step Runge–Kutta methods,
    SIAM J. Numer. Anal. 49 (2011) 2618–2639); idle and repeated stages are therefore struck out first. For a linear
    multistep method it is min_j V_j/β_j, for a Runge–Kutta method the radius of absolute monotonicity (Gottlieb,
    Ketcheson, Shu, Strong Stability Preserving Runge–Kutta and Multistep Time Discretizations, 2011, ch. 3).

    T is strictly lower triangular, so the entries are polynomials in r, here with rational coefficients. The feasible
    r form an interval [0, R]: at r' = θr the two matrices are (I − (1 − θ)Q)⁻¹ times (I + rT)⁻¹ S and times θQ, and
    the inverse is Σ_m (1 − θ)ᵐ Qᵐ ≥ 0. So R is bisected to 2⁻⁶⁴ with exact decisions. A float in the
    tableau is known to its unit roundoff only, and an entry of the matrices that this could have made negative counts
    as 0: those of the best methods have multiple roots at R, which rounding moves far.

    Raises:
        OdenasError: `tableau` is of another kind or one for x'' = f; a stage has ΣU_i ≠ 1; or a history of slopes is
            used whose first stage is not x_n: its slopes then belong to vectors that are no states or stages of the
            step.
    """
    if not isinstance(tableau, Tableau):
        raise OdenasError(f"`tableau` is a {type(tableau).__name__}, but an SSP coefficient needs a Tableau")
    _answerable(tableau)
    S, T = _spijker_form(tableau)
    entries = _entries(S, T)
    if any(next(filter(None, polynomial), 0) < 0 for polynomial in entries):
        return 0.0  # negative as soon as r > 0
    majorant: Polynomials = abs(_entries([list(map(abs, row)) for row in S], [[-abs(t) for t in row] for row in T]))
    # An entry sums products of up to m coefficients.
    return _last(_nowhere_negative(entries + majorant * (16 * len(T) * unit_roundoff(tableau))))


def _answerable(tableau: Tableau) -> None:
    if tableau.derivative != 1:
        raise OdenasError(f"`derivative` is {tableau.derivative}, but an SSP coefficient needs 1: a method for x' = f")
    allowed = 8 * unit_roundoff(tableau)
    for i, U in enumerate(map(rationals, tableau.U)):
        if abs(sum(U, Fraction(-1))) > allowed * sum(map(abs, U), Fraction(0)):
            raise OdenasError(
                f"`U` sums to {float(sum(U)):g} in row {i}, but an SSP coefficient needs every row to sum to 1"
            )
    first_is_state = tableau.U[0][0] == 1 and not any(tableau.U[0][1:]) and not any(tableau.W[0])
    if not first_is_state and any(map(any, (tableau.R, *tableau.W))):
        raise OdenasError(
            f"`U` begins with the row ({', '.join(map(str, tableau.U[0]))}), but an SSP coefficient of a method with a "
            "history of slopes needs the first stage to be x_n"
        )


def _spijker_form(tableau: Tableau) -> tuple[Rows, Rows]:
    """Return S (m×k) and T (m×m, strictly lower triangular) of w = S x + hT f(w), without idle or repeated stages.

    w holds the old states x_n … x_{n−k+1}, then the stages, and last the new state.
    """
    steps, size = tableau.steps, tableau.steps + tableau.stages + 1
    none = [Fraction(0)] * size
    w = [([Fraction(i == j) for j in range(steps)], none) for i in range(steps)]
    place: list[int] = []  # where in w each stage is

    def slopes(past: Row, present: Row) -> list[Fraction]:
        row = [Fraction(0), *rationals(past), *none[steps:]]
        for position, weight in zip(place, rationals(present), strict=False):
            row[position] += weight
        return row

    for U, W, A in zip(tableau.U, tableau.W, tableau.A, strict=True):
        stage = list(rationals(U)), slopes(W, A)
        w.append(stage)
        place.append(w.index(stage))  # where it is a repeated one it stays idle
    w.append((list(rationals(tableau.V)), slopes(tableau.R, tableau.B)))
    busy = {len(w) - 1}
    for i in range(len(w) - 1, -1, -1):
        if i in busy:
            busy |= {j for j, weight in enumerate(w[i][1]) if weight}
    kept = sorted(busy | set(range(steps)))
    return [w[i][0] for i in kept], [[w[i][1][j] for j in kept] for i in kept]


def _entries(S: Rows, T: Rows) -> Polynomials:
    """Return the entries of (I + rT)⁻¹ [S, rT] as polynomials in r, by forward substitution; those of w's states."""
    m, k = len(S), len(S[0])
    X = np.full((m, k + m, m + 1), Fraction(0), dtype=object)
    for i, (state, slopes) in enumerate(zip(S, T, strict=True)):
        X[i, :k, 0] = state
        X[i, k:, 1] = slopes
        for j, t in enumerate(slopes):
            if t:
                X[i, :, 1:] -= t * X[j, :, :-1]
    entries: Polynomials = X.reshape(-1, m + 1)
    return entries


def _nowhere_negative(polynomials: Polynomials) -> Callable[[Fraction], bool]:
    """Return the function that decides whether none of the `polynomials` is negative at an r ≥ 0."""
    scaled = []
    for polynomial in polynomials:
        if min(polynomial) < 0:
            scale = math.lcm(*(c.denominator for c in polynomial))
            scaled.append([int(c * scale) for c in reversed(polynomial)])

    def feasible(r: Fraction) -> bool:
        return all(_sign_at(polynomial, r.numerator, r.denominator) >= 0 for polynomial in scaled)

    return feasible if scaled else lambda r: True


def _sign_at(polynomial: list[int], numerator: int, denominator: int) -> int:
    """Return a number with the sign of `polynomial` (highest power first) at numerator/denominator > 0."""
    value, scale = 0, 1
    for c in polynomial:
        value = value * numerator + c * scale
        scale *= denominator
    return value


def _last(feasible: Callable[[Fraction], bool]) -> float:
    """Return the end of the interval [0, R] on which `feasible` holds."""
    low, high = Fraction(1), Fraction(1)
    while not feasible(low):
        low /= 2
    while feasible(high):
        high *= 2
        if high > 2**1000:
            return math.inf
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if feasible(middle) else (low, middle)
    return float((low + high) / 2)
