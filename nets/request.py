"""What `build` is asked for."""

from __future__ import annotations

from typing import NamedTuple

from odenas.space.scheme import Scheme


class Request(NamedTuple):
    """The arguments of `build`, which says what they are; their types are checked, and the names are rows of tables."""

    scheme: Scheme
    depth: int | None
    classes: int
    channels: int
    params: int | None
    width: int | tuple[int, ...]
    reversible: bool
    backbone: str
    stem: str
    stem_width: int | None
