from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from odenas.results.columns import COEFFICIENTS, CONFIRMATIONS, DATE, EPOCHS, PUBLISHED, SUMMARY, TRIALS, Columns
from odenas.results.frames import frame, plain_cell, plain_row

TABLES = [TRIALS, EPOCHS, COEFFICIENTS, CONFIRMATIONS, SUMMARY, PUBLISHED]
SAMPLE = {"Int64": 3, "Float64": 0.1, "boolean": True, "string": "β", DATE: "2026-01-02T03:04:05.000006+00:00"}


def dtypes(table: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in table.dtypes.items()}


@pytest.mark.parametrize("columns", TABLES)
def test_columns_and_dtypes_do_not_depend_on_the_rows(columns: Columns) -> None:
    full = {name: SAMPLE[dtype] for name, (dtype, _) in columns.items()}
    expected = {name: dtype for name, (dtype, _) in columns.items()}
    cases: list[list[dict[str, Any]]] = [
        [],
        [{}],
        [{}, {}],
        [full],
        [{}, full],
        [full, {}],
        [{**full, "unknown": 1}],
    ]
    for rows in cases:
        assert dtypes(frame(rows, columns)) == expected
    assert frame([full], columns).notna().all(axis=None)
    assert frame([{}], columns).isna().all(axis=None)


@pytest.mark.parametrize("columns", TABLES)
def test_every_column_says_what_it_means(columns: Columns) -> None:
    for name, (dtype, meaning) in columns.items():
        assert name.isidentifier()
        assert dtype in SAMPLE
        assert len(meaning) > 5


@pytest.mark.parametrize(
    "row", [{"number": "x"}, {"number": 2**70}, {"number": 1.5}, {"started": "soon"}, {"params": []}]
)
def test_a_value_of_the_wrong_kind_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(row))}` does not hold"):
        frame([row], TRIALS)


@pytest.mark.parametrize(
    ("dtype", "value", "plain"),
    [
        ("Int64", 3, 3),
        ("Int64", np.int32(3), 3),
        ("Float64", Fraction(1, 2), 0.5),
        ("Float64", 3, 3.0),
        ("Float64", np.float32(0.5), 0.5),
        ("Float64", float("inf"), None),
        ("Float64", float("nan"), None),
        ("Float64", pd.NA, None),
        ("boolean", np.True_, True),
        ("string", "lm", "lm"),
        ("string", "\udcff", "?"),
        ("string", None, None),
        (DATE, pd.NaT, None),
        (DATE, datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:00:00.000000+00:00"),
        (DATE, pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00.000000+00:00"),
    ],
)
def test_a_cell_is_kept_as_json(dtype: str, value: object, plain: object) -> None:
    cell = plain_cell("x", value, dtype)
    assert cell == plain
    assert type(cell) is type(plain)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("Int64", True),
        ("Int64", 1.0),
        ("Int64", "1"),
        ("Int64", 2**63),
        ("Float64", "0.5"),
        ("Float64", False),
        ("Float64", 1j),
        ("boolean", 1),
        ("string", 1),
        (DATE, datetime(2026, 1, 2)),
        (DATE, 0.0),
    ],
)
def test_a_cell_of_another_kind_is_a_programming_error(dtype: str, value: object) -> None:
    with pytest.raises(TypeError):
        plain_cell("x", value, dtype)


def test_a_row_is_checked() -> None:
    with pytest.raises(TypeError, match="epoch_s"):
        plain_row({"number": 1, "epoch_s": 2}, EPOCHS)
    with pytest.raises(TypeError, match="lacks epoch"):
        plain_row({"number": 1, "epoch": None}, EPOCHS, ["number", "epoch"])


def test_a_measure_that_is_not_finite_is_a_failure_in_words() -> None:
    row = plain_row({"train_loss": float("nan"), "validation_error": np.inf, "real_interval": np.inf}, TRIALS)
    assert row["train_loss"] is row["validation_error"] is row["real_interval"] is None
    assert row["failure"] == "`validation_error` is inf; `train_loss` is nan"
    assert plain_row({"train_loss": float("nan"), "failure": "diverged"}, TRIALS)["failure"] == "diverged"
    assert "failure" not in plain_row({"train_loss": None, "validation_error": pd.NA, "error_constant": np.inf}, TRIALS)
    assert plain_row({"train_loss": float("nan")}, EPOCHS) == {"train_loss": None}


def test_dates_keep_their_microseconds() -> None:
    now = datetime.now(UTC)
    (back,) = frame([plain_row({"started": now}, TRIALS)], TRIALS)["started"]
    assert back == now
