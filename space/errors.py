"""The one exception for what the user got wrong."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class OdenasError(ValueError):
    """A value that odenas cannot use: one line naming the field, what was given and what is needed.

    The command line prints it without a traceback and exits with status 2.
    """


def unknown(field: str, given: object, valid: Iterable[object]) -> OdenasError:
    """Return the error for `given`, which is none of the `valid` values of `field`; it proposes the nearest one."""
    names = [str(name) for name in valid]
    near = get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return OdenasError(f"`{field}` is {given!r}, but must be one of {', '.join(names)}{hint}")
