"""Predictor–corrector and fixed-point forms: against loops that predict and correct, and in closed form."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.integrate import integrate
from odenas.space.multistep import adams_bashforth, nystrom
from odenas.space.order import order
from odenas.space.predictor_corrector import PREDICTOR_CORRECTOR, fixed_point, predictor_corrector
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Tableau

Array = NDArray[np.float64]

RK2 = Tableau.runge_kutta(((0, 0), ("1/2", 0)), (0, 1))
PREDICTORS = {
    **{f"ab{k}": adams_bashforth(k) for k in range(1, 5)},
    "nystrom3": nystrom(3),
    "rk2": RK2,
}


def field(t: float, x: Array) -> Array:
    return np.array([np.cos(t) * x[1], -x[0] * x[1]])


def looped(
    corrector: ImplicitMultistep,
    predict: Callable[[list[Array], list[Array]], Array],
    c: int,
    path: Array,
    h: float,
    m: int,
) -> Array:
    """Return `path`, whose first rows are given, continued by a prediction at t_n + ch and m corrections of it."""
    first = max(corrector.steps, 4)  # rows from the start-up
    for n in range(first - 1, len(path) - 1):
        states = [path[n - j] for j in range(first)]
        slopes = [field((n - j) * h, path[n - j]) for j in range(first)]
        y = predict(states, slopes)
        for i in range(m):
            total = float(corrector.slopes[0]) * field((n + (1 if i else c)) * h, y)
            total = total + sum(float(b) * slopes[j] for j, b in enumerate(corrector.slopes[1:]))
            y = sum(float(v) * states[j] for j, v in enumerate(corrector.states)) + h * total
        path[n + 1] = y
    return path


@pytest.mark.parametrize("corrector", IMPLICIT)
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("m", [1, 3])
def test_steps_as_a_loop_that_predicts_and_corrects(corrector: str, k: int, m: int) -> None:
    h, method = 0.1, implicit(corrector)
    ab = [float(b) for b in adams_bashforth(k).slopes]

    def predict(states: list[Array], slopes: list[Array]) -> Array:
        return states[0] + h * sum((b * slopes[j] for j, b in enumerate(ab)), np.zeros(2))

    tableau = predictor_corrector(adams_bashforth(k), method, m)
    given = integrate(tableau, field, [1.0, 0.5], h, 24, start="euler")
    expected = looped(method, predict, 1, given.copy(), h, m)
    assert expected == pytest.approx(given, rel=1e-12)
    assert tableau.stages == m + 1


@pytest.mark.parametrize("corrector", IMPLICIT)
@pytest.mark.parametrize("m", [1, 2, 4])
def test_steps_as_a_loop_that_iterates(corrector: str, m: int) -> None:
    h, method = 0.1, implicit(corrector)
    tableau = fixed_point(method, m)
    given = integrate(tableau, field, [1.0, 0.5], h, 24, start="euler")
    assert looped(method, lambda states, _: states[0], 0, given.copy(), h, m) == pytest.approx(given, rel=1e-12)
    assert tableau.stages == m


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("corrector", ["backward_euler", "trapezoid", "adams_moulton3", "bdf3", "milne"])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_order_is_the_smaller_of_predictor_plus_corrections_and_corrector(
    predictor: str, corrector: str, m: int
) -> None:
    tableau, method = PREDICTORS[predictor], implicit(corrector)
    assert order(predictor_corrector(tableau, method, m)) == min(order(tableau) + m, method.order)


@pytest.mark.parametrize("corrector", IMPLICIT)
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_order_is_the_smaller_of_iterations_and_corrector(corrector: str, m: int) -> None:
    assert order(fixed_point(implicit(corrector), m)) == min(m, implicit(corrector).order)


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("pece_ab1_am1", 2.0),
        ("pece_ab2_am1", 2.0),
        ("pece_ab2_am2", 2.4),
        ("pece_ab3_am2", 1.728),
        ("pece_ab3_am3", 1.934),
        ("pece_ab4_am3", 1.284),
        ("pece_ab4_am4", 1.411),
    ],
)
def test_known_real_intervals(name: str, real: float) -> None:
    """Found by scanning the roots with PECE written as two coupled recursions."""
    assert PREDICTOR_CORRECTOR[name].make().real_interval == pytest.approx(real, abs=1e-3)


@pytest.mark.parametrize("m", range(1, 9))
def test_backward_euler_iterated_is_the_geometric_series(m: int) -> None:
    """R(z) = 1 + z + … + z^m: |R(−x)| ≤ 1 to x = 1 for even m, to the root of x^{m+1} = x + 2 for odd m."""
    tableau = fixed_point(implicit("backward_euler"), m)
    assert [-entry for entry in stability_polynomial(tableau)[0]] == [1] * (m + 1)
    roots = np.roots([1, *[0] * (m - 1), -1, -2])
    end = 1.0 if m % 2 == 0 else float(max(roots[abs(roots.imag) < 1e-9].real))
    assert real_interval(tableau) == pytest.approx(end, rel=1e-12)
    assert real_interval(tableau) <= 2  # of forward Euler, which m = 1 is: unconditional stability is lost


@pytest.mark.parametrize("name", IMPLICIT)
def test_many_iterations_are_the_implicit_method(name: str) -> None:
    """Where |slopes[0] z| < 1 the numerical solution of x' = λx comes to satisfy ρ(E) x = zσ(E) x."""
    method, z = implicit(name), -0.5
    for tableau in (fixed_point(method, 40), predictor_corrector(adams_bashforth(2), method, 40)):
        x = integrate(tableau, lambda t, x: z * x, 1.0, 1.0, method.steps + 6)[::-1]
        for n in range(3):
            states = sum(float(v) * x[n + 1 + j] for j, v in enumerate(method.states))
            slopes = sum(float(b) * x[n + j] for j, b in enumerate(method.slopes))
            assert x[n] == pytest.approx(states + z * slopes, rel=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_named_coincidences(m: int) -> None:
    trapezoid, euler = implicit("trapezoid"), adams_bashforth(1)
    heun = Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2"))
    assert predictor_corrector(euler, trapezoid) == heun
    assert fixed_point(implicit("backward_euler"), 1) == euler
    assert fixed_point(trapezoid, m + 1) == predictor_corrector(euler, trapezoid, m)
    matsuno = Tableau.runge_kutta(((0, 0), (1, 0)), (0, 1))
    assert PREDICTOR_CORRECTOR["backward_euler_fixed_point"].make().tableau == matsuno


@pytest.mark.parametrize("name", PREDICTOR_CORRECTOR)
def test_every_row_says_what_it_is(name: str) -> None:
    family, about, make = PREDICTOR_CORRECTOR[name]
    s = make()
    assert family == "predictor-corrector"
    assert s.coefficients.order == s.order == order(s.tableau)
    assert about.endswith(f" Order {s.order}.")
    assert re.search(r"\d{4}", about)
    assert s.tying == "stages"
    assert s.zero_stable
    assert s.tableau.exact
    (parameter,) = inspect.signature(make).parameters.values()
    assert parameter.name in ("corrections", "iterations")
    assert make(**{parameter.name: parameter.default}) == s
    more = make(**{parameter.name: parameter.default + 1})
    assert more.tableau.stages == s.tableau.stages + 1
    assert more.order == more.coefficients.order >= s.order


def test_rows_differ_and_every_implicit_method_to_order_5_is_iterated() -> None:
    made = [entry.make() for entry in PREDICTOR_CORRECTOR.values()]
    assert len(set(made)) == len(made)
    # The error of milne4 is so small that rounding hides its order.
    low = {name for name in IMPLICIT if implicit(name).order <= 5} - {"milne4"}
    assert {name for name in PREDICTOR_CORRECTOR if "fixed" in name} == {f"{name}_fixed_point" for name in low}


def test_imaginary_interval_of_heun_with_corrections_is_kept() -> None:
    """R(z) = 1 + z + z²/2 + z³/4 has |R(iy)|² = 1 − y⁴/4 + y⁶/16 ≤ 1 to y = 2."""
    s = PREDICTOR_CORRECTOR["trapezoid_fixed_point"].make()
    assert imaginary_interval(s.tableau) == pytest.approx(2, rel=1e-14)
    assert math.isinf(implicit("trapezoid").imaginary_interval)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: predictor_corrector(RK2, implicit("bdf2"), 0), "`corrections` is 0, but must be an integer from 1"),
        (lambda: predictor_corrector(RK2, implicit("bdf2"), True), "`corrections` is True"),
        (lambda: fixed_point(implicit("bdf2"), 1.5), "`iterations` is 1.5"),  # type: ignore[arg-type]
        (lambda: fixed_point(RK2, 2), "`corrector` is Tableau("),  # type: ignore[arg-type]
        (lambda: predictor_corrector(implicit("bdf2"), RK2), "`predictor` is ImplicitMultistep("),  # type: ignore[arg-type]
        (
            lambda: predictor_corrector(Tableau.multistep((2, -1), (1,), derivative=2), implicit("bdf2")),
            "must be a Tableau for x' = f",
        ),
        (
            lambda: predictor_corrector(Tableau(V=(1, 0), B=(1,), U=((0, 1),)), implicit("bdf2")),
            "`predictor` has a first stage other than x_n",
        ),
        (lambda: PREDICTOR_CORRECTOR["pece_ab2_am2"].make(corrections="2"), "`corrections` is '2'"),
    ],
)
def test_bad_parts_are_refused_in_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_first_stage_is_the_state_so_history_keeps_its_slope() -> None:
    tableau = predictor_corrector(RK2, implicit("adams_moulton3"), 2)
    assert tableau.U[0] == (1, 0, 0)
    assert not any(tableau.W[0])
    assert tableau.slopes[0] == Fraction(3, 8) + Fraction(19, 24)
