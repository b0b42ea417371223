from typing import Any

import pandas as pd
import pytest
from scipy import stats

from odenas.results import summary
from odenas.results.columns import CONFIRMATIONS, SUMMARY
from odenas.results.frames import frame
from odenas.results.summary import holm, parts

Row = dict[str, Any]


def trainings(label: str, errors: dict[int, float | None], **fields: Any) -> list[Row]:
    row = {"label": label, "role": "candidate", "status": "COMPLETE", "data": "digits", "train_size": 100, "budget": 5}
    return [{**row, "seed": seed, "test_error": error, **fields} for seed, error in errors.items()]


def twin(of: str, errors: dict[int, float | None], **fields: Any) -> list[Row]:
    return trainings(f"twin of {of}", errors, role="twin", twin_of=of, **fields)


def table(*rows: list[Row]) -> pd.DataFrame:
    return summary(frame([row for group in rows for row in group], CONFIRMATIONS))


def only(summarised: pd.DataFrame, label: str) -> Row:
    (row,) = summarised[summarised["label"] == label].to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


A = {0: 8.0, 1: 8.4, 2: 8.1, 3: 8.3, 4: 8.6}
EULER = {0: 9.1, 1: 9.2, 2: 9.3, 3: 9.1, 4: 9.4}


def test_no_trainings_give_all_columns() -> None:
    assert table().dtypes.astype(str).to_dict() == {name: dtype for name, (dtype, _) in SUMMARY.items()}


def test_against_scipy() -> None:
    summarised = table(trainings("a", dict(A), params=10), twin("a", dict(EULER)))
    row, a, euler = only(summarised, "a"), list(A.values()), list(EULER.values())
    assert row["mean"] == pytest.approx(8.28)
    assert row["std"] == pytest.approx(0.23874672772626646)  # √(0.228 / 4)
    low, high = stats.t.interval(0.95, 4, loc=8.28, scale=stats.sem(a))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    test = stats.ttest_rel(a, euler)
    interval = test.confidence_interval(0.95)
    assert row["difference"] == pytest.approx(8.28 - 9.22)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert row["p_value"] == row["p_holm"] == pytest.approx(test.pvalue)
    assert (row["seeds"], row["pairs"], row["failed"], row["params"]) == (5, 5, 0, 10)
    assert row["verdict"] == "better than its Euler twin (95% confidence, 5 seeds, 1 comparison)"
    assert only(summarised, "twin of a")["verdict"] == "the twin itself"


def test_worse_and_within_noise() -> None:
    noise: dict[int, float | None] = {0: 9.3, 1: 9.0, 2: 9.4, 3: 9.0, 4: 9.4}
    summarised = table(trainings("a", dict(EULER)), twin("a", dict(A)), trainings("b", noise), twin("b", dict(EULER)))
    assert only(summarised, "a")["verdict"] == "worse than its Euler twin (95% confidence, 5 seeds, 2 comparisons)"
    assert only(summarised, "b")["verdict"] == "within noise of its Euler twin (95% confidence, 5 seeds, 2 comparisons)"


def test_many_comparisons_raise_the_bar() -> None:
    close: dict[int, float | None] = {0: 8.8, 1: 8.9, 2: 8.7, 3: 9.0, 4: 9.3}
    alone = only(table(trainings("a", close), twin("a", dict(EULER))), "a")
    assert 0.01 < alone["p_value"] < 0.05
    assert alone["verdict"].startswith("better")
    pairs = [rows for i in range(20) for rows in (trainings(f"{i}", close), twin(f"{i}", dict(EULER)))]
    crowd = only(table(*pairs), "0")
    assert crowd["p_value"] == alone["p_value"]
    assert crowd["p_holm"] == pytest.approx(min(1, 20 * alone["p_value"]))
    assert crowd["verdict"].startswith("within noise")


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("errors", "euler", "verdict", "seeds", "pairs"),
    [
        ({0: 8.0}, {0: 9.0}, "one seed: nothing to say", 1, 1),
        ({0: 8.0, 1: 8.5}, {1: 9.0}, "one seed: nothing to say", 2, 1),
        ({0: 8.0, 1: 8.5}, {2: 9.0, 3: 9.5}, "no seed in common with its twin", 2, 0),
        ({0: 8.1, 1: 8.4}, {0: 9.1, 1: 9.4}, "the same difference for all of 2 seeds: no spread", 2, 2),
        ({0: 9.0, 1: 9.0}, {0: 9.0, 1: 9.0}, "the same difference for all of 2 seeds: no spread", 2, 2),
        ({0: None}, {0: 9.0}, "no finished training", 0, None),
        ({0: float("inf"), 1: float("nan")}, {0: 9.0, 1: 9.0}, "no finished training", 0, None),
        ({0: 8.0, 1: 8.5}, {}, "no twin to compare with", 2, None),
    ],
)
def test_where_nothing_can_be_said(
    errors: dict[int, float | None], euler: dict[int, float | None], verdict: str, seeds: int, pairs: int | None
) -> None:
    row = only(table(trainings("a", errors), twin("a", euler)), "a")
    assert row["verdict"].startswith(verdict)
    assert (row["seeds"], row["failed"]) == (seeds, len(errors) - seeds)
    assert row["pairs"] == pairs
    assert row["p_value"] is row["p_holm"] is None


