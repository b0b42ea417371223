"""General linear methods with both history and stages: several states, several evaluations, more order from fewer.

Each is determined by conditions that its docstring states and that have no other solution; a stage or step is *exact
to degree d* if it reproduces all polynomials x(t) of degree ≤ d. In Y₁ = x_n these methods keep the field's slope at
the states, as linear multistep methods do; `pec3` keeps the slope at a predicted state.
(Butcher, Numerical Methods for Ordinary Differential Equations, 3rd ed., §26 and ch. 5; Hairer, Nørsett, Wanner,
Solving Ordinary Differential Equations I, 2nd ed., III.8.)
"""

from __future__ import annotations

import math
from fractions import Fraction

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError, integer
from odenas.space.scheme import Scheme
from odenas.space.tableau import Number, Tableau, number

# k -> (V, R, B), then U, W and A below the first stage, x_n: the stages at t + h/2 and t + h.
HYBRIDS = {
    2: (
        ("32/31 -1/31", "-1/93", "4/31 64/93 5/31"),
        ("0 1", "28/5 -23/5"),
        ("3/8", "-26/15"),
        ("9/8 0 0", "-4 32/15 0"),
    ),
    3: (
        ("783/617 -135/617 -31/617", "-99/617 -39/3085", "-27/617 2304/3085 93/617"),
        ("-225/128 25/16 153/128", "540/31 -297/31 -212/31"),
        ("75/32 45/128", "-426/31 -309/155"),
        ("225/128 0 0", "-9 384/155 0"),
    ),
}


def butcher_hybrid(steps: int = 2) -> Scheme:
    """Return Butcher's hybrid method with k = 2 or 3 steps and three stages, of order 2k + 1.

    The stages stand at t, t + h/2 and t + h. The step is exact to degree 2k + 1 and Y₂ to degree 2k − 1, for which
    the 2k + 2 and 2k coefficients are just enough. Y₃ is exact to degree 2k − 1 too, and its one free coefficient
    makes what Y₂ and Y₃ miss in degree 2k cancel in the step. With k = 1 the same conditions give kutta3.
    (J. C. Butcher, A modified multistep method for the numerical integration of ordinary differential equations,
    J. ACM 12 (1965) 124–135.)

    Raises:
        OdenasError: `steps` is not 2 or 3.
    """
    k = integer("steps", steps, 2, 3)
    (V, R, B), U, W, A = HYBRIDS[k]
    tableau = Tableau(
        V=_row(V),
        R=_row(R),
        B=_row(B),
        U=(_row("1" + " 0" * (k - 1)), *map(_row, U)),
        W=(_row("0 " * (k - 1)), *map(_row, W)),
        A=(_row("0 0 0"), *map(_row, A)),
    )
    return Scheme(tableau, Coefficients(order=2 * k + 1))


def two_step_rk3(c: Number | int | str = "1/2") -> Scheme:
    """Return the two-stage, two-step method of order 3 that adds slopes to x_n only, with the off-step point c > 0.

    Y₂ stands at t + ch and is exact to degree 2, the step to degree 3; c stays free, and c = 1 is the
    predictor–corrector pair of Adams–Bashforth 2 and Adams–Moulton 3. Its past slope is that of x_{n−1} alone, where
    Jackiewicz and Tracogna (A general class of two-step Runge–Kutta methods, SIAM J. Numer. Anal. 32 (1995)
    1390–1427) keep those of all stages.

    Raises:
        OdenasError: `c` is no number in (0, 2].
    """
    c = number("c", c)
    if not 0 < c <= 2:
        raise OdenasError(f"`c` is {c}, but must be a number above 0 and up to 2")
    B = Fraction(5, 6) / (c * (1 + c))
    R = B * c - Fraction(1, 2)
    tableau = Tableau(
        V=(Fraction(1), Fraction(0)),
        R=(R,),
        B=(1 - B - R, B),
        W=((Fraction(0),), (-c * c / 2,)),
        A=((Fraction(0), Fraction(0)), (c + c * c / 2, Fraction(0))),
    )
    return Scheme(tableau, Coefficients(order=3))


