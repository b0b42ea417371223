"""What the printed tables are made of: numbers, intervals, and a table without lines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
from rich.table import Table


def plain_table(title: str | None, right: Collection[int], *columns: str) -> Table:
    """Return a table without lines; `right` are the places of the columns that are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def text(value: Any) -> str:
    """Return a value as it is, or nothing."""
    return "" if pd.isna(value) else str(value)


def number(value: Any) -> str:
    """Return a number with two decimals, or nothing."""
    return "" if pd.isna(value) else f"{value:.2f}"


def spread(mean: Any, std: Any) -> str:
    """Return a mean and its standard deviation, as far as they are known."""
    return number(mean) + ("" if pd.isna(std) else f" ± {std:.2f}")


def interval(low: Any, high: Any) -> str:
    """Return the ends of an interval, or nothing."""
    return "" if pd.isna(low) else f"[{low:.2f}, {high:.2f}]"


def signed_interval(low: Any, high: Any) -> str:
    """Return the ends of an interval of differences, or nothing."""
    return "" if pd.isna(low) else f"[{signed(low)}, {signed(high)}]"


def signed(value: Any) -> str:
    """Return a number with its sign and two decimals, and no −0.00; or nothing."""
    return "" if pd.isna(value) else f"{round(value, 2) + 0.0:+.2f}"
