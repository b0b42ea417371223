"""The numpy reference integrator: orders observed on problems with known solutions, start-up, bad input."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.integrate import RK4, integrate
from odenas.space.order import order
from odenas.space.tableau import Tableau

Array = NDArray[Any]
Problem = tuple[Callable[[float, Array], Array], Callable[[float], Array]]


def adams_bashforth(*slopes: str) -> Tableau:
    return Tableau.multistep((1,), slopes)


METHODS = {
    "ab1": adams_bashforth("1"),
    "ab2": adams_bashforth("3/2", "-1/2"),
    "ab3": adams_bashforth("23/12", "-4/3", "5/12"),
    "ab4": adams_bashforth("55/24", "-59/24", "37/24", "-3/8"),
    "ab5": adams_bashforth("1901/720", "-1387/360", "109/30", "-637/360", "251/720"),
    "midpoint": Tableau.multistep((0, 1), (2,)),
    "momentum": Tableau.multistep(("19/10", "-9/10"), ("1/10",)),
    "rk4": RK4,
    "heun3": Tableau.runge_kutta(((0, 0, 0), ("1/3", 0, 0), (0, "2/3", 0)), ("1/4", 0, "3/4")),
    "pece2": Tableau(V=(1, 0), B=("1/2", "1/2"), A=((0, 0), ("3/2", 0)), W=((0,), ("-1/2",))),  # type: ignore[arg-type]
    "pece3": Tableau(
        V=(1, 0, 0),
        B=("2/3", "5/12"),  # type: ignore[arg-type]
        R=("-1/12", 0),  # type: ignore[arg-type]
        A=((0, 0), ("23/12", 0)),  # type: ignore[arg-type]
        W=((0, 0), ("-4/3", "5/12")),  # type: ignore[arg-type]
    ),
    "extrapolated midpoint": Tableau(V=(1, 0), B=(1,), U=(("3/2", "-1/2"),)),  # type: ignore[arg-type]
    # First stages half a step later than the states, hence slopes at 1/2, −1/2, −3/2 steps: by quadrature on these.
    "late slopes": Tableau(
        V=("1/2", "1/2", 0),  # type: ignore[arg-type]
        B=("17/16",),  # type: ignore[arg-type]
        R=("3/8", "1/16"),  # type: ignore[arg-type]
        W=(("7/8", "-3/8"),),  # type: ignore[arg-type]
    ),
}
PROBLEMS: dict[str, Problem] = {
    "non-linear, non-autonomous": (lambda t, x: -2 * t * x * x, lambda t: np.array(1 / (1 + t * t))),
    "non-linear system": (
        lambda t, x: np.array([x[1], 2 * x[0] ** 3]),
        lambda t: np.array([1 / (1 + t), -1 / (1 + t) ** 2]),
    ),
    "complex oscillator with forcing": (
        lambda t, x: 1j * x + np.cos(t) - 1j * np.sin(t),
        lambda t: np.array([np.exp(1j * t) + np.sin(t)]),
    ),
}


def slope_seen(tableau: Tableau, problem: Problem, finest: int, start: str = "rk4", end: float = 1.0) -> float:
    """Return log₂ of the error's decrease at t = `end` from h = 2^{1−finest} to 2^{−finest}."""
    f, solution = problem
    errors = []
    for level in (finest - 1, finest):
        n = round(end * 2**level)
        path = integrate(tableau, f, solution(0.0), 2.0**-level, n, start=start)
        errors.append(np.abs(path[-1] - solution(end)).max())
    return float(np.log2(errors[0] / errors[1]))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", METHODS)
def test_the_order_seen_is_the_order_proved(name: str, problem: str) -> None:
    # A parasitic root near 1 needs small steps; order 5 is near the roundoff before its error is one power of h.
    finest, within = {"momentum": (11, 0.1), "ab5": (8, 0.2)}.get(name, (9, 0.1))
    assert slope_seen(METHODS[name], PROBLEMS[problem], finest) == pytest.approx(order(METHODS[name]), abs=within)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [("ab3", "euler", 2), ("ab4", "euler", 2), ("ab3", "copy", 2), ("midpoint", "euler", 2), ("midpoint", "copy", 1)],
)
def test_a_crude_start_hides_the_order(name: str, start: str, expected: int) -> None:
    """Euler's first state and copied slopes are off by O(h²), a copied state by O(h)."""
    seen = slope_seen(METHODS[name], PROBLEMS["non-linear system"], 10, start=start)
    assert seen == pytest.approx(expected, abs=0.1)


