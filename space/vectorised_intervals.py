"""Stability intervals of many explicit linear multistep methods at once, from where the boundary locus meets the axes.

Methods are given in columns, by q = ρ/(ζ − 1) and σ, each (k, n) with the highest power of ζ first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odenas.space.vectorised_polynomials import (
    ON_CIRCLE,
    chebyshev,
    horner,
    lowest,
    real_roots,
    rising,
    root_condition,
    schur,
    times,
    wronskian,
)

Array = NDArray[Any]

VANISHING = 2.0**-40  # what a coefficient that should be 0 may be, relative to the terms it is made of
SHORTEST = {"real": 2.0**-30, "imaginary": 2.0**-16}
NEAR = 2.0**-14  # how far from 0 rounding may put an end that a root of ρ on the circle puts there
DIRECTION = {"real": -1, "imaginary": 1j}  # of z = hλ, along which the interval is measured


def intervals(q: Array, beta: Array, inside: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return the lengths, each (n), of the real and the imaginary stability interval.

    Where `inside` (n), all roots of q lie inside the unit circle. An interval is infinite only where all slopes are 0.
    """
    largest = abs(beta).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)  # so that no product overflows; the intervals are as 1/σ
    q, beta, inside = _reduced(q, beta / scale, inside)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        meeting = _crossings(q, beta)
        real, imaginary = (_interval(axis, q, beta, inside, meeting) / scale for axis in DIRECTION)
    return real, imaginary


