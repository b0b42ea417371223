"""What a sample says of a mean: interval, test, correction for many tests, and how many more would be needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.95
POWER = 0.8
"""The usual chance of seeing what is there (Cohen, Statistical Power Analysis, 2nd edition 1988, section 2.4)."""
NO_SPREAD = 1e-9
"""Percent or dB: a standard deviation below it is rounding, and no test can be built on it."""
MOST = 10_000
"""Seeds that nobody would train: beyond them none are named."""


class Estimate(NamedTuple):
    """What a sample says of a mean: None for what it does not say."""

    mean: float | None = None
    std: float | None = None  # of the sample, n − 1
    low: float | None = None  # ends of the t interval
    high: float | None = None
    p_value: float | None = None  # of the mean being zero


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, standard deviation, 95 % t interval, and the p value of the two-sided t test of a mean of zero.

    Of the differences of pairs this is the paired t test (Student, Biometrika 6, 1908).
    """
    if not values:
        return Estimate()
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if std < NO_SPREAD:
        return Estimate(mean, 0.0)
    from scipy.special import stdtr, stdtrit  # here, as importing it takes longer than opening a run

    error, freedom = std / math.sqrt(len(values)), len(values) - 1
    half = error * float(stdtrit(freedom, (1 + LEVEL) / 2))
    return Estimate(mean, std, mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number, in the order given.

    Holm's step-down procedure (Scand. J. Statist. 6, 1979): whatever the tests have to do with one another, the
    chance that any of the true hypotheses is rejected is at most the level.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def pairs_needed(difference: float, std: float, comparisons: int) -> int | None:
    """Return how many pairs would show a difference of this size; None if more than anybody would train.

    With so many, a two-sided paired t test at the level 5 % / comparisons (the strictest that Holm's procedure asks
    for) finds it with a probability of 80 %, if the true difference and its standard deviation over the pairs are
    these: n = (z₁ + z₂)² std² / difference² + z₁² / 2, where z₁ and z₂ are the quantiles of the normal distribution at
    1 − level / 2 and at the power (Guenther, The American Statistician 35, 1981). What was measured on a few pairs
    says little of the true difference (Hoenig and Heisey, The American Statistician 55, 2001), so this is a rough
    number to plan by, and no statement about the pairs at hand.
    """
    if difference == 0:
        return None
    from scipy.special import ndtri

    sided, power = float(ndtri(1 - (1 - LEVEL) / comparisons / 2)), float(ndtri(POWER))
    needed = ((sided + power) * std / difference) ** 2 + sided**2 / 2
    return max(2, math.ceil(needed)) if needed <= MOST else None
