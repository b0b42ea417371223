"""Properties of many explicit linear multistep methods at once, in float64.

For one method, or for an answer that is proved, there are `order`, `zero_stability` and `stability`; this serves
samples of thousands, at 0.4 to 5 microseconds each. Its answers are theirs up to these tolerances:

    order            as `odenas.space.order` has it for float entries.
    zero-stability   ρ whose Schur–Cohn remainder is at most ON_CIRCLE = 2⁻³³ has all its roots on the unit circle; two
                     roots there nearer to each other than about 2√ON_CIRCLE count as a double one.
    intervals        one shorter than 2⁻³⁰ (real) or 2⁻¹⁶ (imaginary) counts as none; 2⁻¹⁴ is the limit for both where
                     ρ has roots other than 1 on the circle (all in units of 1/max |β|). A coefficient of the growth
                     along an axis that is at most VANISHING = 2⁻⁴⁰ of the terms that it is made of counts as 0. Where ρ
                     and σ share roots on the circle other than ±1, an interval may be off by 10⁻⁵ of itself.

In public, arrays hold one method in each row; within this module, one in each column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError
from odenas.space.feasible import slopes_of_order, states_from_reflections
from odenas.space.vectorised_intervals import intervals, total
from odenas.space.vectorised_polynomials import ON_CIRCLE, root_condition, schur

Array = NDArray[Any]

MOST_STEPS = 5  # as in SearchSpace
BLOCK = 8192  # methods worked on together: their arrays stay in the cache


class Properties(NamedTuple):
    """What is known of n methods, each an array (n): see `odenas.space.scheme.Scheme` for what they mean."""

    zero_stable: NDArray[np.bool_]
    order: NDArray[np.int64]
    error_constant: NDArray[np.float64]
    real_interval: NDArray[np.float64]
    imaginary_interval: NDArray[np.float64]


def properties(states: ArrayLike, slopes: ArrayLike) -> Properties:
    """Return the properties of the methods x_{n+1} = Σ_j states[·, j] x_{n−j} + h Σ_j slopes[·, j] f(x_{n−j}).

    Args:
        states, slopes: shape (n, k) with k from 1 to 5, newest first, as in `Tableau.multistep`.

    Raises:
        OdenasError: the shapes differ or are not (n, k), an entry is not finite, or the states of a method do not
            sum to 1 within 10⁻⁵ (as for a Tableau).
    """
    return Properties(*_by_blocks(_properties, *_methods(states, slopes)))


def feasibility(states: ArrayLike, slopes: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return whether each method is zero-stable, and its order: the first two of `properties`, for less work."""
    stable, order = _by_blocks(_feasibility, *_methods(states, slopes))
    return stable, order


