"""What a search minimises."""

import math

import pytest

from odenas.results.columns import TRIALS
from odenas.search.objectives import OBJECTIVES, check_objectives, values_of
from odenas.space import OdenasError


def test_each_is_a_number_of_the_table() -> None:
    assert {TRIALS[name][0] for name in OBJECTIVES} <= {"Int64", "Float64"}


def test_they_are_read_in_order_and_what_is_not_known_is_worst() -> None:
    row = {"params": 300, "validation_error": float("nan"), "latency": None}
    assert values_of(row, ["params", "validation_error", "latency", "macs"]) == (300.0, math.inf, math.inf, math.inf)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["validation_error", "parms"], "`objectives` is 'parms'.*params"),
        (["validation_error", "macs", "macs"], "`objectives` names macs twice"),
        (["params"], "needs validation_error too, or a bound on it"),
    ],
)
def test_what_is_wrong_is_one_line(names: list[str], match: str) -> None:
    with pytest.raises(OdenasError, match=match) as error:
        check_objectives(names)
    assert "\n" not in str(error.value)
