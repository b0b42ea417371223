"""The one exception for what the user got wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from operator import index
from typing import Any

LONGEST = 480
"""Characters of a message; what is longer loses its middle."""


class OdenasError(ValueError):
    """A value that odenas cannot use: one line naming the field, what was given and what is needed.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        if not line.isprintable():  # what a terminal would obey, or cannot write
            line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 + 3 :]}"
        super().__init__(line)


def shown(given: object, most: int = 80) -> str:
    """Return how a value is written, cut where it is longer than `most` characters."""
    try:
        text = repr(given)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or too deep a list
        return f"a {type(given).__name__} too large to show"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def unknown(field: str, given: object, valid: Iterable[object]) -> OdenasError:
    """Return the error for `given`, which is none of the `valid` values of `field`; it proposes the nearest one."""
    names, text = [str(name) for name in valid], shown(given)
    near = get_close_matches(given[:80] if isinstance(given, str) else text, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return OdenasError(f"`{field}` is {text}, but must be one of {', '.join(names)}{hint}")


def table(name: str, data: object, keys: Collection[str]) -> dict[str, Any]:
    """Return `data` as a dict, if it is a mapping with exactly these keys.

    Raises:
        OdenasError: `data` is no mapping, or a key is unknown or missing.
    """
    if not isinstance(data, Mapping):
        raise OdenasError(f"`{name}` is a {type(data).__name__}, but must be a table of {', '.join(keys)}")
    for key in data:
        if key not in keys:
            raise unknown(f"key of {name}", key, keys)
    missing = [key for key in keys if key not in data]
    if missing:
        raise OdenasError(f"`{name}` lacks {', '.join(missing)}")
    return dict(data)


def one_of(field: str, value: object, valid: Iterable[str]) -> None:
    """Check that `value` is one of the `valid` names.

    Raises:
        OdenasError: it is not.
    """
    if not isinstance(value, str) or value not in valid:
        raise unknown(field, value, valid)


def integer(field: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int, if it is an integer from `low` to `high`.

    Raises:
        OdenasError: it is not.
    """
    found: int | None = None
    if not isinstance(value, bool):
        with suppress(TypeError):
            found = index(value)  # type: ignore[arg-type]  # numpy's integers too
    if found is None or not low <= found <= high:
        raise OdenasError(f"`{field}` is {shown(value)}, but must be an integer from {low} to {high}")
    return found


def real(field: str, value: object, low: float, high: float) -> None:
    """Check that `value` is a number from `low` to `high`.

    Raises:
        OdenasError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OdenasError(f"`{field}` is {shown(value)}, but must be a number from {low} to {high}")