def _reduced(q: Array, beta: Array, inside: NDArray[np.bool_]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return the arguments with ζ instead of a factor ζ + 1 that ρ and σ share, whose root −1 stays where it is.

    Beside it on the circle, rounding would hide what other roots do. Where they share it twice it is left as it is,
    for a double root is unstable.
    """
    rows = np.flatnonzero(_vanishing(q) & _vanishing(beta))
    if rows.size:
        signs = (-1.0) ** np.arange(len(q))[:, None]
        ours, theirs = (np.cumsum(p[:, rows] * signs, axis=0) * signs for p in (q, beta))  # divided by ζ + 1
        ours[-1] = theirs[-1] = 0
        # A factor ζ has no part in whether the rest vanishes at −1.
        once = ~(_vanishing(ours) & _vanishing(theirs))
        rows = rows[once]
        q, beta, inside = q.copy(), beta.copy(), inside.copy()
        q[:, rows], beta[:, rows], inside[rows] = ours[:, once], theirs[:, once], schur(ours[:, once])
    return q, beta, inside


def _vanishing(p: Array) -> NDArray[np.bool_]:
    """Return which polynomials (columns, highest power first) vanish at −1, within rounding."""
    signs = (-1.0) ** np.arange(len(p))[:, None]
    vanishing: NDArray[np.bool_] = abs((p * signs).sum(axis=0)) <= VANISHING * abs(p).sum(axis=0)
    return vanishing


def _interval(axis: str, q: Array, beta: Array, inside: NDArray[np.bool_], meeting: dict[str, Array]) -> Array:
    """Return the end of the stable stretch of `axis` that begins at 0."""
    crossing = meeting[axis]
    s = real_roots(crossing)
    along = np.flatnonzero(~crossing.any(axis=0))
    if along.size:  # z keeps to the axis: roots leave the circle where two of them meet, and there z turns back
        turning = real_roots(_turning(axis, beta[:, along], {name: p[:, along] for name, p in meeting.items()}))
        more = np.full((len(turning), s.shape[1]), np.nan)
        more[:, along] = turning
        s = np.concatenate([s, more])
    stable, ends = _at_first(axis, q, beta, inside, crossing, _ends(axis, q, beta, s))
    found = _first_unstable(axis, q, beta, stable, ends)
    return np.where(found < SHORTEST[axis], 0.0, found)


def _crossings(q: Array, beta: Array) -> dict[str, Array]:
    """Return polynomials in s = 1 − cos θ (columns, constant first) whose roots in (0, 2) are where z meets an axis.

    With ζ = e^{iθ} the boundary locus is z = ρ(ζ)/σ(ζ) (Hairer, Wanner, Solving Ordinary Differential Equations II,
    2nd ed., V.1), and |σ|² z = ρσ̄ = −s·I(s) + i sin θ·R(s): R meets the real axis, I the imaginary one. From
    q σ̄ = Σ_d h_d e^{idθ} = W + i sin θ S, with W = Σ (h_d + h_{−d}) T_d, S = Σ (h_d − h_{−d}) U_{d−1} of cos θ, and
    ρ = (ζ − 1) q follow R = W − sS and I = W + (2 − s)S. No division by a small number occurs, and the order p shows
    as ⌊p/2⌋ lowest coefficients of I that vanish.
    """
    k = len(q)
    forward = [(q[: k - d] * beta[d:]).sum(axis=0) for d in range(k)]
    backward = [(q[d:] * beta[: k - d]).sum(axis=0) for d in range(k)]
    T, U = chebyshev(k)
    W = T.T @ np.stack([forward[0], *(a + b for a, b in zip(forward[1:], backward[1:], strict=True))])
    S = np.zeros_like(W)
    if k > 1:
        S[:-1] = U.T @ np.stack([a - b for a, b in zip(forward[1:], backward[1:], strict=True)])
    shifted = np.concatenate([np.zeros_like(S[:1]), S[:-1]])
    size = abs(q).sum(axis=0) * abs(beta).sum(axis=0)
    found = {"real": W - shifted, "imaginary": W + 2 * S - shifted}
    return {axis: np.where(abs(p) <= VANISHING * size, 0.0, p) for axis, p in found.items()}


def _turning(axis: str, beta: Array, meeting: dict[str, Array]) -> Array:
    """Return the polynomial in s whose roots are where dz/dθ = 0, for z that keep to the axis.

    With N = |σ|², z is i sin θ·R/N on the imaginary axis and −s·I/N on the real one, and ds/dθ = sin θ.
    """
    k = len(beta)
    N = chebyshev(k)[0].T @ np.stack([(2 if d else 1) * (beta[: k - d] * beta[d:]).sum(axis=0) for d in range(k)])
    if axis == "real":
        return wronskian(times(meeting["imaginary"], np.array([[0.0], [1.0]])), N)
    R = meeting["real"]
    return times(times(R, N), np.array([[1.0], [-1.0]])) + times(wronskian(R, N), np.array([[0.0], [2.0], [-1.0]]))


def _ends(axis: str, q: Array, beta: Array, s: Array) -> Array:
    """Return the distances along `axis` at which z crosses it, rising, then infinity."""
    beyond = -s + 1j * np.sqrt(s * (2 - s))  # ζ − 1
    z = beyond * horner(q, 1 + beyond) / horner(beta, 1 + beyond)
    distances = abs(z.imag) if axis == "imaginary" else np.concatenate([-z.real, _real_points(q, beta)])
    ends = rising(np.where(distances > 0, distances, np.inf))
    return np.concatenate([ends, np.full((1, q.shape[1]), np.inf)])


def _real_points(q: Array, beta: Array) -> Array:
    """Return −z (2, n) where ζ = −1, which makes z real, and where ζ = 1, which does if ρ and σ share this root.

    What they share divides out: there the ratio is that of the derivatives, and another root may pass.
    """
    powers = np.arange(len(q))[::-1, None]
    signs = 1 - powers % 2 * 2  # ζᵖ at ζ = −1
    last = 2 * (q * signs).sum(axis=0) / (beta * signs).sum(axis=0)
    first = np.where(total(beta) == 0, -q.sum(axis=0) / (beta * powers).sum(axis=0), 0.0)
    return np.stack([last, first])


def _at_first(
    axis: str, q: Array, beta: Array, inside: NDArray[np.bool_], crossing: Array, ends: Array
) -> tuple[NDArray[np.bool_], Array]:
    """Return whether each method is stable between 0 and the first of `ends`, and `ends` without those that are 0.

    Where all roots but ζ = 1 are inside the circle, that one decides. It goes as 1 + z σ(1)/q(1), hence inwards along
    the negative real axis if σ(1) > 0. Along the imaginary axis it stays inside if the locus, which there moves up
    for σ(1) > 0 and has the inside of the circle on its left, lies to the right of the axis: −s·I(s) σ(1) > 0. For
    the rest a point between 0 and the first end decides too.
    """
    sum_, growth = total(beta), lowest(crossing)
    principal = sum_ > 0 if axis == "real" else growth * sum_ < 0
    stable: NDArray[np.bool_] = inside & principal
    rest = np.flatnonzero(~inside | (sum_ == 0))
    if rest.size:
        # A root of ρ on the circle puts an end at 0, which rounding moves.
        own = rising(np.where(ends[:, rest] < NEAR, np.inf, ends[:, rest]))
        first = np.minimum.reduce(own, axis=0, initial=2.0)
        simple = (sum_[rest] != 0) & (growth[rest] != 0) & (q[:, rest].sum(axis=0) > ON_CIRCLE)
        stable[rest] = _stable_at(axis, first / 2, q[:, rest], beta[:, rest]) & (principal[rest] | ~simple)
        ends[:, rest] = own
    return stable, ends


def _first_unstable(axis: str, q: Array, beta: Array, stable: NDArray[np.bool_], ends: Array) -> Array:
    """Return the first of `ends` beyond which the method is unstable; 0 where it is not even `stable` before it."""
    found = np.where(stable, np.inf, 0.0)
    rows = np.flatnonzero(stable)
    for end, following in pairwise(ends):
        found[rows] = end[rows]
        # Beyond its last end an explicit method is unstable, for a root goes to infinity with z.
        rows = rows[np.isfinite(following[rows])]
        rows = rows[_stable_at(axis, (end[rows] + following[rows]) / 2, q[:, rows], beta[:, rows])]
    return found


def _stable_at(axis: str, distance: Array, q: Array, beta: Array) -> NDArray[np.bool_]:
    """Return whether ρ − zσ satisfies the root condition at this distance along `axis`."""
    none = np.zeros_like(q[:1])
    rho, sigma = np.concatenate([q, none]) - np.concatenate([none, q]), np.concatenate([none, beta])
    return root_condition(rho - DIRECTION[axis] * distance * sigma)


def total(beta: Array) -> Array:
    """Return σ(1), as 0 where rounding hides it."""
    value = beta.sum(axis=0)
    return np.where(abs(value) <= 2.0**-49 * abs(beta).sum(axis=0), 0.0, value)
