"""Numbers that others have published."""

from __future__ import annotations

import csv
from importlib.resources import files

import pandas as pd

from odenas.results.columns import PUBLISHED
from odenas.results.frames import frame


def published() -> pd.DataFrame:
    """Return published test errors of residual networks and their schemes; the columns are PUBLISHED.

    Each was read at its source. Where two sources disagree or a number is a misprint, the note says so. They were
    measured under different recipes and by different statistics: compare with a twin, not with this table.
    """
    text = (files("odenas.results") / "published.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return frame([{name: _read(name, text) for name, text in row.items()} for row in rows], PUBLISHED)


def _read(name: str, text: str) -> int | float | str | None:
    kind = {"Int64": int, "Float64": float, "string": str}[PUBLISHED[name][0]]
    return kind(text) if text else None
