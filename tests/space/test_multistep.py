"""The named explicit multistep methods: coefficients as nodepy and the papers have them, and the two-step family."""

from __future__ import annotations

import inspect
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from nodepy import linear_multistep_method as lmm

from odenas.space.errors import OdenasError
from odenas.space.integrate import integrate
from odenas.space.multistep import MULTISTEP, two_step
from odenas.space.order import error_constant, order
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.tableau import Tableau
from odenas.space.zero_stability import zero_stable

# States and slopes, newest first, as the books print them.
PUBLISHED = {
    "euler": ("1", "1"),
    "ab2": ("1", "3/2 -1/2"),
    "ab3": ("1", "23/12 -4/3 5/12"),
    "ab4": ("1", "55/24 -59/24 37/24 -3/8"),
    "ab5": ("1", "1901/720 -1387/360 109/30 -637/360 251/720"),
    "midpoint": ("0 1", "2"),
    "nystrom3": ("0 1", "7/3 -2/3 1/3"),
    "nystrom4": ("0 1", "8/3 -5/3 4/3 -1/3"),
    "nystrom5": ("0 1", "269/90 -133/45 49/15 -73/45 29/90"),
    "ssp_multistep3": ("3/4 0 1/4", "3/2"),
    "ssp_multistep4": ("8/9 0 0 1/9", "4/3"),
    "ssp_multistep5": ("15/16 0 0 0 1/16", "5/4"),
    "two_step": ("3/2 -1/2", "5/4 -3/4"),
    "lm": ("21/20 -1/20", "19/20"),
    "momentum": ("19/10 -9/10", "1/10"),
    "heavy_ball": ("3/2 -1/2", "1/2"),
}
FROM_NODEPY = {
    **{f"ab{k}": lmm.Adams_Bashforth(k) for k in range(2, 6)},
    "midpoint": lmm.Nystrom(2),
    **{f"nystrom{k}": lmm.Nystrom(k) for k in range(3, 6)},
    **{f"ssp_multistep{k}": lmm.elm_ssp2(k) for k in range(3, 6)},
}
WEIGHTS = [Fraction(n, 7) for n in range(-6, 8)]


def made(name: str, **parameters: Any) -> Tableau:
    tableau = MULTISTEP[name].make(**parameters).tableau
    assert isinstance(tableau, Tableau)
    return tableau


@pytest.mark.parametrize("name", MULTISTEP)
def test_coefficients_as_published(name: str) -> None:
    states, slopes = PUBLISHED[name]
    assert MULTISTEP[name].make().tableau == Tableau.multistep(states.split(), slopes.split())


@pytest.mark.parametrize("name", FROM_NODEPY)
def test_coefficients_as_nodepy(name: str) -> None:
    tableau, method = made(name), FROM_NODEPY[name]
    assert [-float(v) for v in tableau.V] == pytest.approx(np.array(method.alpha[-2::-1], dtype=float))
    assert [float(b) for b in tableau.slopes] == pytest.approx(np.array(method.beta[-2::-1], dtype=float))
    assert float(method.beta[-1]) == 0


@pytest.mark.parametrize("name", MULTISTEP)
def test_every_row_says_what_it_is(name: str) -> None:
    family, about, make = MULTISTEP[name]
    s = make()
    assert family == "multistep"
    assert s.coefficients.order == s.order
    assert re.search(r"\d{4}|Hairer", about)
    assert about.endswith(f" Order {s.order}.")
    assert "\n" not in about
    valid = inspect.signature(make).parameters
    assert set(valid) <= {"k", "order", "old", "spread", "sharing", "gamma", "beta"}
    assert make(**{parameter: valid[parameter].default for parameter in valid}) == s


@pytest.mark.parametrize("k", [3, 4, 5])
def test_ssp_methods_are_convex_combinations_of_euler_steps(k: int) -> None:
    """With f in x ← Σ_j V_j (x_j + h β_j/V_j f_j), C is the least V_j/β_j; it is (k − 2)/(k − 1), the largest known."""
    tableau = made(f"ssp_multistep{k}")
    assert all(v >= 0 for v in tableau.V)
    coefficient = min(v / b for v, b in zip(tableau.V, tableau.slopes, strict=True) if b)
    assert coefficient == Fraction(k - 2, k - 1)
    assert float(lmm.elm_ssp2(k).ssp_coefficient()) == pytest.approx(float(coefficient), abs=1e-8)


