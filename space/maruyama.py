"""Numpy reference for what a linear multistep method does to a stochastic differential equation (Itô)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from odenas.space.errors import OdenasError, one_of
from odenas.space.integrate import Array, Field
from odenas.space.order import order
from odenas.space.tableau import Row, Tableau

# Laws of a Wiener increment, in units of √h: values and probabilities, none for the normal law itself. Two points agree
# with it in the moments up to 3, three points up to 5, which is what weak orders 1 and 2 need (Kloeden, Platen,
# Numerical Solution of Stochastic Differential Equations, chapter 14).
WIENER_LAWS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "normal": ((), ()),
    "two-point": ((-1.0, 1.0), (1 / 2, 1 / 2)),
    "three-point": ((-math.sqrt(3), 0.0, math.sqrt(3)), (1 / 6, 2 / 3, 1 / 6)),
}

# Where the noise enters a multistep method: the weights of g(x_{n−j}) ΔW_{n−j} in a step.
PLACEMENTS: dict[str, Callable[[Tableau], Row]] = {
    # in the branch, and so in the slopes that are kept
    "slope": lambda tableau: tableau.slopes,
    # in the state after every step
    "state": lambda tableau: (1,) + (0,) * (tableau.steps - 1),
    # as makes x = W exact: Maruyama methods (Buckwar, Winkler, SIAM J. Numer. Anal. 44, 2006)
    "maruyama": lambda tableau: tuple(sum(tableau.V[j:]) for j in range(tableau.steps)),
}


def noise_gain(tableau: Tableau, placement: str = "slope") -> float:
    """Return what the diffusion is multiplied by in the limit h → 0: the noise's weights through those of the slopes.

    1 for "slope" and "maruyama", 1/(1 + k) for noise added after the steps of (1 − k) x + k x_prev + (1 + k) h f.

    Raises:
        OdenasError: the tableau is no consistent linear multistep method, or the placement is unknown.
    """
    return float(sum(_placed(tableau, placement)) / sum(tableau.slopes))


def wiener_increments(rng: np.random.Generator, h: float, shape: tuple[int, ...], law: str = "normal") -> Array:
    """Return independent increments of variance h by one of WIENER_LAWS; shape (steps, paths) as a rule.

    Raises:
        OdenasError: h is not above 0, or the law is unknown.
    """
    one_of("law", law, WIENER_LAWS)
    values, odds = WIENER_LAWS[law]
    return math.sqrt(_step(h)) * (rng.choice(values, shape, p=odds) if values else rng.standard_normal(shape))


def integrate_stochastic(
    tableau: Tableau,
    drift: Field,
    diffusion: Field,
    x0: ArrayLike,
    h: float,
    increments: ArrayLike,
    placement: str = "slope",
) -> Array:
    """Return steps of size h of dX = drift(t, X) dt + diffusion(t, X) dW from X(0) = x0, by a linear multistep method.

    x_{n+1} = Σ_j V_j x_{n−j} + h Σ_j β_j drift(x_{n−j}) + Σ_j γ_j diffusion(x_{n−j}) ΔW_{n−j}, with γ by one of
    PLACEMENTS; Euler–Maruyama for forward Euler. The first k − 1 steps are Euler–Maruyama steps. Noise is diagonal:
    each number of the state has an increment of its own. `increments` has the shape (n, *shape), the result
    (n + 1, *shape), and x0 is repeated to `shape`. The limit h → 0 is that of the diffusion times `noise_gain`,
    with weak order 1 and strong order 1/2; strong order 1 for a diffusion that does not depend on X, by Euler–Maruyama
    and all of "maruyama".

    Raises:
        OdenasError: the tableau is no consistent linear multistep method, h is not above 0, the placement is unknown,
            or a shape does not fit.
    """
    gamma, dW, h = [float(weight) for weight in _placed(tableau, placement)], np.asarray(increments), _step(h)
    if dW.ndim < 1 or dW.dtype.kind not in "iuf":
        raise OdenasError(f"`increments` has the shape {dW.shape} of {dW.dtype}, but needs real numbers, a row a step")
    path = np.empty((len(dW) + 1, *dW.shape[1:]))
    try:
        path[0] = x0
    except (TypeError, ValueError):
        raise OdenasError(
            f"`x0` is {x0!r}, but must be numbers that repeat to {dW.shape[1:]}, as increments do"
        ) from None
    slopes, noises = np.empty(dW.shape), np.empty(dW.shape)
    V, beta = [float(weight) for weight in tableau.V], [float(weight) for weight in tableau.slopes]
    for n, increment in enumerate(dW):
        slopes[n] = h * _value("drift", drift, n * h, path[n])
        noises[n] = _value("diffusion", diffusion, n * h, path[n]) * increment
        if n < tableau.steps - 1:
            path[n + 1] = path[n] + slopes[n] + noises[n]
        else:
            path[n + 1] = sum(
                V[j] * path[n - j] + beta[j] * slopes[n - j] + gamma[j] * noises[n - j] for j in range(tableau.steps)
            )
    return path


def _placed(tableau: Tableau, placement: str) -> Row:
    one_of("placement", placement, PLACEMENTS)
    if not isinstance(tableau, Tableau) or tableau.derivative != 1 or not tableau.is_multistep or order(tableau) < 1:
        raise OdenasError(f"`tableau` is {tableau!r}, but must be a consistent linear multistep method for x' = f")
    return PLACEMENTS[placement](tableau)


def _step(h: float) -> float:
    if isinstance(h, bool) or not isinstance(h, int | float) or not 0 < h < math.inf:
        raise OdenasError(f"`h` is {h!r}, but must be a finite number above 0")
    return float(h)


def _value(name: str, field: Field, t: float, x: Array) -> Array:
    value = np.asarray(field(t, x.copy()))  # a field may write into its argument
    if value.shape not in ((), x.shape):
        raise OdenasError(f"`{name}` returned the shape {value.shape}, but needs {x.shape}, that of the state")
    return value
