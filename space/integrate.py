"""Numpy reference for what a tableau does to x' = f(t, x)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatch
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError, unknown
from odenas.space.method import Method, no_method
from odenas.space.tableau import Number, Tableau

Array = NDArray[Any]
Field = Callable[[float, Array], ArrayLike]

STARTS = {
    "rk4": "classic Runge–Kutta steps of order 4, which hide no order up to 5, or 4 for x'' = f",
    "euler": "forward Euler steps; for x'' = f semi-implicit ones, v ← v + h f(x), x ← x + h v",
    "copy": "none: earlier states equal the first state, earlier slopes the first slope",
}
EULER = Tableau.multistep((1,), (1,))
RK4 = Tableau.runge_kutta(
    ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
)


@singledispatch
def integrate(
    method: Method,
    f: Field,
    x0: ArrayLike,
    h: float,
    n: int,
    start: str = "rk4",
    t0: float = 0.0,
    v0: ArrayLike | None = None,
) -> Array:
    """Return n steps of size h of x' = f(t, x) from x(t0) = x0, shape (n + 1, *x0.shape); row 0 is x0.

    Every kind of method registers its own (`functools.singledispatch`). Real x0 is integrated in float64, complex x0
    in complex128. `start`, one of STARTS, says how the steps are made for which there is no history yet. `v0` is for
    methods for x'' = f(t, x) alone: the initial velocity x'(t0), of x0's shape, 0 if not given.

    Raises:
        OdenasError: `h` or `t0` is not finite, `n` is no integer ≥ 0, `start` is unknown, `x0` is not numeric, f
            returns another shape than x0's or complex values for a real x0, or `v0` does so or has no place: for
            x' = f, or where copied states say what the velocity is.
    """
    raise no_method(method, "integration")


@integrate.register(Tableau)
def _by_tableau(
    tableau: Tableau,
    f: Field,
    x0: ArrayLike,
    h: float,
    n: int,
    start: str = "rk4",
    t0: float = 0.0,
    v0: ArrayLike | None = None,
) -> Array:
    """Return n steps by a general linear method, or of x'' = f by a multistep method for it.

    The first k − 1 steps are made as `start` says. The slopes kept from a start-up are those at the time of the
    tableau's first stage, reached from the step's own state by the start-up method; a step's first slope is evaluated
    once and then kept. With "euler" the order seen is at most 2 (Hairer, Nørsett, Wanner, Solving Ordinary
    Differential Equations I, 2nd ed., III.4: starting values need order p − 1); for x'' = f, whose errors at the start
    grow with 1/h, it is at most 1, as with "copy".
    """
    x, h, n, t0 = checked(x0, h, n, start, t0)
    if v0 is not None and (tableau.derivative == 1 or start == "copy"):
        raise OdenasError(f"`v0` is {v0!r}, but needs a method for x'' = f and another `start` than copy")
    history, scale = tableau.steps - 1, h**tableau.derivative
    path = np.empty((n + 1, *x.shape), x.dtype)
    path[0] = x

    def slope(t: float, y: Array) -> Array:
        return scale * value("f", f(t, y.copy()), y)  # f may write into its argument

    states, slopes, made = [x], [], 0
    if start == "copy" and n > 0 and history > 0:
        states, slopes = [x] * tableau.steps, [slope(t0, x)] * history
    elif start != "copy":
        made, method = min(history, n), RK4 if start == "rk4" else EULER
        rise = h * value("v0", np.zeros_like(x) if v0 is None else v0, x)
        c = float(tableau.abscissae[0])
        for i in range(made):
            t = t0 + i * h
            y = states[0] if c == 0 else _step(method, lambda s, v: c * slope(s, v), [states[0]], [], t, c * h)[0]
            slopes.insert(0, slope(t + c * h, y))
            if tableau.derivative == 1:
                x = _step(method, slope, states[:1], [], t, h)[0]
            elif method is RK4:
                x, rise = _step(
                    RK4, lambda s, pair: np.stack([pair[1], slope(s, pair[0])]), [np.stack([x, rise])], [], t, h
                )[0]
            else:
                rise = rise + slopes[0]
                x = x + rise
            states.insert(0, x)
            path[i + 1] = x
    for i in range(made, n):
        x, first = _step(tableau, slope, states, slopes, t0 + i * h, h)
        states, slopes = [x, *states[:history]], [first, *slopes][:history]
        path[i + 1] = x
    return path


def checked(x0: ArrayLike, h: float, n: int, start: str, t0: float) -> tuple[Array, float, int, float]:
    """Return x0 as an array of float64 or complex128, h, n and t0, if all are what `integrate` needs.

    Raises:
        OdenasError: one of them is not, or `start` is none of STARTS.
    """
    if not isinstance(start, str) or start not in STARTS:
        raise unknown("start", start, STARTS)
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 0:
        raise OdenasError(f"`n` is {n!r}, but must be an integer of at least 0")
    return _state(x0), _finite("h", h), int(n), _finite("t0", t0)


def value(field: str, given: ArrayLike, like: Array) -> Array:
    """Return what `field` gave as an array, if it fits the state `like` in shape and type.

    Raises:
        OdenasError: it does not.
    """
    array = np.asarray(given)
    if array.shape != like.shape:
        raise OdenasError(f"`{field}` has the shape {array.shape}, but needs {like.shape}, the shape of `x0`")
    if not np.can_cast(array.dtype, like.dtype, "same_kind"):
        raise OdenasError(f"`{field}` has {array.dtype}, but needs {like.dtype}; give `x0` in a type that holds both")
    return array


def _step(
    tableau: Tableau,
    slope: Callable[[float, Array], Array],
    states: Sequence[Array],
    past: Sequence[Array],
    t: float,
    h: float,
) -> tuple[Array, Array]:
    """Return x_{n+1} and F_n, from the states and the past slopes, both newest first."""
    slopes: list[Array] = []
    for U, W, A, c in zip(tableau.U, tableau.W, tableau.A, tableau.abscissae, strict=True):
        y = _combine((*U, *W, *A[: len(slopes)]), (*states, *past, *slopes))
        slopes.append(slope(t + float(c) * h, y))
    return _combine((*tableau.V, *tableau.R, *tableau.B), (*states, *past, *slopes)), slopes[0]


def _combine(weights: Iterable[Number], arrays: Sequence[Array]) -> Array:
    total = np.zeros_like(arrays[0])
    for weight, array in zip(weights, arrays, strict=True):
        if weight:
            total = total + float(weight) * array
    return total


def _state(x0: ArrayLike) -> Array:
    try:
        x = np.array(x0)
    except ValueError:
        x = np.array(None)
    if x.dtype.kind not in "iufc":
        raise OdenasError(f"`x0` is {x0!r}, but must be an array of numbers")
    return x.astype(np.result_type(x, np.float64))


def _finite(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise OdenasError(f"`{field}` is {value!r}, but must be a finite real number")
    return float(value)