def test_multistep_by_hand() -> None:
    path = integrate(METHODS["ab2"], lambda t, x: t + x, 1.0, 0.5, 3, start="euler")
    x1 = 1 + 0.5 * 1
    x2 = x1 + 0.5 * (1.5 * (0.5 + x1) - 0.5 * 1)
    x3 = x2 + 0.5 * (1.5 * (1.0 + x2) - 0.5 * (0.5 + x1))
    assert path.shape == (4,)
    assert path == pytest.approx([1, x1, x2, x3], rel=1e-15)


def test_copied_history_is_the_momentum_network() -> None:
    """v ← γv + (1 − γ)f(x), x ← x + v with v = 0 (Sander et al., Momentum Residual Neural Networks, 2021)."""
    gamma, x, v, expected = 0.9, 1.0, 0.0, [1.0]
    for _ in range(20):
        v = gamma * v + (1 - gamma) * np.sin(x)
        x += v
        expected.append(x)
    path = integrate(METHODS["momentum"], lambda t, y: np.sin(y), 1.0, 1.0, 20, start="copy")
    assert path == pytest.approx(expected, rel=1e-13)


def test_copied_history_repeats_the_first_slope() -> None:
    path = integrate(METHODS["ab3"], lambda t, x: x, 2.0, 0.25, 1, start="copy")
    assert path == pytest.approx([2, 2.5])


@pytest.mark.parametrize("start", ["rk4", "euler", "copy"])
@pytest.mark.parametrize("n", range(6))
def test_fewer_steps_are_the_beginning_of_more(n: int, start: str) -> None:
    long = integrate(METHODS["ab4"], lambda t, x: -x * x + t, np.ones((2, 3)), 0.1, 8, start=start)
    short = integrate(METHODS["ab4"], lambda t, x: -x * x + t, np.ones((2, 3)), 0.1, n, start=start)
    assert short.shape == (n + 1, 2, 3)
    assert np.array_equal(short, long[: n + 1])


def test_time_starts_at_t0() -> None:
    late = integrate(METHODS["pece3"], lambda t, x: -2 * t * x * x, 0.5, 2.0**-8, 256, t0=1.0)
    assert late[-1] == pytest.approx(1 / 5, rel=1e-6)


