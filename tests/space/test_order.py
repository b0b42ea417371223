"""The order and the error constant of a tableau, against nodepy, closed forms and exact constructions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy import linear_multistep_method as lmm
from nodepy import runge_kutta_method as rk

from odenas.space.order import defects, error_constant, order
from odenas.space.rooted_trees import Tree, density, size, trees
from odenas.space.tableau import Number, Tableau

ADAMS_BASHFORTH = [
    ("1",),
    ("3/2", "-1/2"),
    ("23/12", "-4/3", "5/12"),
    ("55/24", "-59/24", "37/24", "-3/8"),
    ("1901/720", "-1387/360", "109/30", "-637/360", "251/720"),
]
MIDPOINT = Tableau.multistep((0, 1), (2,))
PECE2 = Tableau(V=(1, 0), B=("1/2", "1/2"), A=((0, 0), ("3/2", 0)), W=((0,), ("-1/2",)))  # type: ignore[arg-type]
PECE3 = Tableau(
    V=(1, 0, 0),
    B=("2/3", "5/12"),  # type: ignore[arg-type]
    R=("-1/12", 0),  # type: ignore[arg-type]
    A=((0, 0), ("23/12", 0)),  # type: ignore[arg-type]
    W=((0, 0), ("-4/3", "5/12")),  # type: ignore[arg-type]
)
VERLET = Tableau.multistep((2, -1), (1,), derivative=2)
STORMER3 = Tableau.multistep((2, -1), ("13/12", "-1/6", "1/12"), derivative=2)
STORMER4 = Tableau.multistep((2, -1), ("7/6", "-5/12", "1/3", "-1/12"), derivative=2)
EXTRAPOLATED_MIDPOINT = Tableau(V=(1, 0), B=(1,), U=(("3/2", "-1/2"),))  # type: ignore[arg-type]

roots = st.lists(st.fractions(-1, 1, max_denominator=8).filter(lambda r: r != 1), max_size=3)


def states_of(others: Sequence[Fraction]) -> list[Fraction]:
    """Return V of ρ(ζ) = (ζ − 1) Π(ζ − r)."""
    rho = [Fraction(1)]
    for root in [Fraction(1), *others]:
        rho = [a - root * b for a, b in zip([*rho, Fraction(0)], [Fraction(0), *rho], strict=True)]
    return [-alpha for alpha in rho[1:]]


def multistep_of_order(states: Sequence[Fraction], p: int) -> Tableau:
    """Return the method with slopes β₀ … β_{p−1} from q Σ β_j (−j)^{q−1} = 1 − Σ V_j (−j)^q, q = 1 … p."""
    rows = [
        [Fraction(q * (-j) ** (q - 1)) for j in range(p)] + [1 - sum(v * (-j) ** q for j, v in enumerate(states))]
        for q in range(1, p + 1)
    ]
    for i in range(p):
        pivot = next(m for m in range(i, p) if rows[m][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [entry / rows[i][i] for entry in rows[i]]
        for m in range(p):
            if m != i:
                rows[m] = [a - rows[m][i] * b for a, b in zip(rows[m], rows[i], strict=True)]
    return Tableau.multistep(states, [row[-1] for row in rows])


def symmetry(tree: Tree) -> int:
    """Return σ(t) = Π m! σ(c)^m over the distinct children c with multiplicities m."""
    return math.prod(math.factorial(tree.count(c)) * symmetry(c) ** tree.count(c) for c in set(tree))


def by_nodepy(tableau: Tableau) -> Any:
    alpha = [-float(v) for v in reversed(tableau.V)] + [1.0]
    beta = [float(b) for b in reversed(tableau.slopes)] + [0.0]
    return lmm.LinearMultistepMethod(np.array(alpha), np.array(beta))


def test_numbers_of_rooted_trees() -> None:
    assert [len(trees(n)) for n in range(1, 11)] == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719]
    assert all(size(tree) == 7 for tree in trees(7))


def test_densities_up_to_four_vertices() -> None:
    assert [sorted(map(density, trees(n))) for n in (1, 2, 3, 4)] == [[1], [2], [3, 6], [4, 8, 12, 24]]


@pytest.mark.parametrize("k", range(1, 6))
def test_adams_bashforth(k: int) -> None:
    tableau = Tableau.multistep((1,), ADAMS_BASHFORTH[k - 1])
    assert order(tableau) == k
    assert error_constant(tableau) == pytest.approx([1 / 2, 5 / 12, 3 / 8, 251 / 720, 95 / 288][k - 1], rel=1e-15)


@pytest.mark.parametrize("k", [Fraction(n, 10) for n in range(-9, 10)])
def test_two_step_methods_in_closed_form(k: Fraction) -> None:
    first = Tableau.multistep((1 - k, k), (1 + k,))
    second = Tableau.multistep((1 - k, k), ((3 + k) / 2, (k - 1) / 2))
    assert (order(first), order(second)) == (1, 2)
    assert error_constant(first) == pytest.approx(float((1 - k) / (1 + k) / 2), rel=1e-15)
    assert error_constant(second) == pytest.approx(float((5 - k) / (12 * (1 + k))), rel=1e-15)


@pytest.mark.parametrize(
    ("tableau", "p", "constant"),
    [
        (MIDPOINT, 2, 1 / 6),
        (Tableau.multistep((0, 1), ("7/3", "-2/3", "1/3")), 3, 1 / 6),
        (Tableau.multistep((-4, 5), (4, 2)), 3, 1 / 36),
        (PECE2, 2, -1 / 12),
        (PECE3, 3, -1 / 24),
        (EXTRAPOLATED_MIDPOINT, 2, None),
        (Tableau.multistep((1,), ("9/10",)), 0, 1 / 9),
    ],
)
def test_known_orders_and_constants(tableau: Tableau, p: int, constant: float | None) -> None:
    assert order(tableau) == p
    assert constant is None or error_constant(tableau) == pytest.approx(constant, rel=1e-14)


def test_maximal_order_of_three_steps_is_five() -> None:
    """ρ = ζ³ + 18ζ² − 9ζ − 10 with σ = 9ζ² + 18ζ + 3 (Hairer, Nørsett, Wanner I, III.3, the explicit k = 3 case)."""
    assert order(Tableau.multistep((-18, 9, 10), (9, 18, 3))) == 5


@pytest.mark.parametrize(
    "name", ["FE", "Heun33", "RK44", "DP5", "BS5", "Merson43", "SSP33", "MTE22", "Fehlberg45", "CMR6"]
)
def test_runge_kutta_as_nodepy(name: str) -> None:
    method = rk.loadRKM(name)
    A = [[float(a) for a in row] for row in method.A]
    assert order(Tableau.runge_kutta(A, [float(b) for b in method.b])) == method.order()


@pytest.mark.parametrize("name", ["FE", "Heun33", "RK44", "DP5", "Merson43"])
def test_leading_defects_as_nodepy(name: str) -> None:
    method = rk.loadRKM(name)
    tableau = Tableau.runge_kutta([list(map(str, row)) for row in method.A], list(map(str, method.b)))
    p = order(tableau)
    norm = math.hypot(*(defect / symmetry(tree) for tree, defect in defects(tableau, p + 1).items()))
    assert norm == pytest.approx(float(method.principal_error_norm()), rel=1e-12)


def test_exact_dormand_prince() -> None:
    method = rk.loadRKM("DP5")
    tableau = Tableau.runge_kutta([list(map(str, row)) for row in method.A], list(map(str, method.b)))
    assert tableau.exact
    assert order(tableau) == 5
    assert all(not any(defects(tableau, n).values()) for n in range(1, 6))


def test_rk4_defects_of_five_vertices() -> None:
    tableau = Tableau.runge_kutta(
        ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
    )
    found = defects(tableau, 5)
    tall, bushy = (((((),),),),), ((), (), (), ())
    assert found[tall] == Fraction(1, 120)  # four nested evaluations cannot reach five
    assert found[bushy] == Fraction(1, 5) - (Fraction(1, 3) / 16 + Fraction(1, 3) / 16 + Fraction(1, 6))


@settings(deadline=None)
@given(roots, st.integers(1, 4))
def test_random_multistep_methods_have_the_order_they_are_made_for(others: list[Fraction], p: int) -> None:
    tableau = multistep_of_order(states_of(others), p)
    found = order(tableau)
    assert found >= p
    assert found == by_nodepy(tableau).order(tol=1e-9)


@settings(deadline=None)
@given(roots, st.integers(1, 3), st.sampled_from([np.float32, np.float64]))
def test_rounding_of_the_entries_does_not_change_the_order(others: list[Fraction], p: int, dtype: Any) -> None:
    exact = multistep_of_order(states_of(others), p)
    rounded = Tableau.multistep(*([float(dtype(float(e))) for e in row] for row in (exact.V, exact.slopes)))
    assert order(rounded) == order(exact)


@pytest.mark.parametrize("offset", [1e-3, 1e-6, 1e-12])
def test_more_than_rounding_changes_the_order(offset: float) -> None:
    beta = [float(Fraction(b)) for b in ADAMS_BASHFORTH[2]]
    assert order(Tableau.multistep((1.0,), beta)) == 3
    assert order(Tableau.multistep((1.0,), [beta[0] + offset, *beta[1:]])) == 0
    assert order(Tableau.multistep((1.0,), [beta[0] + offset, beta[1] - offset, beta[2]])) == 1


@settings(deadline=None)
@given(roots, st.integers(1, 3))
def test_all_trees_of_one_size_pose_a_multistep_method_one_condition(others: list[Fraction], p: int) -> None:
    tableau = multistep_of_order(states_of(others), p)
    for n in range(1, 6):
        assert len({defect * density(tree) for tree, defect in defects(tableau, n).items()}) == 1


@settings(deadline=None)
@given(st.lists(st.fractions(-2, 2, max_denominator=6), min_size=10, max_size=10))
def test_three_stages_have_order_three_if_and_only_if_four_conditions_hold(c: list[Fraction]) -> None:
    A: list[list[Number]] = [[0, 0, 0], [c[0], 0, 0], [c[1], c[2], 0]]
    b = c[3:6]
    times = [Fraction(0), c[0], c[1] + c[2]]
    conditions = [
        sum(b) == 1,
        sum(w * t for w, t in zip(b, times, strict=True)) == Fraction(1, 2),
        sum(w * t * t for w, t in zip(b, times, strict=True)) == Fraction(1, 3) and b[2] * c[2] * c[0] * 6 == 1,
    ]
    expected = next((i for i, holds in enumerate(conditions) if not holds), 3)
    assert order(Tableau.runge_kutta(A, b)) == expected


@settings(deadline=None)
@given(st.fractions(-2, 2, max_denominator=6).filter(bool), st.fractions(-2, 2, max_denominator=6).filter(bool))
def test_kutta_third_order_family(u: Fraction, v: Fraction) -> None:
    """Two free abscissae u, v (Butcher, Numerical Methods for Ordinary Differential Equations, §322)."""
    if u == v or u == Fraction(2, 3):
        return
    b2, b3 = (3 * v - 2) / (6 * u * (v - u)), (2 - 3 * u) / (6 * v * (v - u))
    a32 = 1 / (6 * b3 * u)
    tableau = Tableau.runge_kutta([[0, 0, 0], [u, 0, 0], [v - a32, a32, 0]], [1 - b2 - b3, b2, b3])
    assert order(tableau) == 3


def test_a_stage_that_moves_a_constant_solution_has_no_order() -> None:
    tableau = Tableau(V=(1,), B=(1,), U=((2,),))
    assert order(tableau) == 0
    assert math.isinf(error_constant(tableau))


def test_a_vanishing_sum_of_slopes_has_no_error_constant() -> None:
    assert math.isinf(error_constant(Tableau.multistep((2, -1), (1, -1))))


def test_the_search_stops_at_the_highest_order_asked_for() -> None:
    assert order(Tableau.multistep((1,), ADAMS_BASHFORTH[4]), highest=3) == 3


def missed(tableau: Tableau, q: int) -> Fraction:
    """Return by what one step from exact history misses 1 = x(1) for x = t^q."""
    d, missing = tableau.derivative, Fraction(1)
    for j, (v, b) in enumerate(zip(tableau.V, tableau.slopes, strict=True)):
        missing -= Fraction(v) * Fraction(-j) ** q
        missing -= Fraction(b) * math.perm(q, d) * Fraction(-j) ** max(q - d, 0)
    return missing


@pytest.mark.parametrize(
    ("tableau", "p", "constant"), [(VERLET, 2, 1 / 12), (STORMER3, 3, 1 / 12), (STORMER4, 4, 19 / 240)]
)
def test_methods_for_the_second_derivative(tableau: Tableau, p: int, constant: float) -> None:
    """Störmer's constants are 1, 0, 1/12, 1/12, 19/240 (Hairer, Nørsett, Wanner I, III.10)."""
    assert order(tableau) == p
    assert error_constant(tableau) == pytest.approx(constant, rel=1e-15)
    assert defects(tableau, p) == {((),) * (p - 1): 0}
    assert defects(tableau, p + 1) == {((),) * p: Fraction(missed(tableau, p + 2), (p + 2) * (p + 1))}


