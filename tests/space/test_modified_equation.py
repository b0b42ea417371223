"""The modified equation, against closed forms and against what methods do to linear and non-linear problems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from odenas.space import OdenasError, Scheme, Tableau, scheme, schemes
from odenas.space.integrate import integrate
from odenas.space.modified_equation import modified_equation
from odenas.space.order import error_constant, order
from odenas.space.stability_polynomial import stability_polynomial

Array = NDArray[Any]

KS = [Fraction(n, 10) for n in (-9, -5, -1, 0, 3, 7)]


def two_step(k: Fraction, before: Fraction | int = 0, scale: Fraction | int | None = None) -> Tableau:
    """Return (1 − k) x_n + k x_{n−1} with the slope weight `before` of f(x_{n−1}); consistent, or of sum `scale`."""
    total = 1 + k if scale is None else Fraction(scale)
    return Tableau.multistep((1 - k, k), (total * (1 - before / (1 + k)), total * before / (1 + k)))


def scaled(tableau: Tableau, scale: Fraction | int) -> Tableau:
    """Return `tableau` for the field f/`scale`: the same method."""

    def row(weights: Any) -> Any:
        return tuple(scale * weight for weight in weights)

    A, W = (tuple(map(row, part)) for part in (tableau.A, tableau.W))
    return replace(tableau, B=row(tableau.B), R=row(tableau.R), A=A, W=W)


def two_step_runge_kutta() -> Tableau:
    """Return a consistent tableau with all parts in use and a first stage other than x_n."""
    parts: dict[str, Any] = {
        "V": ("3/4", "1/4"),
        "B": ("1/2", "1/2"),
        "R": ("1/4",),
        "U": (("7/8", "1/8"), ("3/2", "-1/2")),
        "W": (("1/3",), ("-1/4",)),
        "A": ((0, 0), ("1/2", 0)),
    }
    return Tableau(**parts)


METHODS = {
    "euler": Tableau.multistep((1,), (1,)),
    **{f"two-step, k = {k}": two_step(k) for k in KS},
    **{f"two-step with old slope, k = {k}": two_step(k, Fraction(1, 3)) for k in KS},
    "three-step": Tableau.multistep(("1/2", "1/4", "1/4"), ("5/4", "1/4", "1/4")),
    "first order, two stages": Tableau.runge_kutta(((0, 0), ("1/3", 0)), ("1/2", "1/2")),
    "poly-2": Tableau.runge_kutta(((0, 0), (1, 0)), (0, 1)),
    "two-step Runge–Kutta": two_step_runge_kutta(),
}


@pytest.mark.parametrize("k", KS)
def test_two_step_methods_in_closed_form(k: Fraction) -> None:
    """Drag 1 + k and inertia (1 − k)/2, whatever the scale of the slopes; plus the weight of the older slope."""
    for scale in (None, 1, Fraction(7, 3)):
        assert modified_equation(two_step(k, scale=scale)) == (1 + k, (1 - k) / 2, (1 - k) / 2 / (1 + k))
    before = Fraction(2, 7)
    assert modified_equation(two_step(k, before))[:2] == (1 + k, (1 - k) / 2 + before)
    assert modified_equation(two_step(k, (k - 1) / 2)).ratio == 0


@pytest.mark.parametrize(("k", "ratio"), [("0", 0.5), ("-1/10", 0.611), ("-1/2", 1.5), ("-9/10", 9.5), ("1", 0)])
def test_more_momentum_means_more_inertia(k: str, ratio: float) -> None:
    assert float(modified_equation(two_step(Fraction(k))).ratio) == pytest.approx(ratio, abs=4e-4)


@pytest.mark.parametrize("name", METHODS)
def test_the_ratio_is_the_error_constant_of_order_one(name: str) -> None:
    equation, tableau = modified_equation(METHODS[name]), METHODS[name]
    assert order(tableau) == 1
    assert isinstance(equation.ratio, Fraction)
    assert float(equation.ratio) == pytest.approx(error_constant(tableau), rel=1e-14)


def answered() -> dict[str, tuple[Scheme, Tableau]]:
    """Return the schemes of the catalogue that are methods for x' = f whose stages lie on the solution."""
    found = {}
    for name in schemes():
        value, tableau = scheme(name), scheme(name).tableau
        if not isinstance(tableau, Tableau) or tableau.derivative != 1:
            continue
        if all(abs(float(sum(U)) - 1) < 1e-9 for U in tableau.U):
            found[name] = value, tableau
    return found


@pytest.mark.parametrize("name", answered())
def test_the_catalogue(name: str) -> None:
    """No inertia from order 2 on, and C₂/σ(1) before; drag σ(1); and the same for the slopes as a network scales them.

    `applied` has slopes whose weights sum to 1 where the scale is absorbed.
    """
    value, tableau = answered()[name]
    drag, inertia, ratio = modified_equation(tableau)
    assert drag == pytest.approx(float(sum(tableau.slopes)), rel=1e-12)
    assert ratio == (0 if value.order > 1 else pytest.approx(value.error_constant, rel=1e-12))
    assert inertia == (0 if value.order > 1 else pytest.approx(float(drag * ratio), rel=1e-12))
    applied = [float(entry) for entry in modified_equation(value.applied)]
    assert applied == pytest.approx([float(drag), float(inertia), float(ratio)], rel=1e-12)


