"""How the columns that a search can minimise are written for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from odenas.search.metric import Metric

FORMS: dict[str, tuple[str, str, str]] = {
    "params": ("params", ".0f", "params"),
    "macs": ("MACs", ".0f", "MACs"),
    "evaluations": ("evaluations of f", ".0f", "evaluations"),
    "latency": ("latency ms", ".3f", "ms"),
    "seconds": ("seconds", ".1f", "s training"),
}
"""Column of the trials -> heading of a table, format of its number, and what follows the number in a sentence."""

OTHER = ("", ".4g", "")


def heading(name: str, metric: Metric) -> str:
    """Return what stands above a column of numbers; `metric` is what judges the networks on the data set."""
    if name == "validation_error":
        return f"validation {metric.name} {metric.unit}"
    return FORMS.get(name, OTHER)[0] or name.replace("_", " ")


def figure(name: str, value: Any, metric: Metric) -> str:
    """Return a number of this column without its unit; what is missing is an empty text."""
    if pd.isna(value):
        return ""
    if name == "validation_error":
        return f"{metric.shown(value):.2f}"
    return format(float(value), FORMS.get(name, OTHER)[1])


def phrase(name: str, value: Any, metric: Metric) -> str:
    """Return a number of this column with its unit, for a sentence."""
    if name == "validation_error":
        return f"{figure(name, value, metric)} {metric.unit} {metric.name}"
    return f"{figure(name, value, metric)} {FORMS.get(name, OTHER)[2] or name.replace('_', ' ')}"


def phrases(row: Mapping[str, Any], names: Iterable[str], metric: Metric) -> str:
    """Return several columns of a trial as `phrase` does, with commas between."""
    return ", ".join(phrase(name, row[name], metric) for name in names)
