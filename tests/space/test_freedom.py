"""Degrees of freedom against the tables of the theory, and barriers against what exists."""

from __future__ import annotations

from fractions import Fraction

import pytest

from odenas.space import Coefficients, OdenasError, Scheme, Tableau, scheme
from odenas.space.barriers import BUTCHER, barrier
from odenas.space.feasible import slopes_of_order, states_from_reflections
from odenas.space.freedom import degrees_of_freedom
from odenas.space.integrate import RK4


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_order_p_leaves_a_multistep_method_2k_less_p_plus_1_coefficients(steps: int) -> None:
    states = states_from_reflections([Fraction(i, 10) for i in range(1, steps)])
    for order in range(1, steps + 1):
        tableau = Tableau.multistep(states, slopes_of_order(states, [Fraction(0)] * (steps - order), order))
        assert degrees_of_freedom(tableau, order) == 2 * steps - (order + 1)


# s(s + 1)/2 coefficients less the conditions 1, 2, 4, 8, which are independent at these methods.
RUNGE_KUTTA = [("euler", [0]), ("heun2", [2, 1]), ("kutta3", [5, 4, 2]), ("rk4", [9, 8, 6, 2]), ("rk38", [9, 8, 6, 2])]


@pytest.mark.parametrize(("name", "free"), RUNGE_KUTTA)
def test_order_p_leaves_a_runge_kutta_method_what_the_literature_says(name: str, free: list[int]) -> None:
    tableau = scheme(name).tableau
    assert isinstance(tableau, Tableau)
    assert [degrees_of_freedom(tableau, p) for p in range(1, len(free) + 1)] == free


def test_an_order_that_is_not_there_is_refused() -> None:
    with pytest.raises(OdenasError, match="`order` is 5, but the tableau has not that order"):
        degrees_of_freedom(RK4, 5)


def test_no_method_of_the_catalogue_exceeds_its_barrier() -> None:
    for name in ("euler", "ab2", "ab5", "midpoint", "heun2", "kutta3", "rk4", "dormand_prince5", "merson"):
        value, tableau = scheme(name), scheme(name).tableau
        assert isinstance(tableau, Tableau)
        highest = tableau.steps if tableau.stages == 1 else BUTCHER[tableau.stages]
        assert value.order <= highest
        assert f"at most order {highest}" in barrier(tableau)


@pytest.mark.parametrize(
    ("tableau", "order", "message"),
    [
        (RK4, 5, "an explicit Runge–Kutta method of 4 stage(s) has at most order 4 (Butcher barrier)"),
        (Tableau.multistep((1,), ("3/2", "-1/2")), 3, "2 step(s) has at most order 2 (first Dahlquist barrier)"),
    ],
)
def test_an_order_above_the_barrier_is_refused_by_its_name(tableau: Tableau, order: int, message: str) -> None:
    with pytest.raises(OdenasError) as caught:
        Scheme(tableau, Coefficients(order=order))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