@settings(deadline=None, max_examples=50)
@given(roots, st.integers(1, 3), st.sampled_from([float, lambda v: v]))
def test_order_for_the_second_derivative_is_the_degree_of_the_powers_met(
    others: list[Fraction], p: int, kept: Any
) -> None:
    """Slopes that meet t², …, t^{p+1} exist for every ρ with a double root 1."""
    states = states_of([Fraction(1), *others])
    powers = np.array([[float(-j) ** q for j in range(p)] for q in range(p)])
    without = Tableau.multistep(states, [0], derivative=2)
    wanted = np.array([float(missed(without, q + 2)) / ((q + 2) * (q + 1)) for q in range(p)])
    slopes = [Fraction(b).limit_denominator(10**6) for b in np.linalg.solve(powers, wanted)]
    exact = Tableau.multistep(states, slopes, derivative=2)
    tableau = Tableau.multistep([kept(v) for v in exact.V], [kept(b) for b in exact.slopes], derivative=2)
    degree = next(q for q in range(30) if missed(exact, q)) - 1
    assert order(tableau) == min(degree - 1, 10) >= p
    scale = float(math.factorial(order(tableau) + 2) * sum(exact.slopes))
    if scale:
        assert error_constant(tableau) == pytest.approx(float(missed(exact, order(exact) + 2)) / scale, rel=1e-6)


