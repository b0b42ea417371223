"""An append-only log of JSON objects, one on each line, that outlives a kill at any moment."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odenas.space.errors import OdenasError

CHUNK = 4096


@dataclass(frozen=True)
class Journal:
    """The file at `path`, with one writer and any number of readers.

    A line counts once its line feed is written. What follows the last line feed was cut short by a kill (or is being
    written): readers leave it out, and the next `append` removes it.
    """

    path: Path

    def append(self, row: Mapping[str, Any], *, sync: bool = False) -> None:
        """Add a row in one write; with `sync`, return only when the disk has it.

        Raises:
            OdenasError: the file cannot be written, such as on a full disk; it then holds what it held before.
            ValueError: a number is not finite, which JSON cannot say.
        """
        text = json.dumps(row, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                end = _cut(file)
                if os.write(file, line) < len(line):
                    os.ftruncate(file, end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise OdenasError(f"`{self.path}` cannot be written: {error.strerror}") from None

    def read(self) -> list[dict[str, Any]]:
        """Return all rows, oldest first; none if there is no file yet.

        Raises:
            OdenasError: the file cannot be read, or a line of it is no JSON object.
        """
        try:
            *lines, _ = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise OdenasError(f"`{self.path}` cannot be read: {error.strerror}") from None
        return [self._parse(number, line) for number, line in enumerate(lines, start=1)]

    def _parse(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = json.loads(line, parse_constant=_refuse)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise OdenasError(
                f"`{self.path}` line {number} is damaged: it is no JSON object; delete that line to go on"
            )
        return row


def _cut(file: int) -> int:
    """Remove what follows the last line feed and return the size that is left."""
    size = end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - CHUNK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")
