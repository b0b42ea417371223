"""What retraining over seeds says: mean, spread, and the difference from the Euler twin."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from odenas.results.columns import SUMMARY
from odenas.results.frames import frame
from odenas.results.inference import LEVEL, estimate, holm, pairs_needed
from odenas.results.wording import counted

GROUP = ("label", "role", "number", "twin_of", "data", "train_size", "budget")
FIDELITY = ["data", "train_size", "budget"]
"""What networks that are compared have in common."""


@dataclass
class Network:
    """The trainings of one network at one fidelity."""

    key: dict[str, Any]
    scheme: str | None = None
    params: int | None = None
    errors: dict[Hashable, float] = field(default_factory=dict)  # seed -> test error
    validation: list[float] = field(default_factory=list)
    failed: int = 0

    def add(self, row: Mapping[Hashable, Any]) -> None:
        """Count one training in; one that still runs is left out."""
        self.params = row["params"] if self.params is None else self.params
        self.scheme = row["scheme"] if self.scheme is None else self.scheme
        error, validation = row["test_error"], row["validation_error"]
        if row["status"] == "COMPLETE" and error is not None and math.isfinite(error):
            self.errors[object() if row["seed"] is None else row["seed"]] = error
            self.validation += [validation] if validation is not None else []
        elif row["status"] != "RUNNING":
            self.failed += 1

    def is_twin_of(self, other: Network) -> bool:
        """Return whether this is the other network's twin."""
        mine, its = self.key, other.key
        named = mine["role"] == "twin" and mine["twin_of"] == its["label"]
        return named and mine["number"] in (None, its["number"])

    @property
    def comparison(self) -> str:
        """What is compared when this network is: two names of one scheme are one comparison."""
        return self.scheme or f"{self.key['label']} {self.key['number']}"


def summary(confirmations: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network, data set, training size and budget; the columns are SUMMARY.

    Args:
        confirmations: the table `Run.confirmations`. Each network is compared with its twin, paired by seed, by a
            two-sided t test; the verdict holds at 95 % after Holm's correction for all K comparisons of the same data,
            training size and budget. One counts whether or not it could be tested: what failed, or has one seed, or no
            spread, was tried as the others were. The twins' own rows are no comparisons.
    """
    plain = confirmations.astype(object)
    networks: dict[tuple[Any, ...], Network] = {}
    for training in plain.where(plain.notna(), None).to_dict("records"):
        key = {name: training[name] for name in GROUP}
        networks.setdefault(tuple(key.values()), Network(key)).add(training)
    families: dict[tuple[Any, ...], list[Network]] = {}
    for network in networks.values():
        families.setdefault(tuple(network.key[name] for name in FIDELITY), []).append(network)
    rows = {id(network): row for family in families.values() for network, row in _compared(family)}
    return frame([rows[id(network)] for network in networks.values()], SUMMARY)


def families(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the parts of a table (of SUMMARY or CONFIRMATIONS) of one data set, training size and budget each.

    The one of the longest trainings comes last; among equals, the one with the most images (NA is all of them).
    """
    found = [rows for _, rows in table.groupby(FIDELITY, dropna=False, sort=False)]
    return sorted(found, key=lambda rows: (rows["budget"].iloc[0], rows["train_size"].fillna(2**62).iloc[0]))


def confirmed_winner(confirmations: pd.DataFrame) -> int | None:
    """Return the trial whose scheme has the best mean validation error over the seeds; None where none was retrained.

    Of the longest trainings, where there are several budgets. By validation error: the test error is for reporting,
    and choosing by it would bias it. A scheme that failed on a seed is left out: a mean over the others flatters it.
    """
    candidates = families(confirmations[confirmations["role"].eq("candidate")])
    for rows in reversed(candidates):
        failed = rows.loc[~rows["status"].isin(["COMPLETE", "RUNNING"]), "number"]
        rows = rows[~rows["number"].isin(failed) & rows["status"].eq("COMPLETE")]
        means = rows.groupby("number")["validation_error"].mean().dropna().reset_index()
        if len(means):
            return int(means.sort_values(["validation_error", "number"])["number"].iloc[0])
    return None


def parts(confirmations: pd.DataFrame) -> pd.DataFrame:
    """Return the mean test error in each part of the test, over the trainings that finished.

    A row for each network that has parts, by its label; a column for each part, in the order of the test.
    """
    finished = confirmations[confirmations["status"].eq("COMPLETE") & confirmations["test_parts"].notna()]
    table = pd.DataFrame([json.loads(row) for row in finished["test_parts"]], index=finished["label"])
    return table.groupby(level=0).mean()


def _compared(family: list[Network]) -> Iterable[tuple[Network, dict[str, Any]]]:
    """Return the networks of one fidelity with their rows, corrected for the number of comparisons among them."""
    described = [(network, _describe(network, family)) for network in family]
    judged: dict[str, dict[str, Any]] = {}
    for network, row in described:
        there = judged.get(network.comparison)
        if row["compared"] and (there is None or (row["pairs"] or 0) > (there["pairs"] or 0)):
            judged[network.comparison] = row
    p_values = [1.0 if row["p_value"] is None else row["p_value"] for row in judged.values()]
    corrected = dict(zip(judged, holm(p_values), strict=True))
    for network, row in described:
        row["comparisons"] = len(judged) if row["compared"] else None
        if row["p_value"] is None:
            continue
        if row["p_value"] != judged[network.comparison]["p_value"]:
            row["verdict"] = f"the same network as {judged[network.comparison]['label']}, which has more seeds"
            continue
        row["p_holm"] = corrected[network.comparison]
        row |= _verdict(row)
    return described


def _describe(network: Network, family: list[Network]) -> dict[str, Any]:
    own = estimate(list(network.errors.values()))
    row = {**network.key, "params": network.params, "seeds": len(network.errors), "failed": network.failed}
    row |= {"mean": own.mean, "std": own.std, "low": own.low, "high": own.high, "p_value": None}
    row |= {"validation_error": fmean(network.validation) if network.validation else None}
    row |= {"compared": False, "pairs": None}
    twin = next((other for other in family if other.is_twin_of(network)), None)
    if network.key["role"] == "twin":
        return row | {"verdict": "the twin itself"}
    if twin is None:
        return row | {"verdict": "no twin to compare with" if network.errors else "no finished training"}
    row |= {"compared": True}
    if not network.errors:
        return row | {"verdict": "no finished training"}
    differences = [error - twin.errors[seed] for seed, error in network.errors.items() if seed in twin.errors]
    difference = estimate(differences)
    row |= {"pairs": len(differences), "difference": difference.mean, "p_value": difference.p_value}
    row |= {"difference_low": difference.low, "difference_high": difference.high, "spread": difference.std}
    if not differences:
        return row | {"verdict": "no seed in common with its twin"}
    if len(differences) == 1:
        return row | {"verdict": "one seed: nothing to say"}
    return row | {"verdict": f"the same difference for all of {len(differences)} seeds: no spread to test it against"}


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a difference that was tested, and the seeds that it would take where it is none."""
    difference, comparisons = row["difference"], row["comparisons"]
    how = f"({LEVEL:.0%} confidence, {counted(row['pairs'], 'seed')}, {counted(comparisons, 'comparison')})"
    if row["p_holm"] < 1 - LEVEL:
        return {"verdict": f"{'better' if difference < 0 else 'worse'} than its Euler twin {how}"}
    needed = pairs_needed(difference, row["spread"], comparisons)
    return {"verdict": f"within noise of its Euler twin {how}", "seeds_needed": needed}