def test_any_scale_of_the_field_gives_the_same_equation() -> None:
    equation = modified_equation(two_step_runge_kutta())
    assert modified_equation(scaled(two_step_runge_kutta(), Fraction(3, 5))) == equation
    assert modified_equation(scaled(two_step_runge_kutta(), -2)) == equation


def principal_root(tableau: Tableau, z: complex, guess: complex) -> complex:
    rows = [np.polyval([float(c) for c in row[::-1]], z) for row in stability_polynomial(tableau)]
    roots = np.roots(rows[::-1])
    return complex(roots[abs(roots - guess).argmin()])


@pytest.mark.parametrize("scale", [1, Fraction(3, 2)])
@pytest.mark.parametrize("name", METHODS)
def test_linear_problems_to_second_order(name: str, scale: Fraction) -> None:
    """On u' = λu smooth solutions are ζ₁(hλ)ⁿ, and those of the equation exp(μ n h), also for a field out of scale."""
    tableau, lam = scaled(METHODS[name], scale), complex(-0.6, 0.8)
    equation, total = modified_equation(tableau), float(sum(tableau.slopes))
    drag, inertia = float(equation.drag), float(equation.inertia)
    missed, plain = [], []
    for h in (2.0**-9, 2.0**-10):
        slow = np.roots([inertia * h, drag, -total * lam])
        mu = slow[abs(slow).argmin()]
        seen = np.log(principal_root(tableau, h * lam, np.exp(mu * h))) / h
        missed.append(abs(seen - mu))
        plain.append(abs(seen - total * lam / drag))
    assert math.log2(plain[0] / plain[1]) == pytest.approx(1, abs=0.15)
    assert math.log2(missed[0] / missed[1]) == pytest.approx(2, abs=0.15)


# f, (x, v) -> f'(x) v, and x0
PROBLEMS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array], list[float]]] = {
    "logistic": (lambda x: x * (1 - x), lambda x, v: (1 - 2 * x) * v, [0.2]),
    "pendulum": (
        lambda x: np.array([x[1], -np.sin(x[0])]),
        lambda x, v: np.array([v[1], -np.cos(x[0]) * v[0]]),
        [1, 0.5],
    ),
}


def followed(problem: str, weight: float) -> Array:
    """Return the solution at t = 1 of u' = f − weight·f'f."""
    f, along, x0 = PROBLEMS[problem]
    path = solve_ivp(lambda t, x: f(x) - weight * along(x, f(x)), (0, 1), x0, "DOP853", rtol=1e-12, atol=1e-13)
    return np.asarray(path.y[:, -1])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", [name for name in METHODS if "-9/10" not in name])
def test_non_linear_problems_to_second_order(name: str, problem: str) -> None:
    """With u'' = f'(u) f(u) to leading order the equation reads u' = f − ratio·h·f'f."""
    f, _, x0 = PROBLEMS[problem]
    tableau, ratio = METHODS[name], float(modified_equation(METHODS[name]).ratio)
    missed: list[float] = []
    plain: list[float] = []
    for level in (8, 9):
        h = 2.0**-level
        end = integrate(tableau, lambda t, x: f(x), x0, h, 2**level)[-1]
        for errors, weight in ((missed, ratio * h), (plain, 0.0)):
            errors.append(float(abs(end - followed(problem, weight)).max()))
    assert math.log2(plain[0] / plain[1]) == pytest.approx(1, abs=0.2)
    assert math.log2(missed[0] / missed[1]) > 1.8
    assert missed[1] < plain[1] / 10


def test_no_drag_leaves_a_second_order_equation() -> None:
    """Störmer–Verlet, x_{n+1} = 2x_n − x_{n−1} + h f, as a method for h u'' = f."""
    equation = modified_equation(Tableau.multistep((2, -1), (1,)))
    assert equation == (0, 1, math.inf)


def test_floats_stay_floats() -> None:
    equation = modified_equation(Tableau.multistep((1.1, -0.1), (0.9,)))
    assert isinstance(equation.drag, float)
    assert equation.drag == pytest.approx(0.9)
    assert equation.inertia == pytest.approx(0.55)


def test_what_has_no_modified_equation_is_refused() -> None:
    with pytest.raises(OdenasError, match="`B` and `R` sum to 0"):
        modified_equation(Tableau.multistep((1,), (1, -1)))
    with pytest.raises(OdenasError, match="a modified equation needs a Tableau"):
        modified_equation(scheme("stormer_verlet").tableau)
    with pytest.raises(OdenasError, match="`derivative` is 2"):
        modified_equation(Tableau.multistep((2, -1), (1,), derivative=2))
    with pytest.raises(OdenasError, match="`U` sums to 2 in row 1"):
        modified_equation(Tableau(V=(1,), B=(1, 1), U=((1,), (2,))))