@pytest.mark.parametrize("states", [(1,), ("3/2", "-1/2"), (0, 1)])
def test_a_method_for_the_second_derivative_must_keep_a_velocity(states: tuple[Any, ...]) -> None:
    """x = t is a solution of x'' = 0, and a step that stops it has no order."""
    tableau = Tableau.multistep(states, (1,), derivative=2)
    assert order(tableau) == 0
    assert math.isinf(error_constant(tableau))


def test_a_stage_at_the_origin_adds_nothing_of_first_order() -> None:
    def poly(*weights: Any) -> Tableau:
        return Tableau(V=(1,), B=weights, A=((0, 0), (1, 0)), U=((1,), (0,)))

    assert [order(poly(1, w)) for w in (1, -3, "1/2")] == [1, 1, 1]
    assert [order(poly("1/2", w)) for w in ("1/2", 0)] == [0, 0]
    assert order(poly(1, 1), highest=0) == 0
    heun = Tableau(V=(1,), B=("1/2", "1/2", 1), A=((0, 0, 0), (1, 0, 0), (1, 0, 0)), U=((1,), (1,), (0,)))  # type: ignore[arg-type]
    assert order(heun) == 1  # h f(h f) is of second order, and one too many
    assert math.isinf(error_constant(poly(1, 1)))
    # The first stage is what earlier slopes are of, and here it is at the origin.
    past = Tableau(V=(1, 0), B=(0, 1), R=(1,), U=((0, 0), (1, 0)), W=((1,), (0,)))
    assert order(past) == 1
