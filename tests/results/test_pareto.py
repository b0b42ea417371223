"""Non-dominated ranks and places against the definitions, and against Optuna's sort."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.study._multi_objective import _fast_non_domination_rank

from odenas.results.pareto import fronts, ranking, spread_order

Array = NDArray[np.float64]
# Few values, so that ties and duplicates are frequent; and any values at all.
NUMBER = st.one_of(st.integers(0, 4).map(float), st.floats(allow_nan=False, allow_infinity=False))
ANY = st.one_of(NUMBER, st.just(math.nan), st.just(math.inf), st.just(-math.inf))


@st.composite
def points(draw: st.DrawFn, number: st.SearchStrategy[float] = NUMBER) -> tuple[Array, Array | None]:
    n, m = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    values = draw(st.lists(st.lists(number, min_size=m, max_size=m), min_size=n, max_size=n))
    violations = draw(st.none() | st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.5, 2.0, 3.0]), min_size=n, max_size=n))
    return np.array(values, dtype=float).reshape(n, m), None if violations is None else np.array(violations)


def dominates(a: Array, b: Array, of_a: float, of_b: float) -> bool:
    """Return whether a dominates b, word for word as Deb et al. 2002 define it."""
    if of_a <= 0 < of_b:
        return True
    if of_a > 0 and of_b > 0:
        return of_a < of_b
    return of_a <= 0 and of_b <= 0 and all(a <= b) and any(a < b)


def peeled(values: Array, violations: Array) -> list[int]:
    """Return the ranks by taking away the points that no other dominates, again and again."""
    left, ranks, rank = set(range(len(values))), [0] * len(values), 0
    while left:
        best = {i for i in left if not any(dominates(values[j], values[i], violations[j], violations[i]) for j in left)}
        for i in best:
            ranks[i] = rank
        left, rank = left - best, rank + 1
    return ranks


@given(points())
def test_ranks_are_those_of_the_definition(given_points: tuple[Array, Array | None]) -> None:
    values, violations = given_points
    plain = np.zeros(len(values)) if violations is None else violations
    assert fronts(values, violations).tolist() == peeled(values, plain)


@given(points())
def test_ranks_are_those_of_optuna(given_points: tuple[Array, Array | None]) -> None:
    values, violations = given_points
    assert fronts(values, violations).tolist() == _fast_non_domination_rank(values, penalty=violations).tolist()


@given(points(ANY))
def test_what_is_not_finite_comes_last(given_points: tuple[Array, Array | None]) -> None:
    values, violations = given_points
    finite = np.isfinite(values).all(axis=1)
    ranks, places = fronts(values, violations), ranking(values, violations)
    within = fronts(values[finite], None if violations is None else violations[finite])
    assert ranks[finite].tolist() == within.tolist()
    assert set(ranks[~finite]) <= {within.max(initial=-1) + 1}
    assert places[~finite].tolist() == list(range(int(finite.sum()), len(values)))
    assert spread_order(values)[finite.sum() :].tolist() == np.flatnonzero(~finite).tolist()


def test_an_unknown_violation_comes_last() -> None:
    assert fronts([[1.0], [2.0], [3.0]], [math.nan, 7.0, -1.0]).tolist() == [2, 1, 0]
    assert fronts([[1.0], [2.0], [3.0]], [math.inf, 7.0, -math.inf]).tolist() == [1, 0, 1]


def unit_box(values: Array) -> Array:
    """Return the columns scaled to [0, 1]."""
    scaled = values / np.maximum(np.abs(values).max(axis=0), 5e-324)
    span = scaled.max(axis=0) - scaled.min(axis=0)
    return np.array((scaled - scaled.min(axis=0)) / np.where(span > 0, span, 1))


@given(points())
def test_each_point_is_the_farthest_from_those_before_it(given_points: tuple[Array, Array | None]) -> None:
    values, _ = given_points
    order = spread_order(values).tolist()
    assert sorted(order) == list(range(len(values)))
    if not order:
        return
    assert values[order[0], 0] == values[:, 0].min()
    scaled = unit_box(values)
    far = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    for place in range(1, len(order)):
        nearest = {i: far[i, order[:place]].min() for i in order[place:]}
        assert nearest[order[place]] == pytest.approx(max(nearest.values()), abs=1e-12)


def test_the_ends_of_a_front_come_before_its_middle() -> None:
    line = np.linspace(0, 1, 5)
    # The unit of an objective does not matter: error in percent, parameters by the million.
    assert spread_order(np.stack([line, 1e6 * (1 - line)], axis=1)).tolist() == [0, 4, 2, 1, 3]
    assert spread_order(np.stack([1 - line, 1e6 * line], axis=1)).tolist() == [4, 0, 2, 1, 3]
    assert spread_order([[3.0, 0.0]] * 3).tolist() == [0, 1, 2]


@given(points())
def test_places_go_front_by_front(given_points: tuple[Array, Array | None]) -> None:
    values, violations = given_points
    places, ranks = ranking(values, violations), fronts(values, violations)
    order = np.argsort(places)
    assert sorted(places) == list(range(len(values)))
    assert np.all(np.diff(ranks[order]) >= 0)
    for rank in set(ranks):
        front = np.flatnonzero(ranks == rank)
        assert order[np.isin(order, front)].tolist() == front[spread_order(values[front])].tolist()


@given(st.lists(NUMBER, max_size=12))
def test_with_one_objective_it_is_the_order_of_the_numbers(numbers: list[float]) -> None:
    places = ranking(np.array(numbers).reshape(-1, 1))
    assert np.argsort(places).tolist() == np.argsort(numbers, kind="stable").tolist()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`values` has the shape \(3,\), but must be \(points, objectives\)"):
        fronts([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"`violations` has the shape \(1,\), but must be \(2,\)"):
        ranking([[1.0], [2.0]], [0.0])


@pytest.mark.parametrize("m", [1, 2, 3])
def test_a_thousand_points_take_milliseconds(m: int) -> None:
    values = np.random.default_rng(0).random((1000, m))
    spread = np.sort(values, axis=0) * [1, -1, 1][:m]  # one front, where there are two objectives or more
    for those in (values, spread):
        spent = []
        for _ in range(5):
            begun = time.process_time()
            ranking(those)
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.05