def test_one_seed_has_a_mean_but_no_spread() -> None:
    row = only(table(trainings("a", {0: 8.0})), "a")
    assert row["mean"] == 8.0
    assert row["std"] is row["low"] is row["high"] is None


def test_equal_errors_have_no_interval() -> None:
    row = only(table(trainings("a", {0: 0.1 + 0.2, 1: 0.3, 2: 0.3})), "a")
    assert row["std"] == 0.0
    assert row["low"] is None


def test_only_seeds_of_both_are_compared() -> None:
    row = only(table(trainings("a", dict(A)), twin("a", {0: 9.1, 2: 9.3, 4: 9.4, 9: 0.0})), "a")
    assert row["pairs"] == 3
    assert row["difference"] == pytest.approx((8.0 + 8.1 + 8.6 - 9.1 - 9.3 - 9.4) / 3)


def test_failed_and_running_trainings_are_no_numbers() -> None:
    rows = trainings("a", {0: 8.0, 1: 8.2}) + trainings("a", {2: 1.0}, status="FAIL")
    row = only(table(rows, trainings("a", {3: 1.0}, status="RUNNING")), "a")
    assert (row["mean"], row["seeds"], row["failed"]) == (pytest.approx(8.1), 2, 1)


def test_fidelities_are_not_mixed() -> None:
    long = trainings("a", {0: 5.0, 1: 5.2}, budget=50)
    summarised = table(trainings("a", {0: 8.0, 1: 8.2}), long, twin("a", {0: 9.0, 1: 9.4}))
    assert summarised["budget"].tolist() == [5, 50, 5]
    assert summarised["verdict"].tolist()[1] == "no twin to compare with"
    assert summarised["pairs"].tolist()[0] == 2


def test_networks_of_one_name_are_told_apart_by_their_trial() -> None:
    first = trainings("lm", {0: 8.0, 1: 8.2}, number=1), twin("lm", {0: 9.0, 1: 9.3}, number=1)
    second = trainings("lm", {0: 7.0, 1: 7.2}, number=2), twin("lm", {0: 7.5, 1: 7.8}, number=2)
    summarised = table(*first, *second)
    assert summarised["difference"].tolist()[::2] == pytest.approx([-1.05, -0.55])


def test_parts_are_means_over_the_trainings_that_finished() -> None:
    rows = [
        {"label": "a", "status": "COMPLETE", "test_parts": '{"σ 15": -30.0, "σ 5": -40.0}'},
        {"label": "a", "status": "COMPLETE", "test_parts": '{"σ 15": -32.0, "σ 5": -41.0}'},
        {"label": "a", "status": "FAIL", "test_parts": '{"σ 15": 0.0, "σ 5": 0.0}'},
        {"label": "b", "status": "COMPLETE", "test_parts": '{"σ 15": -29.0, "σ 5": -39.0}'},
        {"label": "c", "status": "COMPLETE"},
    ]
    table = parts(frame(rows, CONFIRMATIONS))
    assert list(table.columns) == ["σ 15", "σ 5"]
    assert table.to_dict("index") == {"a": {"σ 15": -31.0, "σ 5": -40.5}, "b": {"σ 15": -29.0, "σ 5": -39.0}}
    for none in ([], rows[4:]):
        assert parts(frame(none, CONFIRMATIONS)).shape == (0, 0)
