"""What retraining over seeds says: mean, spread, and the difference from the Euler twin."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from odenas.results.columns import SUMMARY
from odenas.results.frames import frame

LEVEL = 0.95
NO_SPREAD = 1e-9
"""Percent or dB: a standard deviation below it is rounding, and no test can be built on it."""
GROUP = ("label", "role", "number", "twin_of", "data", "train_size", "budget")


class Estimate(NamedTuple):
    """What a sample says of a mean: None for what it does not say."""

    mean: float | None = None
    std: float | None = None  # of the sample, n − 1
    low: float | None = None  # ends of the t interval
    high: float | None = None
    p_value: float | None = None  # of the mean being zero


@dataclass
class Network:
    """The trainings of one network at one fidelity."""

    key: dict[str, Any]
    params: int | None = None
    errors: dict[Hashable, float] = field(default_factory=dict)  # seed -> test error
    failed: int = 0

    def add(self, row: Mapping[Hashable, Any]) -> None:
        """Count one training in; one that still runs is left out."""
        self.params = row["params"] if self.params is None else self.params
        error = row["test_error"]
        if row["status"] == "COMPLETE" and error is not None and math.isfinite(error):
            self.errors[object() if row["seed"] is None else row["seed"]] = error
        elif row["status"] != "RUNNING":
            self.failed += 1

    def is_twin_of(self, other: Network) -> bool:
        """Return whether this is the other network's twin, trained on the same data for as long."""
        mine, its = self.key, other.key
        same = all(mine[name] == its[name] for name in ("data", "train_size", "budget"))
        named = mine["role"] == "twin" and mine["twin_of"] == its["label"]
        return named and same and mine["number"] in (None, its["number"])


def summary(confirmations: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network, data set, training size and budget; the columns are SUMMARY.

    Args:
        confirmations: the table `Run.confirmations`. Each network is compared with its twin, paired by seed, by a
            two-sided t test; the verdict holds at 95 % after Holm's correction for all comparisons of the table
            (Holm, Scand. J. Statist. 6, 1979).
    """
    plain = confirmations.astype(object)
    networks: dict[tuple[Any, ...], Network] = {}
    for training in plain.where(plain.notna(), None).to_dict("records"):
        key = {name: training[name] for name in GROUP}
        networks.setdefault(tuple(key.values()), Network(key)).add(training)
    rows = [_describe(network, list(networks.values())) for network in networks.values()]
    tested = [row for row in rows if row["p_value"] is not None]
    for row, p in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = p
        row["verdict"] = _verdict(row["difference"], p, row["pairs"], len(tested))
    return frame(rows, SUMMARY)


def parts(confirmations: pd.DataFrame) -> pd.DataFrame:
    """Return the mean test error in each part of the test, over the trainings that finished.

    A row for each network that has parts, by its label; a column for each part, in the order of the test.
    """
    finished = confirmations[confirmations["status"].eq("COMPLETE") & confirmations["test_parts"].notna()]
    table = pd.DataFrame([json.loads(row) for row in finished["test_parts"]], index=finished["label"])
    return table.groupby(level=0).mean()


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number by Holm's step-down procedure, in the order given."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def _describe(network: Network, networks: list[Network]) -> dict[str, Any]:
    own = _estimate(list(network.errors.values()))
    row = {**network.key, "params": network.params, "seeds": len(network.errors), "failed": network.failed}
    row |= {"mean": own.mean, "std": own.std, "low": own.low, "high": own.high, "p_value": None}
    twin = next((other for other in networks if other.is_twin_of(network)), None)
    if network.key["role"] == "twin":
        return row | {"verdict": "the twin itself"}
    if not network.errors:
        return row | {"verdict": "no finished training"}
    if twin is None:
        return row | {"verdict": "no twin to compare with"}
    differences = [error - twin.errors[seed] for seed, error in network.errors.items() if seed in twin.errors]
    difference = _estimate(differences)
    row |= {"pairs": len(differences), "difference": difference.mean, "p_value": difference.p_value}
    row |= {"difference_low": difference.low, "difference_high": difference.high}
    if not differences:
        return row | {"verdict": "no seed in common with its twin"}
    if len(differences) == 1:
        return row | {"verdict": "one seed: nothing to say"}
    return row | {"verdict": f"the same difference for all of {len(differences)} seeds: no spread to test it against"}


def _estimate(values: list[float]) -> Estimate:
    if not values:
        return Estimate()
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if std < NO_SPREAD:
        return Estimate(mean, 0.0)
    from scipy.stats import t  # here, as importing it takes longer than opening a run

    error, freedom = std / math.sqrt(len(values)), len(values) - 1
    half = error * float(t.ppf((1 + LEVEL) / 2, freedom))
    return Estimate(mean, std, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, freedom)))


def _verdict(difference: float, p: float, pairs: int, comparisons: int) -> str:
    word = "within noise of its Euler twin"
    if p < 1 - LEVEL:
        word = f"{'better' if difference < 0 else 'worse'} than its Euler twin"
    return f"{word} ({LEVEL:.0%} confidence, {pairs} seeds, {comparisons} comparison{'s' * (comparisons != 1)})"
