"""Numpy reference for what an implicit multistep method does to x' = f(t, x): every step solved by Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError
from odenas.space.implicit import ImplicitMultistep
from odenas.space.integrate import RK4, Array, Field, checked, integrate, value

__all__ = ["ImplicitMultistep"]

ITERATIONS = 50
ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""A residual of this share of the terms that it is the difference of counts as none."""


@integrate.register(ImplicitMultistep)
def _by_implicit(
    method: ImplicitMultistep,
    f: Field,
    x0: ArrayLike,
    h: float,
    n: int,
    start: str = "rk4",
    t0: float = 0.0,
    v0: ArrayLike | None = None,
) -> Array:
    """Return n steps by an implicit multistep method; with the start "euler" the first k − 1 are by backward Euler.

    Each solves x = c + h b₀ f(t, x), with a Jacobian by differences: for the few numbers of a test.

    Raises:
        OdenasError: as `integrate` does, or a step has no solution that Newton's method finds.
    """
    x, h, n, t0 = checked(x0, h, n, start, t0)
    if v0 is not None:
        raise OdenasError(f"`v0` is {v0!r}, but an implicit method is for x' = f, without an initial velocity")
    k = method.steps
    path = np.empty((n + 1, *x.shape), x.dtype)
    path[0] = x

    def slope(t: float, y: Array) -> Array:
        return h * value("f", f(t, y.copy()), y)  # f may write into its argument

    states, slopes = [x], [slope(t0, x)]
    if start == "copy":
        states, slopes = states * k, slopes * k
    for i in range(n):
        t = t0 + (i + 1) * h
        if len(states) == k:
            a, (b, *past) = ([float(weight) for weight in row] for row in (method.states, method.slopes))
            c = sum((w * y for w, y in zip([*a, *past], [*states, *slopes], strict=True)), np.zeros_like(x))
            x = _solution(lambda y, at=t: slope(at, y), c, b, states[0])  # type: ignore[misc]
        elif start == "euler":
            x = _solution(lambda y, at=t: slope(at, y), states[0], 1.0, states[0])  # type: ignore[misc]
        else:
            x = integrate(RK4, f, x, h, 1, t0=t - h)[1]
        states, slopes = [x, *states][:k], [slope(t, x), *slopes][:k]
        path[i + 1] = x
    return path


def _solution(slope: Callable[[Array], Array], c: Array, weight: float, guess: Array) -> Array:
    """Return the x with x = c + weight · slope(x) that Newton's method finds from a guess."""

    def numbers(y: Array) -> NDArray[Any]:
        return y.reshape(-1).view(np.float64)

    x = np.ascontiguousarray(guess).copy()
    for _ in range(ITERATIONS):
        there = weight * slope(x)
        residual = x - c - there
        if np.linalg.norm(residual) <= ROUNDING * sum(np.linalg.norm(part) for part in (x, c, there)):
            return x
        jacobian = np.empty((numbers(x).size,) * 2)
        for j in range(len(jacobian)):
            near = x.copy()
            numbers(near)[j] += (step := 1e-7 * max(1.0, abs(float(numbers(x)[j]))))
            jacobian[:, j] = numbers(np.ascontiguousarray(near - weight * slope(near) - x + there)) / step
        try:
            numbers(x)[:] -= np.linalg.solve(jacobian, numbers(np.ascontiguousarray(residual)))
        except np.linalg.LinAlgError:
            break
    raise OdenasError(f"`h` makes an implicit step that was not solved in {ITERATIONS} iterations; take a smaller one")
