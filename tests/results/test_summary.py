"""The summary of retrainings: against scipy, on simulated families whose truth is known, and where little is known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from odenas.results import summary
from odenas.results.columns import CONFIRMATIONS, SUMMARY
from odenas.results.frames import frame
from odenas.results.summary import confirmed_winner, families, parts

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
    row = only(summarised, "b")
    assert row["verdict"] == "within noise of its Euler twin (95% confidence, 5 seeds, 2 comparisons)"
    assert row["seeds_needed"] is only(summarised, "a")["seeds_needed"] is None  # the difference is none at all


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
    assert crowd["seeds_needed"] > 5
    assert alone["seeds_needed"] is None


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


@pytest.mark.parametrize("other", [{"budget": 50}, {"train_size": None}, {"data": "cifar10"}])
def test_each_fidelity_is_a_family_of_its_own(other: Row) -> None:
    here = trainings("a", dict(A)), twin("a", dict(EULER))
    close: dict[int, float | None] = {0: 8.8, 1: 8.9, 2: 8.7, 3: 9.0, 4: 9.3}
    there = [trainings(name, close, **other) + twin(name, dict(EULER), **other) for name in "abc"]
    alone, both = table(*here), table(*here, *there)
    pd.testing.assert_frame_equal(both.head(2), alone)
    assert both["comparisons"].dropna().tolist() == [1, 3, 3, 3]
    parted = families(both)
    assert sorted(len(rows) for rows in parted) == [2, 6]
    if "data" not in other:
        assert [len(rows) for rows in parted] == [2, 6]  # the longer, or all images, come last


def test_the_comparisons_are_those_with_a_twin_each_network_once() -> None:
    """What failed, or has no spread, or one seed, was tried as well; another name of one network was not."""
    same = {0: 8.1, 1: 8.4}
    rows = [
        (trainings("a", dict(A), scheme="A"), twin("a", dict(EULER), scheme="E")),
        (trainings("failed", {0: None, 1: None}, scheme="B"), twin("failed", dict(EULER), scheme="E")),
        (trainings("one", {0: 8.0}, scheme="C"), twin("one", dict(EULER), scheme="E")),
        (trainings("no spread", dict(same), scheme="D"), twin("no spread", {0: 9.1, 1: 9.4}, scheme="E")),
        (trainings("a again", dict(A), scheme="A", number=3), twin("a again", dict(EULER), scheme="E", number=3)),
        (trainings("without", dict(A), scheme="F"),),
    ]
    summarised = table(*(group for pair in rows for group in pair))
    row, again = only(summarised, "a"), only(summarised, "a again")
    assert row["comparisons"] == again["comparisons"] == 4
    assert row["p_holm"] == again["p_holm"] == pytest.approx(4 * row["p_value"])
    assert only(summarised, "failed")["p_holm"] is None


def test_an_old_name_with_fewer_seeds_says_where_to_look() -> None:
    few = {0: 8.0, 1: 8.4}
    rows = trainings("lm", dict(few), scheme="L"), twin("lm", dict(EULER), scheme="E")
    more = trainings("trial 1: lm", dict(A), scheme="L", number=1), twin("trial 1: lm", dict(EULER), number=1)
    summarised = table(*rows, *more)
    assert only(summarised, "lm")["verdict"] == "the same network as trial 1: lm, which has more seeds"
    assert only(summarised, "trial 1: lm")["comparisons"] == 1


def simulated(rng: np.random.Generator, count: int, networks: int, seeds: int, gain: float = 0.0) -> pd.DataFrame:
    """Return `count` families of networks that share a twin, each `gain` below it in truth."""
    rows = []
    for budget in range(count):
        luck = rng.normal(0, 1, seeds)  # of the seed, which network and twin share
        for network in range(networks):
            own = 8 - gain + luck + rng.normal(0, 1, seeds)
            rows += trainings(f"{network}", dict(enumerate(map(float, own))), scheme=f"{network}", budget=budget)
        euler = dict(enumerate(map(float, 8 + luck + rng.normal(0, 1, seeds))))
        for network in range(networks):
            rows += twin(f"{network}", dict(euler), scheme="E", budget=budget)
    summarised = table(rows)
    return summarised[summarised["role"] == "candidate"]


def test_where_nothing_is_better_few_families_say_so() -> None:
    """The chance of any wrong verdict in a family is at most 5 %, and that of a wrong "better" half of it."""
    count = 2000
    found = simulated(np.random.default_rng(1), count, networks=4, seeds=5)
    told = {word: found[found["verdict"].str.startswith(word)]["budget"].nunique() for word in ("better", "worse")}
    spread = (count * 0.05 * 0.95) ** 0.5
    assert sum(told.values()) <= count * 0.05 + 3 * spread
    assert told["better"] <= count * 0.025 + 3 * spread
    assert told["better"] > 0  # and so the test can fail
    uncorrected = found[found["p_value"] < 0.05]["budget"].nunique()
    assert uncorrected > count * 0.05 + 3 * spread


def test_intervals_cover_the_truth() -> None:
    count, gain = 2000, 0.7
    found = simulated(np.random.default_rng(2), count, networks=1, seeds=4, gain=gain)
    spread = (count * 0.05 * 0.95) ** 0.5
    for low, high, truth in (("low", "high", 8 - gain), ("difference_low", "difference_high", -gain)):
        covered = int(((found[low] <= truth) & (truth <= found[high])).sum())
        assert abs(covered - 0.95 * count) <= 3 * spread


def test_the_winner_has_the_best_validation_error_of_the_longest_trainings() -> None:
    def candidate(number: int, validation: list[float], **fields: Any) -> list[Row]:
        rows = trainings(f"trial {number}", dict.fromkeys(range(len(validation)), 5.0), number=number, **fields)
        return [{**row, "validation_error": error} for row, error in zip(rows, validation, strict=True)]

    def winner(*rows: list[Row]) -> int | None:
        return confirmed_winner(frame([row for group in rows for row in group], CONFIRMATIONS))

    assert winner() is None
    short = candidate(1, [3.0, 2.0]), candidate(2, [4.0, 2.5])
    assert winner(*short) == 1
    long = candidate(1, [2.0, 2.0], budget=50), candidate(2, [1.0, 1.0], budget=50)
    assert winner(*short, *long) == 2
    # A mean over the seeds that went well would flatter; where the longest all failed, the others decide.
    failed = trainings("trial 2", {7: None}, number=2, budget=50, status="FAIL")
    assert winner(*short, *long, failed) == 1
    assert winner(*short, failed) == 1
    assert winner(candidate(4, [1.0], role="twin"), candidate(5, [0.5], role="baseline")) is None


def test_the_mean_validation_error_is_over_the_trainings_that_finished() -> None:
    rows = [
        {**row, "validation_error": error}
        for row, error in zip(trainings("a", {0: 8.0, 1: 8.2, 2: None}), [7.0, 7.5, 1.0], strict=True)
    ]
    assert only(table(rows), "a")["validation_error"] == 7.25


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
