"""Partitioned methods: order by bicoloured trees and as seen, symplecticity, stability of the oscillator, bad input."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy import runge_kutta_method as rk
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from odenas.space.errors import OdenasError
from odenas.space.integrate import integrate
from odenas.space.order import error_constant, order
from odenas.space.partitioned import Partitioned
from odenas.space.partitioned_runge_kutta import METHODS, PARTITIONED
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Tableau
from odenas.space.zero_stability import zero_stable

Array = NDArray[Any]
ORDERS = {"symplectic_euler": 1, "stormer_verlet": 2, "coupled_euler": 1, "ruth3": 3, "forest_ruth": 4}
weights = st.lists(st.fractions(-2, 2, max_denominator=6), min_size=1, max_size=3)


def driven(t: float, x: Array) -> Array:
    """y' = y*' + sin z − sin z*, z' = z*' + cos y − cos y* with the solution y* = sin t, z* = exp(−t)."""
    y, z = x
    return np.array([np.cos(t) + np.sin(z) - np.sin(np.exp(-t)), -np.exp(-t) + np.cos(y) - np.cos(np.sin(t))])


def pendulum(t: float, x: Array) -> Array:
    """y' = z, z' = −sin y, with the energy z²/2 − cos y."""
    return np.array([x[1], -np.sin(x[0])])


def volterra(t: float, x: Array) -> Array:
    """Lotka–Volterra for logarithms: y' = 1 − e^z, z' = e^y − 2."""
    return np.array([1 - np.exp(x[1]), np.exp(x[0]) - 2])


def volterra_exact(t: float) -> Array:
    found: Array = solve_ivp(volterra, (0, t or 1e-300), [0.5, -0.2], "DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
    return found


PROBLEMS: dict[str, tuple[Callable[[float, Array], Array], Callable[[float], Array]]] = {
    "driven": (driven, lambda t: np.array([np.sin(t), np.exp(-t)])),
    "cubic": (lambda t, x: np.array([x[1], 2 * x[0] ** 3]), lambda t: np.array([1 / (1 + t), -1 / (1 + t) ** 2])),
    "volterra": (volterra, volterra_exact),
}


def oscillator(method: Partitioned, y: float) -> Array:
    """Return the matrix of one step of size y on y' = z, z' = −y, from what integration does to unit vectors."""
    (_, after) = integrate(method, lambda t, x: np.array([x[1], -x[0]]), np.eye(2), y, 1)
    return np.asarray(after)


@pytest.mark.parametrize("name", METHODS)
def test_orders(name: str) -> None:
    assert order(METHODS[name]) == ORDERS[name]
    assert METHODS[name].exact is (name != "forest_ruth")
    assert zero_stable(METHODS[name])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", METHODS)
def test_the_order_seen_is_the_order_proved(name: str, problem: str) -> None:
    f, solution = PROBLEMS[problem]
    errors = []
    for level in (6, 7):
        path = integrate(METHODS[name], f, solution(0.0), 2.0**-level, 2**level)
        errors.append(np.abs(path[-1] - solution(1.0)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.15)


@pytest.mark.parametrize("name", ["RK44", "Heun33", "DP5", "Merson43", "FE"])
def test_two_equal_parts_are_the_runge_kutta_method(name: str) -> None:
    """Then a step does to each of y ± z what the Runge–Kutta method does, and the trees need no colours."""
    method = rk.loadRKM(name)
    A, b = [list(map(str, row)) for row in method.A], list(map(str, method.b))
    twice, once = Partitioned(A, b, A, b), Tableau.runge_kutta(A, b)  # type: ignore[arg-type]
    assert order(twice) == method.order()
    assert error_constant(twice) == error_constant(once)
    x0 = np.array([0.5, -0.2])
    assert integrate(twice, driven, x0, 0.1, 5) == pytest.approx(integrate(once, driven, x0, 0.1, 5), rel=1e-14)
    R = np.array(stability_polynomial(once)[0], dtype=float)
    z = np.array([0.3 - 0.4j, -1.1, 2j])
    values = [np.polyval(row[::-1], z) for row in np.array(stability_polynomial(twice), dtype=float)]
    growth = [-np.polyval(R[::-1], z), -np.polyval(R[::-1], -z)]
    assert values == [pytest.approx(growth[0] * growth[1]), pytest.approx(-growth[0] - growth[1]), pytest.approx(1)]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.fractions(-2, 2, max_denominator=6), min_size=4, max_size=4))
def test_two_stages_have_order_two_if_and_only_if_four_conditions_hold(c: list[Fraction]) -> None:
    """Σb = Σb2 = 1, Σ b_i c_i = 1/2 with c the times of Z, Σ b2_i d_i = 1/2 with d the times of Y."""
    method = Partitioned.in_turn(c[:2], c[2:])
    (b, b_), (d, d_) = method.b, method.b2
    first = b + b_ == 1 and d + d_ == 1
    second = b_ * d == Fraction(1, 2) and d * b + d_ * (b + b_) == Fraction(1, 2)
    assert min(order(method), 2) == (2 if first and second else int(first))


def test_error_constants_by_hand() -> None:
    assert error_constant(METHODS["coupled_euler"]) == 0.5
    # For y' = 1/2 and z' = 1, Σ b_i c_i is 0 and Σ b2_i d_i is 1.
    assert abs(error_constant(METHODS["symplectic_euler"])) == 0.5
    halved = Partitioned.in_turn(("1/2",), (1,))
    assert (order(halved), error_constant(halved)) == (0, 1.0)
    assert error_constant(Partitioned.in_turn((1, -1), (1, 0))) == float("inf")


@pytest.mark.parametrize("offset", [1e-3, 1e-6, 1e-12])
def test_more_than_rounding_changes_the_order(offset: float) -> None:
    b, b2 = METHODS["forest_ruth"].b, METHODS["forest_ruth"].b2
    assert order(Partitioned.in_turn((b[0] + offset, *b[1:]), b2)) == 0
    assert order(Partitioned.in_turn((b[0] + offset, *b[1:3], b[3] - offset), b2)) == 1


@pytest.mark.parametrize("name", METHODS)
def test_a_symplectic_step_keeps_areas(name: str) -> None:
    """det of the derivative of a step, by complex differences, is 1; and of the oscillator's polynomial, exactly."""
    x0, tiny = np.array([0.5, -0.2]), 1e-30
    columns = [integrate(METHODS[name], pendulum, x0 + 1j * tiny * e, 0.5, 1)[-1].imag / tiny for e in np.eye(2)]
    area = float(np.linalg.det(np.array(columns)))
    assert METHODS[name].symplectic is (name != "coupled_euler")
    assert (abs(area - 1) < 1e-13) is METHODS[name].symplectic
    assert (stability_polynomial(METHODS[name])[0][1:] == (0,) * (len(stability_polynomial(METHODS[name])[0]) - 1)) is (
        METHODS[name].symplectic
    )


