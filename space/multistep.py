"""Explicit linear multistep methods by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError
from odenas.space.feasible import slopes_of_order, states_from_reflections
from odenas.space.order import order
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau, number

FAMILY = "multistep"


def adams_bashforth(steps: int) -> Tableau:
    """Return x ← x + h Σ_j β_j f_j over k steps, of order k."""
    return _of_highest_order([1] + [0] * (steps - 1))


def nystrom(steps: int) -> Tableau:
    """Return x ← x₁ + h Σ_j β_j f_j over k ≥ 2 steps, of order k; ρ has the root −1, so the real interval is 0."""
    return _of_highest_order([0, 1] + [0] * (steps - 2))


def ssp_multistep(steps: int) -> Tableau:
    """Return the k-step method of order 2 whose SSP coefficient (k − 2)/(k − 1) is the largest, k ≥ 3."""
    last = Fraction(1, (steps - 1) ** 2)
    states = [1 - last] + [Fraction(0)] * (steps - 2) + [last]
    return Tableau.multistep(states, (Fraction(steps, steps - 1),))


def two_step(k: float | str = "-1/2", order: int = 2, old: float | str | None = None) -> Scheme:
    """Return x ← (1 − k) x + k x₁ + h (β f + old f₁), where β is such that the order is 1, or both such that it is 2.

    Every explicit 2-step method of positive order is one of these. Of order 2 they have old = (k − 1)/2, the real
    stability interval 1 − k and the normalised error constant (5 − k)/(12 (1 + k)): accuracy against stability.

    Raises:
        OdenasError: `k` is not in (−1, 1], where alone the method is zero-stable, `order` is neither 1 nor 2, or
            `old` is given for order 2, which leaves no slope free.
    """
    weight = Fraction(number("k", k))
    if not -1 < weight <= 1:
        raise OdenasError(f"`k` is {k!r}, but two-step methods are zero-stable only for −1 < k ≤ 1")
    if isinstance(order, bool) or order not in (1, 2):
        raise OdenasError(f"`order` is {order!r}, but must be 1 or 2: Dahlquist's barrier for explicit 2-step methods")
    if order == 2 and old is not None:
        raise OdenasError(f"`old` is {old!r}, but order 2 leaves no slope free; use order=1")
    free = [Fraction(number("old", 0 if old is None else old))] if order == 1 else []
    return _two_step(weight, Coefficients(order=order), free)


def lm(k: float | str = "-1/20", spread: float = 0.05, sharing: str = "step") -> Scheme:
    """Return LM-ResNet's scheme, whose k starts uniform in `k` ± `spread` and learns without a constraint."""
    learned = Coefficients(learning="learned", sharing=sharing, constraint="none", spread=spread)
    return _two_step(Fraction(number("k", k)), learned, [Fraction(0)], scale="absorbed")


def momentum(gamma: float | str = "9/10") -> Scheme:
    """Return Momentum ResNet's scheme: two steps with k = −γ and slope weight 1 − γ, started with x₁ = x (v = 0)."""
    return _two_step(-Fraction(number("gamma", gamma)), Coefficients(), [Fraction(0)], start="copy")


def heavy_ball(beta: float | str = "1/2") -> Scheme:
    """Return the heavy-ball scheme: momentum's k = −β, but with slope weight 1; started with x₁ = x, at rest."""
    k = -Fraction(number("beta", beta))
    return _two_step(k, Coefficients(), [Fraction(0)], scale="absorbed", start="copy")


def _of_highest_order(states: Sequence[int]) -> Tableau:
    """Return the method with these state weights (k) and order k."""
    weights = [Fraction(weight) for weight in states]
    return Tableau.multistep(weights, slopes_of_order(weights, [], len(weights)))


def _fixed(family: Callable[[int], Tableau], steps: int) -> Scheme:
    tableau = family(steps)
    return Scheme(tableau, Coefficients(order=order(tableau)))


def _two_step(
    k: Fraction, coefficients: Coefficients, free: Sequence[Fraction], scale: str = "consistent", start: str = "euler"
) -> Scheme:
    states = states_from_reflections([k])
    slopes = slopes_of_order(states, free, 2 - len(free))
    return Scheme(Tableau.multistep(states, slopes), coefficients, scale=scale, start=start)