def test_a_negative_step_goes_back() -> None:
    path = integrate(RK4, lambda t, x: x, 1.0, -(2.0**-8), 256)
    assert path[-1] == pytest.approx(np.exp(-1), rel=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_evaluates_f_once_for_each_stage(name: str) -> None:
    calls: list[float] = []
    tableau, n = METHODS[name], 12

    def f(t: float, x: Array) -> Array:
        calls.append(t)
        return -x

    integrate(tableau, f, 1.0, 0.1, n, start="copy")
    assert len(calls) == n * tableau.stages + (tableau.steps > 1)


def test_f_may_write_into_its_argument() -> None:
    def f(t: float, x: Array) -> Array:
        x *= -1
        return x

    clean = integrate(METHODS["ab3"], lambda t, x: -x, np.ones(2), 0.1, 5)
    assert np.array_equal(integrate(METHODS["ab3"], f, np.ones(2), 0.1, 5), clean)


@pytest.mark.parametrize(
    ("given", "used"),
    [(np.float32, np.float64), (np.int64, np.float64), (np.complex64, np.complex128), (np.float64, np.float64)],
)
def test_precision_is_double(given: Any, used: Any) -> None:
    assert integrate(RK4, lambda t, x: -x, np.ones(2, given), 0.1, 2).dtype == used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": float("nan")}, "`h` is nan"),
        ({"h": float("inf")}, "`h` is inf"),
        ({"h": "1"}, "`h` is '1'"),
        ({"t0": float("inf")}, "`t0` is inf"),
        ({"n": -1}, "`n` is -1, but must be an integer of at least 0"),
        ({"n": 2.0}, "`n` is 2.0"),
        ({"n": True}, "`n` is True"),
        ({"start": "rk5"}, "`start` is 'rk5', but must be one of rk4, euler, copy; did you mean 'rk4'?"),
        ({"start": None}, "`start` is None"),
        ({"x0": "one"}, "`x0` is 'one'"),
        ({"x0": [[1.0], [1.0, 2.0]]}, "`x0` is "),
        ({"f": lambda t, x: np.ones(3)}, "`f` has the shape (3,), but needs (2,)"),
        ({"f": lambda t, x: 1.0}, "`f` has the shape (), but needs (2,)"),
        ({"f": lambda t, x: 1j * x}, "`f` has complex128, but needs float64"),
        ({"f": lambda t, x: None}, "`f` has"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    arguments = {"f": lambda t, x: -x, "x0": [1.0, 2.0], "h": 0.1, "n": 3, **change}
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        integrate(METHODS["ab2"], **arguments)
    assert "\n" not in str(caught.value)


SECOND: dict[str, tuple[Callable[[float, Array], Array], Callable[[float], Array], Callable[[float], Array]]] = {
    # x'' = f with the solution and its velocity.
    "cubic": (lambda t, x: 2 * x**3, lambda t: np.array(1 / (1 + t)), lambda t: np.array(-1 / (1 + t) ** 2)),
    "driven oscillator": (
        lambda t, x: -x + 2 * np.exp(t) * np.ones(2),
        lambda t: np.exp(t) + np.array([np.cos(t), np.sin(t)]),
        lambda t: np.exp(t) + np.array([-np.sin(t), np.cos(t)]),
    ),
    "complex": (lambda t, x: -x, lambda t: np.exp(1j * np.array([t])), lambda t: 1j * np.exp(1j * np.array([t]))),
}
STORMER = {
    "verlet": Tableau.multistep((2, -1), (1,), derivative=2),
    "stormer3": Tableau.multistep((2, -1), ("13/12", "-1/6", "1/12"), derivative=2),
    "stormer4": Tableau.multistep((2, -1), ("7/6", "-5/12", "1/3", "-1/12"), derivative=2),
}


def second_slope_seen(name: str, problem: str, start: str = "rk4", moving: bool = True) -> float:
    f, solution, velocity = SECOND[problem]
    errors = []
    for level in (7, 8):  # two-step forms add up roundoff as 1/h²
        v0 = velocity(0.0) if moving else None
        path = integrate(STORMER[name], f, solution(0.0), 2.0**-level, 2**level, start=start, v0=v0)
        errors.append(np.abs(path[-1] - solution(1.0)).max())
    return float(np.log2(errors[0] / errors[1]))


@pytest.mark.parametrize("problem", SECOND)
@pytest.mark.parametrize("name", STORMER)
def test_the_order_seen_of_methods_for_the_second_derivative(name: str, problem: str) -> None:
    assert second_slope_seen(name, problem) == pytest.approx(order(STORMER[name]), abs=0.15)
    assert second_slope_seen(name, problem, start="euler") == pytest.approx(1, abs=0.15)


def test_the_velocity_is_zero_if_not_given() -> None:
    assert second_slope_seen("verlet", "cubic", moving=False) == pytest.approx(0, abs=0.1)
    f = SECOND["cubic"][0]
    still = integrate(STORMER["verlet"], f, [1.0], 0.1, 5)
    assert np.array_equal(still, integrate(STORMER["verlet"], f, [1.0], 0.1, 5, v0=[0]))
    assert still[1] == pytest.approx([1 + 0.01], rel=2e-3)  # h²/2 · 2


def test_verlet_by_hand() -> None:
    """From x_{−1} = x_0, as LeapfrogNet starts, and semi-implicit Euler from rest, which is the same."""
    x = [1.0, 1.0]
    for _ in range(4):
        x.append(2 * x[-1] - x[-2] + 0.25 * np.sin(x[-1]))
    for start in ("copy", "euler"):
        path = integrate(STORMER["verlet"], lambda t, y: np.sin(y), 1.0, 0.5, 4, start=start)
        assert path == pytest.approx(x[1:], rel=1e-15)


def test_verlet_keeps_a_constant_velocity() -> None:
    path = integrate(STORMER["verlet"], lambda t, x: 0 * x, [1.0, 2.0], 0.25, 8, v0=[4.0, -8.0])
    assert path == pytest.approx(np.array([[1 + n, 2 - 2 * n] for n in range(9)]), abs=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v0": [1.0]}, "`v0` has the shape (1,), but needs (2,)"),
        ({"v0": [1j, 0]}, "`v0` has complex128, but needs float64"),
        ({"v0": [0.0, 0.0], "start": "copy"}, "`v0` is [0.0, 0.0], but needs a method for x'' = f and another `start`"),
        ({"v0": [0.0, 0.0], "method": METHODS["ab2"]}, "`v0` is [0.0, 0.0], but needs a method for x'' = f"),
        ({"method": "verlet"}, "`method` is a str, but integration needs a Tableau"),
    ],
)
def test_bad_velocities_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"f": lambda t, x: -x, "x0": [1.0, 2.0], "h": 0.1, "n": 3, **change}
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        integrate(arguments.pop("method", STORMER["verlet"]), **arguments)
    assert "\n" not in str(caught.value)
