"""Tables to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import pandas as pd

from odenas.results.files import replacing
from odenas.space.errors import OdenasError


def write_table(table: pd.DataFrame, path: str | PathLike[str]) -> None:
    """Write a table as CSV, Parquet or JSON (a list of records), by the suffix of the path.

    Parquet keeps the dtypes. In CSV and JSON dates are ISO 8601 and numbers keep all their digits; NA is an empty
    field, or null. A file that is there is replaced as a whole, or stays as it is if this fails.

    Raises:
        OdenasError: the suffix is another one, or the file cannot be written.
    """
    target = Path(path)
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        raise OdenasError(f"`--out` is {str(path)!r}, but must end in one of {', '.join(WRITERS)}")
    if not target.parent.is_dir():
        raise OdenasError(f"`--out` is {str(path)!r}, but its folder does not exist; make {target.parent} first")
    try:
        with replacing(target) as temporary:
            write(table, temporary)
    except OSError as error:
        raise OdenasError(f"`--out` is {str(path)!r}, but cannot be written: {error.strerror or error}") from None


def _csv(table: pd.DataFrame, path: Path) -> None:
    _iso(table).to_csv(path, index=False, lineterminator="\n")


def _parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, engine="pyarrow", index=False)


def _json(table: pd.DataFrame, path: Path) -> None:
    plain = _iso(table).astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    lines = ",\n".join(json.dumps(record, allow_nan=False, ensure_ascii=False) for record in records)
    path.write_text(f"[\n{lines}\n]\n" if records else "[]\n", encoding="utf-8")


def _iso(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its dates as ISO 8601 text."""
    dates = table.select_dtypes("datetimetz").columns
    return table.assign(**{name: table[name].map(pd.Timestamp.isoformat, na_action="ignore") for name in dates})


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {".csv": _csv, ".parquet": _parquet, ".json": _json}