def offstep4(k: Number | int | str = 0) -> Scheme:
    """Return the two-stage, two-step method of order 4 with V = (1 − k, k), −1 < k ≤ 1: half the evaluations of rk4.

    The step is exact to degree 4, which puts Y₂ at t + ch with c = (7 + k)/(2(5 − k)); Y₂ extrapolates both states and
    both slopes and is exact to degree 3 (Hermite). The price is a short real interval, (1 + k)/2. (Off-step points in
    multistep methods: Gragg & Stetter, Generalized multistep predictor–corrector methods, J. ACM 11 (1964) 188–209.)

    Raises:
        OdenasError: `k` is no number in (−1, 1].
    """
    k = number("k", k)
    if not -1 < k <= 1:
        raise OdenasError(f"`k` is {k}, but must be a number above −1 and up to 1, for zero-stability")
    c = (7 + k) / (2 * (5 - k))
    B = (5 - k) / (6 * c * (1 + c))
    R = (1 + k) / 3 - B * c * c
    W = c * c * (1 + c)
    U = c * c * (3 + 2 * c)
    tableau = Tableau(
        V=(1 - k, k),
        R=(R,),
        B=(1 + k - R - B, B),
        U=((Fraction(1), Fraction(0)), (1 - U, U)),
        W=((Fraction(0),), (W,)),
        A=((Fraction(0), Fraction(0)), (c + U - W, Fraction(0))),
    )
    return Scheme(tableau, Coefficients(order=4))


def pec3() -> Scheme:
    """Return the one-stage, two-step method of order 3: one evaluation a step, where a linear method reaches order 2.

    The only stage, Y₁ = x_{n−1} + 2F_{n−1}, predicts the state at t + h, exact to degree 2 (the midpoint rule); its
    slope is not evaluated again at x_{n+1} but kept, so that F_{n−1} is a slope at t. The step is exact to degree 3:

        x_{n+1} = (4/5) x_n + (1/5) x_{n−1} + (4/5) F_{n−1} + (2/5) h f(Y₁).

    (Predict–evaluate–correct, PEC; a two-step Runge–Kutta method with s = 1 in the sense of Jackiewicz & Tracogna.)
    """
    tableau = Tableau(V=_row("4/5 1/5"), R=_row("4/5"), B=_row("2/5"), U=(_row("0 1"),), W=(_row("2"),))
    return Scheme(tableau, Coefficients(order=3))


def ssp_tsrk2(stages: int = 2) -> Scheme:
    """Return the s-stage, two-step SSP method of order 2 with the SSP coefficient C = √(s(s − 1)), s ≥ 2.

    It makes s forward Euler steps of h/C from x_n and takes the mean of the result and x_{n−1} with the weights 1 − θ
    and θ = (s − C)/(s + C), so that C is an SSP coefficient by construction. Both follow: exactness to degree 1 gives
    θ, and to degree 2 gives C² = s(s − 1). (Type II of Ketcheson, Gottlieb, Macdonald, Strong stability preserving
    two-step Runge–Kutta methods, SIAM J. Numer. Anal. 49 (2011) 2618–2639.)

    Raises:
        OdenasError: `stages` is no integer from 2 to 100.
    """
    s = integer("stages", stages, 2, 100)
    C = math.sqrt(s * (s - 1))
    theta = (s - C) / (s + C)
    tableau = Tableau(
        V=(1 - theta, theta),
        B=((1 - theta) / C,) * s,
        A=tuple((1 / C,) * i + (0.0,) * (s - i) for i in range(s)),
    )
    return Scheme(tableau, Coefficients(order=2))


def _row(entries: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, entries.split()))


FAMILY = "general linear"
GENERAL_LINEAR: dict[str, Entry] = {
    "butcher_hybrid": Entry(FAMILY, "Butcher's hybrid, k steps, 3 stages, order 2k + 1 (Butcher 1965)", butcher_hybrid),
    "two_step_rk3": Entry(
        FAMILY, "Two steps, two stages, the second at t + ch, from its order conditions; order 3", two_step_rk3
    ),
    "offstep4": Entry(
        FAMILY,
        "Two steps, two stages, V = (1 − k, k), the second off step, from its order conditions; order 4",
        offstep4,
    ),
    "pec3": Entry(
        FAMILY, "Two steps, one stage, x ← (4x + x_prev + 4F_prev + 2F)/5, from its order conditions; order 3", pec3
    ),
    "ssp_tsrk2": Entry(
        FAMILY,
        "SSP two-step Runge–Kutta, s stages, order 2, coefficient √(s(s − 1)) (Ketcheson, Gottlieb & Macdonald 2011)",
        ssp_tsrk2,
    ),
}
