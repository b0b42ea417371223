"""A row of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from odenas.space.scheme import Scheme


class Entry(NamedTuple):
    """A named scheme: its family, one line that says what it is, with its formula and source, and how it is made."""

    family: str
    about: str
    make: Callable[..., Scheme]
