"""Which trials are stopped early: rules on what a trial and those before it reached after as many epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from odenas.results.pareto import ranking
from odenas.search.objectives import ERROR
from odenas.space import OdenasError


@dataclass(frozen=True)
class Curve:
    """What is known of a trial: its objectives after each epoch done, and by how much it breaks the constraints."""

    points: Sequence[tuple[float, ...]]
    violation: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What the rules are told: the budget in epochs, epochs before a stop, one kept in so many, the search's seed."""

    epochs: int
    grace: int
    reduction: int
    seed: int


Rule = Callable[[int, Curve, Mapping[int, Curve], Setting], bool]
"""(trial's number, its curve, the curves of those it is compared with, setting) -> whether it stops here."""


def never(number: int, mine: Curve, others: Mapping[int, Curve], setting: Setting) -> bool:
    """Return that no trial stops."""
    return False


def successive_halving(number: int, mine: Curve, others: Mapping[int, Curve], setting: Setting) -> bool:
    """Return whether a trial is not among the best 1/η at a rung, in the stopping form of ASHA.

    Rungs are at grace·ηᵏ epochs (Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020,
    Algorithm 2). With several objectives the best are those of the earliest non-dominated fronts, and within a front
    those that spread widest (Schmucker et al., "Multi-objective asynchronous successive halving", 2021, arXiv
    2106.12639). A trial that breaks a constraint comes after all that keep them (Deb et al. 2002, §VI).
    """
    return _halved(mine, others, setting, bracket=0)


def hyperband(number: int, mine: Curve, others: Mapping[int, Curve], setting: Setting) -> bool:
    """Return what successive halving says in the trial's bracket: brackets begin to stop at grace·ηˢ epochs.

    A bracket's share of the trials is that of Hyperband (Li et al., JMLR 18, 2018, Algorithm 1), run asynchronously
    (Li et al. 2020, §3.3). A trial is compared with those of its own bracket.
    """
    own = bracket_of(number, setting)
    peers = {other: curve for other, curve in others.items() if bracket_of(other, setting) == own}
    return _halved(mine, peers, setting, own)


def median_stopping(number: int, mine: Curve, others: Mapping[int, Curve], setting: Setting) -> bool:
    """Return whether a trial's best so far is worse than the median of the others' means up to the same epoch.

    Golovin et al., "Google Vizier", KDD 2017, §3.2.2. It compares one number.
    """
    done = len(mine.points)
    if done < setting.grace or done >= setting.epochs:
        return False
    means = [fmean(point[0] for point in each.points[:done]) for each in others.values() if len(each.points) >= done]
    return bool(means) and min(point[0] for point in mine.points) > median(means)


RULES: dict[str, Rule] = {
    "asha": successive_halving,
    "hyperband": hyperband,
    "median": median_stopping,
    "none": never,
}
ONE_NUMBER = ("median",)
"""The rules that compare a single objective."""


def check_rule(name: str, objectives: Sequence[str]) -> None:
    """Check that a rule can compare trials with these objectives.

    Raises:
        OdenasError: there are several, and the rule compares one number; or none of them changes from epoch to epoch.
    """
    if name != "none" and ERROR not in objectives:
        raise OdenasError(
            f"`scheduler` is {name!r}, which compares trials as they train, but {ERROR} is no objective; choose 'none'"
        )
    if name in ONE_NUMBER and len(objectives) > 1:
        raise OdenasError(
            f"`scheduler` is {name!r}, which compares one number, but there are {len(objectives)} objectives; "
            "asha and hyperband take several"
        )


def rungs(setting: Setting, bracket: int = 0) -> list[int]:
    """Return the epochs after which a bracket stops trials, before the budget."""
    found, epoch = [], setting.grace * setting.reduction**bracket
    while epoch < setting.epochs:
        found.append(epoch)
        epoch *= setting.reduction
    return found


def bracket_of(number: int, setting: Setting) -> int:
    """Return the bracket of a trial, drawn from the seed and its number: 0 is the one that stops earliest."""
    count = len(rungs(setting)) + 1  # the last of them stops none
    # Algorithm 1 numbers them the other way: s = count − 1 − bracket.
    sizes = [math.ceil(count / (s + 1) * setting.reduction**s) for s in reversed(range(count))]
    draw = np.random.default_rng([setting.seed, 3, number]).random() * sum(sizes)
    return int(np.searchsorted(np.cumsum(sizes), draw, side="right"))


def _halved(mine: Curve, others: Mapping[int, Curve], setting: Setting, bracket: int) -> bool:
    done = len(mine.points)
    if done not in rungs(setting, bracket):
        return False
    there = [curve for curve in others.values() if len(curve.points) >= done] + [mine]
    values = np.array([curve.points[done - 1] for curve in there])
    place = int(ranking(values, np.array([curve.violation for curve in there]))[-1])
    return place >= math.ceil(len(there) / setting.reduction)
