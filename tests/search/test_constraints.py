"""Bounds on what a network costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odenas.search.constraints import broken, constraint, total_violation, violations
from odenas.search.objectives import OBJECTIVES
from odenas.space import OdenasError


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("params <= 300k", "params", 300_000),
        ("params≤300_000", "params", 300_000),
        (" macs <= 1.5 G ", "macs", 1.5e9),
        ("latency <= 2 ms", "latency", 2),
        ("latency <= 0.5s", "latency", 500),
        ("latency <= 800 µs", "latency", 0.8),
        ("seconds <= 2 h", "seconds", 7200),
        ("validation_error <= 12.5 %", "validation_error", 12.5),
        ("evaluations <= 1e2", "evaluations", 100),
    ],
)
def test_a_constraint_is_read_with_its_unit(text: str, name: str, limit: float) -> None:
    found = constraint(text)
    assert (found.name, found.text) == (name, text.strip())
    assert found.limit == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("params >= 3", "a constraint is NAME <= NUMBER"),
        ("params <= ", "a constraint is NAME <= NUMBER"),
        ("params <= 3 <= 4", "a constraint is NAME <= NUMBER"),
        ("parms <= 3", "parms.*params"),
        ("params <= 2 ms", "params knows k, M, G, not ms"),
        ("params <= 0", "must be positive"),
        ("params <= 1e999", "must be positive and finite"),
    ],
)
def test_what_is_no_constraint_is_refused_in_one_line(text: str, match: str) -> None:
    with pytest.raises(OdenasError, match=match) as error:
        constraint(text)
    assert "\n" not in str(error.value)


@given(st.sampled_from(sorted(OBJECTIVES)), st.floats(1e-3, 1e9), st.floats(0, 1e10))
def test_a_row_breaks_it_exactly_where_it_exceeds_the_limit(name: str, limit: float, value: float) -> None:
    one = constraint(f"{name} <= {limit!r}".replace("e+", "e"))
    row = {name: value}
    exceeded = value / one.limit > 1
    assert (broken(row, [one]) is not None) == (exceeded and name != "validation_error")
    assert (total_violation(row, [one]) > 0) == exceeded
    assert (violations(row, [one])[one.text] > 0) == exceeded


def test_an_error_that_may_still_fall_is_broken_at_the_end_alone() -> None:
    bound = [constraint("validation_error <= 10 %")]
    assert broken({"validation_error": 50.0}, bound) is None
    assert total_violation({"validation_error": 50.0}, bound) == 4


def test_what_is_not_known_yet_is_not_broken() -> None:
    both = [constraint("params <= 10"), constraint("latency <= 1 ms")]
    assert broken({}, both) is None
    assert violations({"params": 20}, both) == {"params <= 10": 1.0}
    assert broken({"params": 20, "latency": 5.0}, both) == "breaks params <= 10: 20"
    assert total_violation({"params": 20, "latency": 3.0}, both) == pytest.approx(3)
    assert total_violation({"params": 5, "latency": None}, both) == 0
