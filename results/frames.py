"""Rows to data frames and back: the same columns and dtypes, whatever the rows hold."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from odenas.results.columns import DATE, MEASURED, Columns

Cell = bool | int | float | str | None


def frame(rows: Iterable[Mapping[str, Any]], columns: Columns) -> pd.DataFrame:
    """Return the rows as a table of exactly these columns; what a row lacks is NA, what is no column is left out.

    Raises:
        ValueError: a value does not fit the dtype of its column.
    """
    rows = list(rows)
    return pd.DataFrame(
        {name: _array(name, [row.get(name) for row in rows], dtype) for name, (dtype, _) in columns.items()}
    )


def plain_row(row: Mapping[str, Any], columns: Columns, required: Iterable[str] = ()) -> dict[str, Cell]:
    """Return the row JSON-ready: numbers that are not finite become None, and say so as the row's `failure`.

    Raises:
        TypeError: a key is no column, a required one is missing, or a value does not fit its column.
    """
    strange = sorted(set(row) - set(columns))
    if strange:
        raise TypeError(f"a row has the keys {', '.join(strange)}, but the columns are {', '.join(columns)}")
    lacking = [name for name in required if row.get(name) is None]
    if lacking:
        raise TypeError(f"a row lacks {', '.join(lacking)}")
    plain = {name: plain_cell(name, value, columns[name][0]) for name, value in row.items()}
    broken = [name for name in MEASURED if not _missing(row.get(name)) and plain[name] is None]
    if broken and "failure" in columns and plain.get("failure") is None:
        plain["failure"] = "; ".join(f"`{name}` is {float(row[name])}" for name in broken)
    return plain


def plain_cell(name: str, value: Any, dtype: str) -> Cell:
    """Return one value JSON-ready, as a column of this dtype keeps it; None for a missing or non-finite one.

    Raises:
        TypeError: the value is not of the column's kind; a date must know its time zone.
    """
    if _missing(value):
        return None
    number = not isinstance(value, bool | np.bool_ | str)
    if dtype == "Float64" and number:
        real = float(value)
        return real if math.isfinite(real) else None
    if dtype == "Int64" and number and hasattr(value, "__index__") and abs(operator.index(value)) < 2**63:
        return operator.index(value)
    if dtype == "boolean" and isinstance(value, bool | np.bool_):
        return bool(value)
    if dtype == "string" and isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate, as of a file name, is no valid text
    if dtype == DATE and isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise TypeError(f"`{name}` is {value!r}, but the column holds {dtype}")


def _missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT


def _array(name: str, values: list[Any], dtype: str) -> Any:
    try:
        if dtype == DATE:
            return pd.DatetimeIndex(pd.to_datetime(values, utc=True, format="ISO8601")).as_unit("us")
        return pd.array(values, dtype=dtype)  # type: ignore[call-overload]  # the dtype is known only when it runs
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"`{name}` does not hold {dtype}: {error}") from None
