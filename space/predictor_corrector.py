"""Implicit multistep methods made explicit: by a predictor with corrections, and by truncated fixed-point iteration.

Both solve Y = Σ_j states[j] x_{n−j} + h (slopes[0] f(Y) + Σ_j slopes[j+1] f(x_{n−j})) by a few iterations on Y, each
one evaluation of f, and are explicit tableaus. Their first stage is x_n, so that the slope that history keeps is
that of the corrected state: P(EC)ᵐE, with f(x_n) as the last E of the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError, integer
from odenas.space.implicit import ImplicitMultistep, implicit
from odenas.space.multistep import adams_bashforth
from odenas.space.order import order
from odenas.space.scheme import Scheme
from odenas.space.tableau import Row, Tableau

FAMILY = "predictor-corrector"
MOST = 100  # iterations; far beyond what any network evaluates in a step


def predictor_corrector(predictor: Tableau, corrector: ImplicitMultistep, corrections: int = 1) -> Tableau:
    """Return P(EC)ᵐE: `predictor` gives Y, which m `corrections` improve; s + m stages if the predictor has s.

    Its order is the smaller of the predictor's + m and the corrector's (Lambert, Numerical Methods for Ordinary
    Differential Systems, 1991, ch. 4; Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed.,
    III.1).

    Raises:
        OdenasError: the predictor is no tableau whose first stage is x_n, the corrector no implicit method, or
            `corrections` no integer from 1 to 100.
    """
    if not isinstance(predictor, Tableau) or predictor.derivative != 1:
        raise OdenasError(f"`predictor` is {predictor!r}, but must be a Tableau for x' = f")
    if predictor.U[0][0] != 1 or any(predictor.U[0][1:]) or any(predictor.W[0]):
        raise OdenasError("`predictor` has a first stage other than x_n, but its slope must be that of the state")
    corrections = integer("corrections", corrections, 1, MOST)
    predicted = (predictor.V, predictor.R, predictor.B)
    stages = list(zip(predictor.U, predictor.W, predictor.A, strict=True))
    return _iterated(corrector, [*stages, predicted], corrections)


def fixed_point(corrector: ImplicitMultistep, iterations: int) -> Tableau:
    """Return m `iterations` Y ← Σ_j states[j] x_{n−j} + h (slopes[0] f(Y) + …), from Y = x_n on; m stages.

    The first of them is f(t_n, x_n), which history keeps, and not f(t_{n+1}, x_n).
    Its order is the smaller of m and the corrector's. As m grows it becomes the implicit step where the iteration
    converges: where |slopes[0] z| < 1 (Lambert 1991, ch. 4).

    Raises:
        OdenasError: the corrector is no implicit method, or `iterations` no integer from 1 to 100.
    """
    iterations = integer("iterations", iterations, 1, MOST)
    return _iterated(corrector, [((Fraction(1),), (), ())], iterations)


def _iterated(corrector: ImplicitMultistep, stages: Sequence[tuple[Row, Row, Row]], iterations: int) -> Tableau:
    """Return the tableau with these stages, then those that correct the last of them; the last correction is x_{n+1}.

    A stage is its weights of the states, of the past slopes, and of the slopes of the stages before it.
    """
    if not isinstance(corrector, ImplicitMultistep):
        raise OdenasError(f"`corrector` is {corrector!r}, but must be an ImplicitMultistep")
    newest, now, *past = corrector.slopes
    rows = list(stages)
    for _ in range(iterations):
        on_slopes = [Fraction(0)] * len(rows)
        on_slopes[0] += now  # the first stage is x_n
        on_slopes[-1] += newest
        rows.append((corrector.states, tuple(past), tuple(on_slopes)))
    *inner, (V, R, B) = rows
    steps = max(len(states) for states, _, _ in rows)
    return Tableau(
        V=_filled(V, steps),
        R=_filled(R, steps - 1),
        B=B,
        A=tuple(_filled(on_slopes, len(inner)) for _, _, on_slopes in inner),
        U=tuple(_filled(states, steps) for states, _, _ in inner),
        W=tuple(_filled(past, steps - 1) for _, past, _ in inner),
    )


def _filled(row: Row, size: int) -> Row:
    return row + (Fraction(0),) * (size - len(row))


def _tied(tableau: Tableau) -> Scheme:
    """Return the scheme in which predictor and corrector evaluate one f."""
    return Scheme(tableau, Coefficients(order=min(10, order(tableau))), tying="stages")


def pece(predictor: int, corrector: str, corrections: int = 1) -> Scheme:
    """Return the k-step Adams–Bashforth predictor with the named corrector, k = `predictor`."""
    return _tied(predictor_corrector(adams_bashforth(predictor), implicit(corrector), corrections))


def iterated(corrector: str, iterations: int) -> Scheme:
    """Return the named implicit method with that many fixed-point iterations."""
    return _tied(fixed_point(implicit(corrector), iterations))


def _pece_row(steps: int, corrector: str, formula: str, reached: int) -> tuple[str, Entry]:
    short = corrector.replace("adams_moulton", "am").replace("trapezoid", "am1")
    about = f"PECE: {steps}-step Adams–Bashforth, {formula} (Lambert 1991, ch. 4). Order {reached}."
    return f"pece_ab{steps}_{short}", Entry(FAMILY, about, partial(pece, steps, corrector))


def _iterated_row(corrector: str, iterations: int, formula: str, reached: int) -> tuple[str, Entry]:
    about = f"{formula}, by fixed-point iterations from x (Lambert 1991, ch. 4). Order {reached}."
    return f"{corrector}_fixed_point", Entry(FAMILY, about, partial(iterated, corrector, iterations=iterations))


# The orders are those with the default number of corrections or iterations. Others, as of order 6, are a call of
# `predictor_corrector` or `fixed_point` away.
PREDICTOR_CORRECTOR: dict[str, Entry] = dict(
    (
        _pece_row(1, "trapezoid", "corrected by the trapezoidal rule", 2),
        _pece_row(2, "trapezoid", "corrected by the trapezoidal rule", 2),
        _pece_row(2, "adams_moulton2", "corrected by 2-step Adams–Moulton", 3),
        _pece_row(3, "adams_moulton2", "corrected by 2-step Adams–Moulton", 3),
        _pece_row(3, "adams_moulton3", "corrected by 3-step Adams–Moulton", 4),
        _pece_row(4, "adams_moulton3", "corrected by 3-step Adams–Moulton", 4),
        _pece_row(4, "adams_moulton4", "corrected by 4-step Adams–Moulton", 5),
        _iterated_row("backward_euler", 2, "Backward Euler", 1),
        _iterated_row("trapezoid", 3, "Trapezoidal rule", 2),
        _iterated_row("bdf2", 2, "Backward differentiation with 2 steps", 2),
        _iterated_row("bdf3", 3, "Backward differentiation with 3 steps", 3),
        _iterated_row("bdf4", 4, "Backward differentiation with 4 steps", 4),
        _iterated_row("bdf5", 5, "Backward differentiation with 5 steps", 5),
        _iterated_row("adams_moulton2", 3, "Adams–Moulton with 2 steps", 3),
        _iterated_row("adams_moulton3", 4, "Adams–Moulton with 3 steps", 4),
        _iterated_row("adams_moulton4", 5, "Adams–Moulton with 4 steps", 5),
        _iterated_row("milne", 4, "Milne–Simpson with 2 steps", 4),
    )
)
