"""Early stopping: the rules against their definitions."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odenas.search.stopping import RULES, Curve, Setting, bracket_of, check_rule, rungs
from odenas.space import OdenasError

SETTING = Setting(epochs=30, grace=2, reduction=3, seed=0)


def curves(values: list[list[float]]) -> dict[int, Curve]:
    return {number: Curve([(value,) for value in points]) for number, points in enumerate(values)}


def test_rungs_grow_by_the_reduction_and_end_before_the_budget() -> None:
    assert rungs(SETTING) == [2, 6, 18]
    assert rungs(SETTING, bracket=1) == [6, 18]
    assert rungs(Setting(9, 1, 3, 0)) == [1, 3]  # at 9 the budget is reached
    assert rungs(Setting(1, 1, 3, 0)) == []


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 50), st.sampled_from([2, 3, 6]))
def test_asha_lets_the_best_share_go_on(others: list[int], mine: int, epoch: int) -> None:
    known = curves([[float(value)] * 6 for value in others])
    stops = RULES["asha"](99, Curve([(float(mine),)] * epoch), known, SETTING)
    if epoch == 3:
        assert not stops
    else:
        # Of equals the earlier one is before.
        place = sum(value <= mine for value in others)
        assert stops == (place >= math.ceil((len(others) + 1) / 3))


def test_asha_compares_at_the_same_epoch_alone() -> None:
    known = curves([[1.0], [1.0], [1.0, 5.0], [1.0, 9.0, 0.0, 0.0]])
    assert not RULES["asha"](9, Curve([(8.0,), (4.9,)]), known, SETTING)
    assert RULES["asha"](9, Curve([(0.0,), (5.1,)]), known, SETTING)


def test_asha_with_several_objectives_stops_what_is_dominated() -> None:
    front = {number: Curve([(float(number), 10.0 - number)] * 2) for number in range(4)}
    rest = {number: Curve([(float(number), 20.0)] * 2) for number in range(4, 11)}
    # 4 of 12 may go on: those that nothing dominates, or of these the ones that spread widest.
    assert RULES["asha"](99, Curve([(5.0, 19.0)] * 2), front | rest, SETTING)
    assert not RULES["asha"](99, Curve([(-1.0, 30.0)] * 2), front | rest, SETTING)
    assert not RULES["asha"](99, Curve([(100.0, -5.0)] * 2), front | rest, SETTING)


def test_what_breaks_a_constraint_comes_last() -> None:
    known = {number: Curve([(50.0,)] * 2) for number in range(2)}
    assert not RULES["asha"](9, Curve([(1.0,)] * 2), known, SETTING)
    assert RULES["asha"](9, Curve([(1.0,)] * 2, violation=0.1), known, SETTING)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 20), min_size=5, max_size=5), min_size=1, max_size=12), st.data())
def test_the_median_rule_is_its_definition(others: list[list[int]], data: st.DataObject) -> None:
    mine = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=5))
    known = curves([[float(value) for value in row] for row in others])
    stops = RULES["median"](99, Curve([(float(value),) for value in mine]), known, SETTING)
    done = len(mine)
    means = [float(np.mean(row[:done])) for row in others]
    assert stops == (done >= 2 and min(mine) > np.median(means))


def test_hyperband_gives_the_brackets_the_shares_of_its_paper() -> None:
    # epochs 30, grace 2, η = 3: four brackets of n = 27, 12, 6, 4 trials, the last of which stops none.
    counts = Counter(bracket_of(number, SETTING) for number in range(20_000))
    shares = np.array([counts[bracket] for bracket in range(4)]) / 20_000
    np.testing.assert_allclose(shares, np.array([27, 12, 6, 4]) / 49, atol=0.015)
    assert [bracket_of(number, SETTING) for number in range(50)] == [
        bracket_of(number, SETTING) for number in range(50)
    ]


def test_hyperband_compares_within_the_bracket() -> None:
    first = [number for number in range(200) if bracket_of(number, SETTING) == 0]
    later = [number for number in range(200) if bracket_of(number, SETTING) == 1]
    bad, good = Curve([(90.0,)] * 2), Curve([(1.0,)] * 2)
    assert not RULES["hyperband"](first[0], bad, dict.fromkeys(later, good), SETTING)
    assert RULES["hyperband"](first[0], bad, dict.fromkeys(first[1:9], good), SETTING)
    assert not RULES["hyperband"](later[0], bad, dict.fromkeys(later[1:9], good), SETTING)  # its first rung is at 6


def test_no_rule_stops_at_the_budget_or_without_others() -> None:
    worst = Curve([(100.0,)] * 30)
    best = {number: Curve([(0.0,)] * 30) for number in range(9)}
    for rule in RULES.values():
        assert not rule(99, worst, best, SETTING)
        for epoch in range(1, 30):
            assert not rule(99, Curve([(100.0,)] * epoch), {}, SETTING)


def test_none_never_stops() -> None:
    rng = random.Random(0)
    known = curves([[rng.random() for _ in range(30)] for _ in range(30)])
    assert not any(RULES["none"](99, Curve([(9.0,)] * epoch), known, SETTING) for epoch in range(1, 30))


def test_the_median_takes_one_objective() -> None:
    check_rule("asha", ["validation_error", "params"])
    check_rule("median", ["validation_error"])
    check_rule("none", ["params"])
    with pytest.raises(OdenasError, match="`scheduler` is 'asha', which compares trials as they train"):
        check_rule("asha", ["params"])
    with pytest.raises(OdenasError, match="`scheduler` is 'median', which compares one number"):
        check_rule("median", ["validation_error", "params"])