@settings(deadline=None, max_examples=50)
@given(weights, weights, st.integers(0, 8), st.fractions(-1, 1, max_denominator=4).filter(bool))
def test_steps_in_turn_are_symplectic_and_others_are_not(b: Any, b2: Any, place: int, off: Fraction) -> None:
    stages = min(len(b), len(b2))
    method = Partitioned.in_turn(b[:stages], b2[:stages])
    assert method.symplectic
    i, j = place % stages, place // stages % stages
    if j <= i and method.b2[i] != 0:  # then Y_i counts, and the condition of A_ij fails
        A = [list(row) for row in method.A]
        A[i][j] += off
        assert not replace(method, A=tuple(map(tuple, A))).symplectic


def test_energy_stays_near_only_where_the_method_is_symplectic() -> None:
    for name, method in METHODS.items():
        path = integrate(method, pendulum, [1.0, 0.0], 0.1, 1500)
        energy = path[:, 1] ** 2 / 2 - np.cos(path[:, 0]) + np.cos(1.0)
        early, late = np.abs(energy[:500]).max(), np.abs(energy[-500:]).max()
        if method.symplectic:
            assert late < 1.05 * early + 1e-12, name
            assert late < 0.1, name
        else:
            assert late > 2 * early > 0.5, name


def test_stormer_verlet_goes_back_the_way_it_came() -> None:
    there = integrate(METHODS["stormer_verlet"], volterra, [0.5, -0.2], 0.1, 50)
    back = integrate(METHODS["stormer_verlet"], volterra, there[-1], -0.1, 50)
    assert back[::-1] == pytest.approx(there, abs=1e-12)
    back = integrate(METHODS["symplectic_euler"], volterra, there[-1], -0.1, 50)
    assert np.abs(back[::-1] - there).max() > 0.01


def test_stormer_verlet_is_the_two_step_method_of_verlet() -> None:
    path = integrate(METHODS["stormer_verlet"], pendulum, [1.0, 0.3], 0.1, 20)
    y, z = path.T
    middle = y[:-1] + 0.05 * z[:-1]  # where −sin is evaluated
    assert middle[2:] == pytest.approx(2 * middle[1:-1] - middle[:-2] - 0.01 * np.sin(middle[1:-1]), rel=1e-13)


