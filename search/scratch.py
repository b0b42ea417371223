"""Temporary folders that go when they are done with, at the latest when another is made after a killed process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from odenas.space import OdenasError

PREFIX = "odenas-ray-"
ROOM = 32
"""MB that must be free: Ray's files are 0.2 MB at the start, and where there is no room it waits half a minute."""
LONGEST = 40
"""Characters of a folder's path: those of a socket's are 107 at most (unix(7)), and Ray adds up to 66 of its own."""


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder in $RAY_TMPDIR, $TMPDIR or /tmp, where the path is short enough for sockets; remove it at the end.

    Raises:
        OdenasError: the folder cannot be written to.
    """
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    base = Path(chosen if len(chosen) + len(PREFIX) + 9 <= LONGEST else "/tmp").absolute()
    try:
        _sweep(base)
        if (free := shutil.disk_usage(base).free) < ROOM * 10**6:
            raise OdenasError(unwritable(base, f"{free // 10**6} MB free, {ROOM} needed"))
        folder = Path(mkdtemp(prefix=PREFIX, dir=base))
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=10)
    except OSError as error:
        raise OdenasError(unwritable(base, error.strerror or error)) from None
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def unwritable(folder: Path, reason: object) -> str:
    """Return the line that says that Ray cannot keep its files in a folder."""
    return (
        f"`RAY_TMPDIR` is {str(folder)!r}, where Ray cannot keep its files ({reason}); "
        "the environment variable RAY_TMPDIR may name another folder"
    )


def _sweep(base: Path) -> None:
    """Remove the folders of processes that were killed: their locks are free."""
    for folder in base.glob(f"{PREFIX}*"):
        if not (folder / ".lock").exists() or not os.access(folder, os.W_OK):
            continue  # just being made, or of another user
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
