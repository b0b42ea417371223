"""The named schemes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from odenas.space.errors import OdenasError, unknown
from odenas.space.feasible import slopes_of_order, states_from_reflections
from odenas.space.scheme import Coefficients, Scheme, Stochasticity
from odenas.space.tableau import Tableau, number


def _adams_bashforth(steps: int) -> Scheme:
    states = [Fraction(1)] + [Fraction(0)] * (steps - 1)
    return Scheme(Tableau.multistep(states, slopes_of_order(states, [], steps)), Coefficients(order=steps))


def euler() -> Scheme:
    """Forward Euler, x ← x + f(x): the residual network (He et al. 2016). Order 1."""
    return _adams_bashforth(1)


def lm(k: float | str = "-1/20", spread: float = 0.05, sharing: str = "step") -> Scheme:
    """LM-ResNet (Lu et al. 2018, eq. 4), x ← (1 − k) x + k x_prev + f(x), k learned for each step. Order 1.

    As in the paper, k starts uniform in `k` ± `spread`, [−0.1, 0] by default, and learns without a constraint.
    """
    states = states_from_reflections([Fraction(number("k", k))])
    return Scheme(
        Tableau.multistep(states, slopes_of_order(states, [Fraction(0)], 1)),
        Coefficients(learning="learned", sharing=sharing, constraint="none", spread=spread),
        scale="absorbed",
    )


def midpoint() -> Scheme:
    """Explicit midpoint or leapfrog (Nyström, k = 2), x ← x_prev + 2 f(x): MidpointNet (Chang et al. 2018). Order 2."""
    return Scheme(Tableau.multistep((0, 1), (2,)), Coefficients(order=2))


def ab2() -> Scheme:
    """Adams–Bashforth with 2 steps, x ← x + 3/2 f(x) − 1/2 f(x_prev) (Hairer, Nørsett & Wanner I, III.1). Order 2."""
    return _adams_bashforth(2)


def ab3() -> Scheme:
    """Adams–Bashforth with 3 steps, slope weights 23/12, −4/3, 5/12 (Hairer, Nørsett & Wanner I, III.1). Order 3."""
    return _adams_bashforth(3)


def momentum(gamma: float | str = "9/10") -> Scheme:
    """Momentum ResNet (Sander et al. 2021, eq. 3), v ← γ v + (1 − γ) f(x), x ← x + v, with v = 0 at first. Order 1.

    As a two-step method: k = −γ and slope weight 1 − γ, started with x_prev = x.
    """
    k = -Fraction(number("gamma", gamma))
    states = states_from_reflections([k])
    return Scheme(Tableau.multistep(states, slopes_of_order(states, [Fraction(0)], 1)), start="copy")


CATALOGUE: dict[str, Callable[..., Scheme]] = {
    "euler": euler,
    "lm": lm,
    "midpoint": midpoint,
    "ab2": ab2,
    "ab3": ab3,
    "momentum": momentum,
}


def schemes() -> list[str]:
    """Return the names of the catalogue."""
    return list(CATALOGUE)


def scheme(name: str, **parameters: Any) -> Scheme:
    """Return the named scheme; `parameters` are those of its function in this module, such as `gamma` of "momentum".

    Raises:
        OdenasError: the name is not in the catalogue, or it has no such parameter.
    """
    if not isinstance(name, str) or name not in CATALOGUE:
        raise unknown("scheme", name, CATALOGUE)
    valid = inspect.signature(CATALOGUE[name]).parameters
    for parameter in parameters:
        if parameter not in valid:
            known = f"but it has {', '.join(valid)}" if valid else "but it has none"
            raise OdenasError(f"`{parameter}` is no parameter of the scheme {name!r}, {known}")
    return CATALOGUE[name](**parameters)


def describe(value: Scheme) -> str:
    """Return the name of a scheme of the catalogue, or its step in symbols, with what is added to it.

    For example "lm", "1.9x − 0.9x₁ + f" or "euler, drop 0.2"; x₁ and f₁ are one step back.
    """
    plain = replace(value, stochasticity=Stochasticity())
    named = [name for name, make in CATALOGUE.items() if make() == plain]
    parts = [named[0] if named else _formula(value)]
    if not named and value.coefficients.learning == "learned":
        per = {"shared": "learned", "step": "learned per step", "channel": "learned per channel"}
        parts.append(per[value.coefficients.sharing] + ("" if value.coefficients.constraint == "none" else ", stable"))
    if value.stochasticity.kind == "depth":
        parts.append(f"drop {value.stochasticity.rate:g}")
    return ", ".join(parts)


def _formula(value: Scheme) -> str:
    tableau = value.applied
    if not tableau.is_multistep:
        return f"{tableau.stages} stage(s), {tableau.steps} step(s), order {value.order}"
    weights = [("x", tableau.V), ("f", tableau.slopes)]
    text = ""
    for symbol, row in weights:
        for j, weight in enumerate(row):
            if weight != 0:
                size = "" if abs(weight) == 1 else f"{abs(float(weight)):.3g}"
                sign = ("−" if weight < 0 else "") if not text else (" − " if weight < 0 else " + ")
                text += sign + size + symbol + ("" if j == 0 else chr(ord("₀") + j))
    return text