def test_symplectic_euler_is_the_reversible_network() -> None:
    """y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁) (Gomez et al., The Reversible Residual Network, 2017)."""
    x = np.arange(6.0).reshape(2, 3) / 7

    def f(t: float, x: Array) -> Array:
        return np.stack([np.tanh(x[1]), np.sin(2 * x[0])])

    first = x[0] + np.tanh(x[1])
    second = x[1] + np.sin(2 * first)
    assert np.array_equal(integrate(METHODS["symplectic_euler"], f, x, 1.0, 1)[-1], np.stack([first, second]))
    both = np.stack([first, x[1] + np.sin(2 * x[0])])
    assert np.array_equal(integrate(METHODS["coupled_euler"], f, x, 1.0, 1)[-1], both)


@pytest.mark.parametrize("name", METHODS)
def test_intervals_as_scanned(name: str) -> None:
    grid = np.linspace(0, 3, 1501)[1:]
    radii = np.array([np.abs(np.linalg.eigvals(oscillator(METHODS[name], y))).max() for y in grid])
    stable = radii <= 1 + 1e-7
    expected = 0.0 if not stable[0] else float(grid[np.argmin(stable)])
    assert imaginary_interval(METHODS[name]) == pytest.approx(expected, abs=0.003)
    assert real_interval(METHODS[name]) == 0  # one of ±λ grows, and so does the solution


def test_known_intervals() -> None:
    assert imaginary_interval(METHODS["stormer_verlet"]) == imaginary_interval(METHODS["symplectic_euler"]) == 2
    assert imaginary_interval(METHODS["coupled_euler"]) == 0


@pytest.mark.parametrize("name", METHODS)
def test_a_step_evaluates_what_it_uses(name: str) -> None:
    calls: list[float] = []

    def f(t: float, x: Array) -> Array:
        calls.append(t)
        return pendulum(t, x)

    integrate(METHODS[name], f, [1.0, 0.0], 0.1, 7)
    assert len(calls) == 7 * METHODS[name].evaluations
    calls.clear()
    other = Partitioned.in_turn((0, 1), ("1/2", "1/2"))  # Störmer–Verlet with the parts exchanged: begins with g
    assert order(other) == 2
    integrate(other, f, [1.0, 0.0], 0.1, 1)
    assert len(calls) == other.evaluations == 3
    assert METHODS[name].evaluations == {"stormer_verlet": 3, "ruth3": 6, "forest_ruth": 7}.get(name, 2)


@settings(deadline=None, max_examples=50)
@given(weights, weights, st.booleans())
def test_json_round_trip(b: Any, b2: Any, rounded: bool) -> None:
    stages = min(len(b), len(b2))
    method = Partitioned.in_turn([float(w) for w in b[:stages]] if rounded else b[:stages], b2[:stages])
    for again in (
        Partitioned.from_dict(json.loads(json.dumps(method.to_dict(), allow_nan=False))),
        pickle.loads(pickle.dumps(method)),
    ):
        assert again == method
        assert hash(again) == hash(method)
        assert again.exact is method.exact is not rounded
        assert again.to_dict() == method.to_dict()


def test_rows() -> None:
    assert list(PARTITIONED) == list(METHODS)
    assert {entry.family for entry in PARTITIONED.values()} == {"partitioned"}
    assert len(set(METHODS.values())) == len(METHODS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": [[0, 1], [0, 0]]}, "`A` is not lower triangular in row 0: (0, 1)"),
        ({"A2": [[0, 0], [0, 1]]}, "`A2` is not strictly lower triangular in row 1: (0, 1)"),
        ({"b": [1]}, "`b` and `b2` have 1 and 2 entries"),
        ({"b": [], "b2": []}, "`b` and `b2` have 0 and 0 entries"),
        ({"b": [float("nan"), 0]}, "`b` holds nan"),
        ({"A": [[0]]}, "`A` has rows of [1] entries, but needs 2 of 2"),
        ({"A2": 3}, "`A2` is 3, but must be a list of rows"),
        ({"c": 1}, "`key of partitioned method` is 'c'"),
    ],
)
def test_bad_tables_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Partitioned.from_dict(METHODS["stormer_verlet"].to_dict() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": [1.0, 2.0, 3.0]}, "`x0` has the shape (3,), but needs an even first axis"),
        ({"x0": 1.0}, "`x0` has the shape ()"),
        ({"v0": [1.0, 2.0]}, "`v0` is [1.0, 2.0]"),
        ({"n": -1}, "`n` is -1"),
        ({"f": lambda t, x: x[:1]}, "`f` has the shape (1,), but needs (2,)"),
    ],
)
def test_bad_problems_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    arguments = {"f": pendulum, "x0": [1.0, 2.0], "h": 0.1, "n": 3, **change}
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        integrate(METHODS["stormer_verlet"], **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_makes_its_method(name: str) -> None:
    s = PARTITIONED[name].make()
    assert s.tableau == METHODS[name]
    assert s.order == s.coefficients.order == ORDERS[name]
