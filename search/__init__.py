"""Run a search: data, training, Ray Tune, Optuna, the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odenas.search.config import SearchConfig as SearchConfig
    from odenas.search.driver import search as search

__all__ = ["SearchConfig", "search"]

# Imported when first asked for: torch and ray take seconds, and `odenas results` needs neither.
_HOMES = {"SearchConfig": "odenas.search.config", "search": "odenas.search.driver"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