def draw(
    rng: np.random.Generator,
    count: int,
    steps: int,
    order: int,
    reflection: tuple[float, float] = (-0.95, 1.0),
    slope: tuple[float, float] = (-1.0, 1.0),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the states and slopes, both (count, steps), of random zero-stable methods of at least this order.

    Reflection coefficients and free slopes are uniform in the intervals given (`odenas.space.feasible`).

    Raises:
        OdenasError: `count` is negative, `steps` not from 1 to 5, `order` not from 1 to `steps` (first Dahlquist
            barrier), an interval not rising, or `reflection` not within (−1, 1] (both 1 for two steps only).
    """
    if count < 0:
        raise OdenasError(f"`count` is {count!r}, but needs to be 0 or more")
    for name, value, highest in (("steps", steps, MOST_STEPS), ("order", order, steps)):
        if not 1 <= value <= highest:
            raise OdenasError(f"`{name}` is {value!r}, but needs to be from 1 to {highest}")
    if not -1 < reflection[0] <= reflection[1] <= 1 or (reflection[0] == 1 and steps > 2):
        raise OdenasError(
            f"`reflection` is {list(reflection)}, but needs two rising numbers in (−1, 1], both 1 for k = 2"
        )
    if not -math.inf < slope[0] <= slope[1] < math.inf:
        raise OdenasError(f"`slope` is {list(slope)}, but needs two rising finite numbers")
    V = np.ones((steps, count))
    V[:] = states_from_reflections(list(rng.uniform(*reflection, (steps - 1, count))))
    beta = slopes_of_order(list(V), list(rng.uniform(*slope, (steps - order, count))), order)
    return np.ascontiguousarray(V.T), np.ascontiguousarray(np.stack(beta, axis=-1))


def _methods(states: ArrayLike, slopes: ArrayLike) -> tuple[Array, Array]:
    """Return V and β, each (k, n), checked."""
    V, beta = _columns("states", states), _columns("slopes", slopes)
    if V.shape != beta.shape:
        raise OdenasError(f"`slopes` has the shape {beta.T.shape}, but needs that of `states`, {V.T.shape}")
    off = np.flatnonzero(abs(V.sum(axis=0) - 1) > 1e-5)
    if off.size:
        raise OdenasError(f"`states` of method {off[0]} are {V[:, off[0]].tolist()}, but must sum to 1")
    return V, beta


def _by_blocks(measure: Callable[[Array, Array], tuple[Array, ...]], V: Array, beta: Array) -> list[Array]:
    blocks = [
        measure(np.ascontiguousarray(V[:, start : start + BLOCK]), np.ascontiguousarray(beta[:, start : start + BLOCK]))
        for start in range(0, max(V.shape[1], 1), BLOCK)
    ]
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def _properties(V: Array, beta: Array) -> tuple[Array, ...]:
    q = _quotient(V)
    inside = schur(q)
    return _zero_stable(q, inside), *_order(V, beta), *intervals(q, beta, inside)


def _feasibility(V: Array, beta: Array) -> tuple[Array, ...]:
    q = _quotient(V)
    return _zero_stable(q, schur(q)), _order(V, beta)[0]


def _quotient(V: Array) -> Array:
    """Return the coefficients q_j of ρ(ζ) = (ζ − 1) Σ q_j ζ^{k−1−j}, with ρ(1) = 0 however V is rounded."""
    q = np.cumsum(V[::-1], axis=0)[::-1].copy()
    q[0] = 1.0
    return q


def _zero_stable(q: Array, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether ρ satisfies the root condition; where `inside`, all roots of q are known to lie in |ζ| < 1."""
    stable, edge = inside.copy(), np.flatnonzero(~inside)
    stable[edge] = root_condition(q[:, edge]) & (q[:, edge].sum(axis=0) > ON_CIRCLE)
    return stable


def _columns(name: str, values: ArrayLike) -> Array:
    """Return (n, k) values as a contiguous float array (k, n)."""
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise OdenasError(f"`{name}` must be an array of numbers of shape (n, k)") from None
    if rows.ndim != 2 or not 1 <= rows.shape[1] <= MOST_STEPS:
        raise OdenasError(f"`{name}` has the shape {rows.shape}, but needs (n, k) with k from 1 to {MOST_STEPS}")
    if not np.isfinite(rows).all():
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise OdenasError(f"`{name}` of method {first} are {rows[first].tolist()}, but must be finite")
    return np.ascontiguousarray(rows.T)


def _order(V: Array, beta: Array) -> tuple[NDArray[np.int64], Array]:
    """Return order and error constant C_{p+1}/σ(1) from the defects d_q = (1 − Σ V_j (−j)^q)/q − Σ β_j (−j)^{q−1}.

    The order is the number of d_q that vanish before the first that does not (Hairer, Nørsett, Wanner, Solving
    Ordinary Differential Equations I, 2nd ed., III.2, with time counted from t_n), within the tolerance of
    `odenas.space.order.order`.
    """
    k = len(V)
    q = np.arange(1, 2 * k + 1)[:, None]  # no explicit linear k-step method exceeds 2k − 1
    on_states, on_slopes = (-np.arange(k)) ** q / q, (-np.arange(k)) ** (q - 1.0)
    defects = 1 / q - on_states @ V - on_slopes @ beta
    allowed = 16 * q * 2.0**-53 * (abs(on_states) @ abs(V) + abs(on_slopes) @ abs(beta))
    order = np.logical_and.accumulate(abs(defects) <= allowed, axis=0).sum(axis=0)
    first = np.minimum(order, 2 * k - 1)
    sigma, factorial = total(beta), np.array([math.factorial(p) for p in range(2 * k)])
    with np.errstate(divide="ignore", invalid="ignore"):
        constant = np.take_along_axis(defects, first[None], axis=0)[0] / factorial[first] / sigma
    return order, np.where(sigma == 0, np.inf, constant)
