"""Interval, test, correction and sample size against what defines them, and against scipy."""

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from odenas.results.inference import MOST, estimate, holm, pairs_needed


@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_an_estimate_is_scipy_s(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20):
        first, second = rng.normal(8, 1, count), rng.normal(8.5, 2, count)
        found = estimate([float(a - b) for a, b in zip(first, second, strict=True)])
        test = stats.ttest_rel(first, second)
        ends = test.confidence_interval(0.95)
        assert found.mean == pytest.approx(fmean(first) - fmean(second))
        assert found.std == pytest.approx(np.std(first - second, ddof=1))
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
        assert found.p_value == pytest.approx(test.pvalue)


def test_what_a_sample_does_not_say() -> None:
    assert estimate([]) == (None, None, None, None, None)
    assert estimate([3.0]) == (3.0, None, None, None, None)
    assert estimate([0.3, 0.1 + 0.2])[1:] == (0.0, None, None, None)


def test_holm_is_the_closure_of_bonferroni() -> None:
    """A hypothesis is rejected where every set that holds it is (Marcus, Peritz and Gabriel, Biometrika 63, 1976)."""
    rng = np.random.default_rng(0)
    for count in range(1, 7):
        for _ in range(20):
            p = [float(value) for value in rng.random(count) ** 3]
            p[-1] = p[0]  # ties, too
            closed = []
            for i in range(count):
                others = [j for j in range(count) if j != i]
                sets = [(i, *chosen) for size in range(count) for chosen in combinations(others, size)]
                closed.append(max(min(1.0, len(one) * min(p[j] for j in one)) for one in sets))
            assert holm(p) == pytest.approx(closed)


@pytest.mark.parametrize("comparisons", [1, 4, 12])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.0, 1.5])
def test_so_many_pairs_have_the_power_that_is_said(ratio: float, comparisons: int) -> None:
    """The power of the t test is exactly known: its statistic has a noncentral t distribution."""

    def power(count: int) -> float:
        bound = stats.t.isf(0.05 / comparisons / 2, count - 1)
        shift = ratio * count**0.5
        return float(stats.nct.sf(bound, count - 1, shift) + stats.nct.cdf(-bound, count - 1, shift))

    exact = next(count for count in range(2, 10_000) if power(count) >= 0.8)
    needed = pairs_needed(-ratio, 1.0, comparisons)
    assert needed is not None
    assert abs(needed - exact) <= 1
    assert pairs_needed(2 * ratio, 2.0, comparisons) == needed


def test_too_many_pairs_are_not_named() -> None:
    assert pairs_needed(0.0, 1.0, 1) is None
    assert pairs_needed(1e-3, 1.0, 1) is None
    assert pairs_needed(100.0, 1.0, 1) == 2
    edge = pairs_needed(0.0283, 1.0, 1)
    assert edge is not None
    assert edge <= MOST