@pytest.mark.parametrize("k", WEIGHTS)
def test_two_step_methods_of_order_2_in_closed_form(k: Fraction) -> None:
    tableau = made("two_step", k=str(k))
    assert (tableau.V, tableau.slopes) == ((1 - k, k), ((3 + k) / 2, (k - 1) / 2))
    assert order(tableau) == 2
    assert error_constant(tableau) == pytest.approx(float((5 - k) / (12 * (1 + k))), rel=1e-14)
    assert real_interval(tableau) == pytest.approx(float(1 - k), rel=1e-14)
    assert imaginary_interval(tableau) == (1 if k == 1 else 0)


@pytest.mark.parametrize("k", WEIGHTS)
@pytest.mark.parametrize("old", ["0", "-1/3", "2"])
def test_two_step_methods_of_order_1_hold_every_consistent_one(k: Fraction, old: str) -> None:
    tableau = made("two_step", k=str(k), order=1, old=old)
    assert (tableau.V, tableau.slopes) == ((1 - k, k), (1 + k - Fraction(old), Fraction(old)))
    assert order(tableau) == (2 if Fraction(old) == (k - 1) / 2 else 1)


def test_the_two_step_family_holds_the_named_methods() -> None:
    assert two_step(0) == MULTISTEP["ab2"].make()
    assert two_step(1) == MULTISTEP["midpoint"].make()
    assert two_step("-9/10", 1).tableau == MULTISTEP["momentum"].make().tableau
    assert two_step("-1/20", 1).tableau == MULTISTEP["lm"].make().tableau


def test_order_3_costs_zero_stability() -> None:
    """1 = V₁ (−1)^q … for q = 3 leaves k = 5 alone."""
    tableau = Tableau.multistep((-4, 5), (4, 2))
    assert order(tableau) == 3
    assert not zero_stable(tableau)


@pytest.mark.parametrize("beta", ["1/2", 0.25, "-1/3"])
def test_heavy_ball_is_the_step_of_the_paper(beta: Any) -> None:
    """x ← x + β (x − x_prev) + f(x), at rest at first (Polyak 1964)."""
    b, before, x, expected = float(Fraction(beta)), 1.0, 1.0, [1.0]
    for _ in range(12):
        before, x = x, x + b * (x - before) + np.cos(x)
        expected.append(x)
    s = MULTISTEP["heavy_ball"].make(beta=beta)
    assert s.start == "copy"
    path = integrate(s.applied, lambda t, y: np.cos(y), 1.0, 1.0, 12, start="copy")
    assert path == pytest.approx(expected, rel=1e-13)


def test_heavy_ball_and_momentum_differ_by_the_scale_of_f() -> None:
    ball, momentum = MULTISTEP["heavy_ball"].make(beta="3/4"), MULTISTEP["momentum"].make(gamma="3/4")
    assert ball.tableau == momentum.tableau
    assert isinstance(ball.applied, Tableau)
    assert isinstance(momentum.applied, Tableau)
    assert ball.applied.slopes[0] == 4 * momentum.applied.slopes[0]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("two_step", {"k": -1}, "`k` is -1, but two-step methods are zero-stable only for −1 < k ≤ 1"),
        ("two_step", {"k": "3/2"}, "`k` is '3/2'"),
        ("two_step", {"k": None}, "`k` holds None, but needs finite numbers"),
        ("two_step", {"order": 3}, "`order` is 3, but must be 1 or 2: Dahlquist's barrier"),
        ("two_step", {"order": True}, "`order` is True"),
        ("two_step", {"old": 0}, "`old` is 0, but order 2 leaves no slope free"),
        ("two_step", {"order": 1, "old": "much"}, "`old` holds 'much'"),
        ("heavy_ball", {"beta": 1}, "`constraint` is 'zero-stable', but the tableau is not"),
        ("heavy_ball", {"beta": float("inf")}, "`beta` holds inf"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        MULTISTEP[name].make(**parameters)
    assert "\n" not in str(caught.value)
