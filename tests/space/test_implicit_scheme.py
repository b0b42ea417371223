"""Implicit methods as schemes: values like the others, whose steps the numpy reference solves."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space import OdenasError, Scheme, SearchSpace, Tableau, describe, scheme, schemes
from odenas.space.blocks import Blocks
from odenas.space.coefficients import Coefficients
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.integrate import integrate
from odenas.space.stochasticity import Stochasticity

Array = NDArray[Any]
NAMES = pytest.mark.parametrize("name", IMPLICIT)


def errors(method: ImplicitMultistep, start: str, levels: tuple[int, ...]) -> list[float]:
    """Return the errors at t = 1 with 2^level steps; x = sin t and, beside, a logistic one."""

    def f(t: float, x: Array) -> Array:
        return np.array([x[0] * (1 - x[0]) + np.cos(t) - np.sin(t) * (1 - np.sin(t)), x[1] * (1 - x[1])])

    found = []
    for level in levels:
        path = integrate(method, f, np.array([0.0, 0.25]), 2.0**-level, 2**level, start=start)
        exact = np.array([np.sin(1.0), 1 / (1 + 3 * np.exp(-1.0))])
        found.append(float(np.abs(path[-1] - exact).max()))
    return found


@NAMES
def test_the_order_seen_is_the_order_proved(name: str) -> None:
    method = implicit(name)
    levels = (4, 5) if method.order > 4 else (6, 7)
    coarse, fine = errors(method, "rk4", levels)
    expected = min(method.order, 5)  # Runge–Kutta steps at the start are of order 5 each
    assert np.log2(coarse / fine) > expected - 0.35
    if method.order < 5:
        assert np.log2(coarse / fine) == pytest.approx(method.order, abs=0.35)


def test_backward_euler_at_the_start_lowers_the_order_to_two() -> None:
    for name, order in (("backward_euler", 1), ("trapezoid", 2), ("bdf2", 2), ("bdf4", 2)):
        coarse, fine = errors(implicit(name), "euler", (7, 8))
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@NAMES
@pytest.mark.parametrize("start", ["rk4", "euler", "copy"])
def test_every_step_is_the_methods_own(name: str, start: str) -> None:
    """Σ states x + h Σ slopes f, with f evaluated at the states returned; a stiff problem among them."""
    method = implicit(name)
    decay = 100 if start == "euler" and name in ("backward_euler", "trapezoid", "bdf2", "bdf3") else 1
    path = scheme(name).integrate(lambda t, x: -decay * x**3 + t, [1.0, -2.0], 0.1, 8, start=start)
    slopes = np.array([0.1 * (-decay * x**3 + 0.1 * i) for i, x in enumerate(path)])
    for n in range(method.steps - 1, 8):
        states = sum(float(a) * path[n - j] for j, a in enumerate(method.states))
        expected = states + sum(float(b) * slopes[n + 1 - j] for j, b in enumerate(method.slopes))
        assert path[n + 1] == pytest.approx(expected, rel=1e-11, abs=1e-11)
    if start == "euler" and method.steps > 1:
        assert path[1] == pytest.approx(path[0] + slopes[1], rel=1e-11)


def test_complex_states_and_shapes() -> None:
    path = scheme("trapezoid").integrate(lambda t, x: 2j * x, np.ones((2, 1), complex), 0.5, 3)
    assert path == pytest.approx(np.power((1 + 0.5j) / (1 - 0.5j), np.arange(4))[:, None, None] * np.ones((2, 1)))
    assert scheme("bdf2").integrate(lambda t, x: -x, 1.0, 0.1, 0).shape == (1,)


@NAMES
def test_a_scheme_like_the_others(name: str) -> None:
    s = scheme(name)
    method = implicit(name)
    assert s.tableau == s.applied == method
    assert (s.order, s.error_constant, s.zero_stable) == (method.order, method.error_constant, True)
    assert (s.real_interval, s.imaginary_interval) == (method.real_interval, method.imaginary_interval)
    for again in (
        Scheme.from_dict(json.loads(json.dumps(s.to_dict(), allow_nan=False))),
        pickle.loads(pickle.dumps(s)),
        replace(s),
    ):
        assert again == s
        assert hash(again) == hash(s)
    assert describe(s) == name
    assert s.twin() == scheme("euler")
    blocks = Blocks("symmetric", "charbonnier")
    assert replace(s, blocks=blocks).twin() == replace(scheme("euler"), blocks=blocks)
    assert describe(replace(s, stochasticity=Stochasticity("depth", 0.25))) == f"{name}, drop 0.25"
    assert s not in SearchSpace(family=("named",))


def test_names_are_those_of_no_explicit_scheme() -> None:
    assert not set(IMPLICIT) & set(schemes())
    theta = Scheme(ImplicitMultistep((1,), ("3/4", "1/4")))  # type: ignore[arg-type]
    assert describe(theta) == "x + 0.25f + 0.75f(next)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coefficients": Coefficients("learned")}, "`learning` is 'learned', but must be 'fixed' for an implicit"),
        ({"scale": "absorbed"}, "`scale` is 'absorbed', but must be 'consistent' for an implicit"),
        ({"transition": "project"}, "`transition` is 'project', but must be 'restart' for an implicit"),
        ({"start": "copy"}, "`start` is 'copy', but must be 'euler' for an implicit"),
        ({"coefficients": Coefficients(order=3)}, "`order` is stated as 3, but the tableau has order 2"),
    ],
)
def test_what_a_network_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        Scheme(implicit("bdf2"), **changes)
    assert "\n" not in str(caught.value)


def test_a_table_of_no_kind_is_refused() -> None:
    data = scheme("bdf2").to_dict()
    with pytest.raises(OdenasError, match="`implicit method` lacks slopes"):
        Scheme.from_dict(data | {"tableau": {"states": [1]}})
    with pytest.raises(OdenasError, match="tableau"):
        Scheme.from_dict(data | {"tableau": {"Q": [1]}})
    assert isinstance(Scheme.from_dict(scheme("ab2").to_dict()).tableau, Tableau)


def test_a_step_without_solution_is_an_error() -> None:
    """x = c + h x at h = 1, and v₀ has no place."""
    with pytest.raises(OdenasError, match="not solved"):
        scheme("backward_euler").integrate(lambda t, x: x, 1.0, 1.0, 1)
    with pytest.raises(OdenasError, match="`v0`"):
        scheme("bdf2").integrate(lambda t, x: x, 1.0, 0.1, 1, v0=1.0)
    with pytest.raises(OdenasError, match="`gamma` is no parameter of the scheme 'bdf2'"):
        scheme("bdf2", gamma=1)