# x₁ and f₁ are one step back.
MULTISTEP: dict[str, Entry] = {
    name: Entry(FAMILY, about, make)
    for name, about, make in (
        (
            "euler",
            "Forward Euler, x ← x + f: the residual network (He et al. 2016). Order 1.",
            partial(_fixed, adams_bashforth, 1),
        ),
        (
            "ab2",
            "Adams–Bashforth with 2 steps, x ← x + 3/2 f − 1/2 f₁ (Hairer, Nørsett & Wanner I, III.1). Order 2.",
            partial(_fixed, adams_bashforth, 2),
        ),
        (
            "ab3",
            "Adams–Bashforth with 3 steps, slopes 23/12, −4/3, 5/12 (Hairer, Nørsett & Wanner I, III.1). Order 3.",
            partial(_fixed, adams_bashforth, 3),
        ),
        (
            "ab4",
            "Adams–Bashforth with 4 steps, slopes 55/24, −59/24, 37/24, −3/8 (Hairer, Nørsett & Wanner I, III.1). "
            "Order 4.",
            partial(_fixed, adams_bashforth, 4),
        ),
        (
            "ab5",
            "Adams–Bashforth with 5 steps, slopes 1901/720, −1387/360, 109/30, −637/360, 251/720 "
            "(Hairer, Nørsett & Wanner I, III.1). Order 5.",
            partial(_fixed, adams_bashforth, 5),
        ),
        (
            "midpoint",
            "Explicit midpoint or leapfrog (Nyström, 2 steps), x ← x₁ + 2 f: MidpointNet (Chang et al. 2018). Order 2.",
            partial(_fixed, nystrom, 2),
        ),
        (
            "nystrom3",
            "Nyström with 3 steps, x ← x₁ + 7/3 f − 2/3 f₁ + 1/3 f₂ (Hairer, Nørsett & Wanner I, III.1). Order 3.",
            partial(_fixed, nystrom, 3),
        ),
        (
            "nystrom4",
            "Nyström with 4 steps, x ← x₁ + slopes 8/3, −5/3, 4/3, −1/3 (Hairer, Nørsett & Wanner I, III.1). Order 4.",
            partial(_fixed, nystrom, 4),
        ),
        (
            "nystrom5",
            "Nyström with 5 steps, x ← x₁ + slopes 269/90, −133/45, 49/15, −73/45, 29/90 "
            "(Hairer, Nørsett & Wanner I, III.1). Order 5.",
            partial(_fixed, nystrom, 5),
        ),
        (
            "ssp_multistep3",
            "Strong-stability-preserving, x ← 3/4 x + 1/4 x₂ + 3/2 f (Gottlieb, Shu & Tadmor 2001). Order 2.",
            partial(_fixed, ssp_multistep, 3),
        ),
        (
            "ssp_multistep4",
            "Strong-stability-preserving, x ← 8/9 x + 1/9 x₃ + 4/3 f (Gottlieb, Shu & Tadmor 2001). Order 2.",
            partial(_fixed, ssp_multistep, 4),
        ),
        (
            "ssp_multistep5",
            "Strong-stability-preserving, x ← 15/16 x + 1/16 x₄ + 5/4 f (Gottlieb, Shu & Tadmor 2001). Order 2.",
            partial(_fixed, ssp_multistep, 5),
        ),
        (
            "two_step",
            "All explicit 2-step methods, x ← (1 − k) x + k x₁ + (3 + k)/2 f + (k − 1)/2 f₁ for order 2, else with "
            "1 + k shared by f and f₁ (Hairer, Nørsett & Wanner I, III.3). Order 2.",
            two_step,
        ),
        (
            "lm",
            "LM-ResNet (Lu et al. 2018, eq. 4), x ← (1 − k) x + k x₁ + f, k learned for each step. Order 1.",
            lm,
        ),
        (
            "momentum",
            "Momentum ResNet (Sander et al. 2021, eq. 3), v ← γ v + (1 − γ) f, x ← x + v, v = 0 at first. Order 1.",
            momentum,
        ),
        (
            "heavy_ball",
            "Heavy ball (Polyak 1964), x ← x + β (x − x₁) + f: HB-Net (Li et al. 2018). Order 1.",
            heavy_ball,
        ),
    )
}
