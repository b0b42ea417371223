"""The saved states of trainings: safetensors files with a checksum, the last two of each that is running."""

from __future__ import annotations

import json
import logging
import re
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from odenas.search.file_store import LocalStore, store_at

LOG = logging.getLogger("odenas")
NO_CHECKSUM = "-" * 8
CHECKSUM = re.compile(rb'"crc32":"([0-9a-f]{8}|-{8})"')
"""Where the header of a file keeps its checksum. Within a JSON text the quotes would be escaped."""

Saved = tuple[dict[str, Tensor], list[dict[str, Any]]]
"""The state of a training, as tensors by name, and the rows of its epochs so far."""


class Damaged(ValueError):
    """The bytes are not those that were written."""


class Checkpoints:
    """The saved states of trainings in one place, by name: `00012` is the file `00012.safetensors`.

    While a training runs, `00012.previous.safetensors` is the state before the last, which is taken where the last is
    damaged; `settle` removes it when the training has ended. Nothing is cached: processes of several machines may
    share a place, but only one may write a name at a time.

    Args:
        place: a folder, which must exist, or a URL that pyarrow reaches (`file:///…`, `s3://bucket/prefix?…`).

    Raises:
        ValueError: pyarrow knows no such URL, or a name is no plain file name.
    """

    def __init__(self, place: str) -> None:
        self.place, self._store = place, store_at(place)
        self._intact: set[str] = set()

    def write(self, name: str, tensors: dict[str, Tensor], rows: list[dict[str, Any]]) -> None:
        """Save a state; a reader sees the old one or the new, and a write that fails leaves the old one.

        Raises:
            OSError: it cannot be saved; for a full disk its errno is in `file_store.FULL`, and it is not tried again.
        """
        file, content = _file(name), packed(tensors, rows)
        # A file that is damaged, or not of this training, must not take the place of a good one.
        previous = _file(name, ".previous") if name in self._intact else None
        self._store.write(file, content, previous=previous)
        self._intact.add(name)

    def read(self, name: str) -> Saved | None:
        """Return the last state that is intact, or None where there is none; the log tells of what is damaged.

        Raises:
            OSError: the place cannot be read, which does not say that it holds nothing.
        """
        file, previous = _file(name), _file(name, ".previous")
        for one in (file, previous):
            found = self._read(one)
            if found and one == file:
                self._intact.add(name)
            elif found:
                LOG.warning("%s: %s is gone or damaged; the state before it is taken", self.place, file)
            if found:
                return found
        return None

    def settle(self, name: str) -> None:
        """Keep the last state alone, and be sure that the disk has it: the training has ended.

        While it runs nothing waits for the disk: after a power cut the state before the last is there, or the training
        begins anew. That halves the time of `write`.
        """
        self._store.sync(_file(name))
        self._store.delete(_file(name, ".previous"))
        self._intact.discard(name)

    def delete(self, name: str) -> None:
        """Remove all that is kept of a training; that there is nothing is no error."""
        self.settle(name)  # first: after a kill between the two, what is older must not be taken for the last
        self._store.delete(_file(name))

    def names(self) -> list[str]:
        """Return the names of the trainings of which something is kept, sorted."""
        stems = [name.removesuffix(".safetensors") for name in self._store.names() if name.endswith(".safetensors")]
        return sorted({stem.removesuffix(".previous") for stem in stems})

    def fetch(self, name: str, path: Path) -> bool:
        """Copy the last state of a training that has ended to a file, as a whole; return whether it is there.

        Where the place is the file's own folder there is nothing to copy. What is damaged is not there.
        """
        if isinstance(self._store, LocalStore) and self._store.folder.resolve() == path.parent.resolve():
            return self._read(_file(name)) is not None
        content = self._store.read(_file(name))
        if content is None or not self._intact_content(_file(name), content):
            return False
        here = LocalStore(path.parent)
        here.write(path.name, content)
        here.sync(path.name)
        return True

    def _read(self, file: str) -> Saved | None:
        content = self._store.read(file)
        return None if content is None else self._intact_content(file, content)

    def _intact_content(self, file: str, content: bytes) -> Saved | None:
        try:
            return unpacked(content)
        except Damaged as damage:
            LOG.warning("%s: %s is damaged: %s", self.place, file, damage)
            return None


def packed(tensors: dict[str, Tensor], rows: list[dict[str, Any]]) -> bytes:
    """Return the content of a safetensors file whose metadata has "rows", as JSON, and "crc32".

    The checksum is the CRC-32 of all other bytes, header and tensors, which finds every burst of errors of up to 32
    bits and leaves one in 2³² of others (Peterson and Brown 1961, Cyclic codes for error detection). It takes a
    quarter of the time of SHA-256, which would be needed against intent, not against disks.
    """
    content = save(tensors, metadata={"rows": json.dumps(rows), "crc32": NO_CHECKSUM})
    place = CHECKSUM.search(content)
    assert place is not None
    start, end = place.span(1)
    view = memoryview(content)
    return b"".join((view[:start], b"%08x" % _checksum(view, start, end), view[end:]))


def unpacked(content: bytes) -> Saved:
    """Return what `packed` was given; a file of an older version, without a checksum, is read too.

    Raises:
        Damaged: the content is cut short, changed or something else.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size]
        metadata = json.loads(header)["__metadata__"]
        rows = json.loads(metadata["rows"])
        if set(metadata) != {"rows"}:  # all files have rows, and those of older versions nothing else
            place = CHECKSUM.search(header)
            if place is None:
                raise Damaged("its checksum cannot be found")
            start, end = place.span(1)
            if place[1] != b"%08x" % _checksum(memoryview(content), 8 + start, 8 + end):
                raise Damaged("its checksum is not that of its bytes")
        if not isinstance(rows, list):
            raise Damaged("its rows are no list")
        return load(content), rows
    except Damaged:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"it is no whole checkpoint ({type(error).__name__})") from None


def _checksum(content: memoryview, start: int, end: int) -> int:
    """Return the CRC-32 of the content without what lies from `start` to `end`."""
    return zlib.crc32(content[end:], zlib.crc32(content[:start]))


def _file(name: str, kind: str = "") -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise ValueError(f"{name!r} is no name of a checkpoint, such as 00012")
    return f"{name}{kind}.safetensors"
