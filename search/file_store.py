"""Files in one place that other machines may share: a folder, or a URL that pyarrow reaches, such as s3://…"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pyarrow import fs

from odenas.results.files import TEMPORARY

LOG = logging.getLogger("odenas")
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors that only the user can mend, by making room."""
PASSING_ERRORS = {errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED}
# What pyarrow's S3 says of errors that pass: https://github.com/apache/arrow, cpp/src/arrow/filesystem/s3_internal.h.
PASSING_WORDS = re.compile(
    "NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|REQUEST_TIMEOUT|HTTP status 50[0234]"
)
PATIENCE = 60.0
"""Seconds after which a deed that keeps failing is given up."""
T = TypeVar("T")


@dataclass(frozen=True)
class LocalStore:
    """Files in a folder of this machine, or of a file system that it mounts. The folder must exist.

    A folder that is missing is not made, since a node on which the shared file system is not mounted would then keep
    to itself what all should see.
    """

    folder: Path
    patience: float = PATIENCE

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""
        with suppress(FileNotFoundError):
            return _patiently(lambda: (self.folder / name).read_bytes(), self.patience)
        return None

    def write(self, name: str, content: bytes, *, previous: str | None = None) -> None:
        """Write a file as a whole; what it was before goes to `previous`, where that is given.

        A reader sees the old file or the new one, never a part, and a write that fails leaves all as it was. Between
        the two moves of a write with `previous` there is no `name`, but there is a `previous`. After a power cut the
        file may be cut short, unless `sync` was called.

        Raises:
            OSError: the file cannot be written; on a full disk its errno is in FULL.
        """
        _patiently(lambda: self._write(name, content, previous), self.patience)

    def sync(self, name: str) -> None:
        """Return when the disk has a file, if it is there."""
        with suppress(FileNotFoundError), (self.folder / name).open("rb") as file:
            os.fsync(file.fileno())

    def delete(self, name: str) -> None:
        """Delete a file, if it is there, and what writes that were killed have left of it."""
        for left in self.folder.glob(f".{name}.*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        (self.folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of the files, sorted; those still being written left out."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self.folder.iterdir() if path.is_file() and path.suffix != TEMPORARY)
        return []

    def _write(self, name: str, content: bytes, previous: str | None) -> None:
        path = self.folder / name
        # Processes of several machines may share the folder, so that the number of a process is no name.
        temporary = path.with_name(f".{name}.{secrets.token_hex(4)}{TEMPORARY}")
        try:
            temporary.write_bytes(content)
            if previous:
                with suppress(FileNotFoundError):
                    path.replace(self.folder / previous)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteStore:
    """Files below a prefix of a remote file system. On S3 a file appears once all of it is there."""

    system: Any
    prefix: str
    patience: float = PATIENCE

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""

        def read() -> bytes:
            with self.system.open_input_file(f"{self.prefix}/{name}") as file:
                return bytes(file.read())

        with suppress(FileNotFoundError):
            return _patiently(read, self.patience)
        return None

    def write(self, name: str, content: bytes, *, previous: str | None = None) -> None:
        """Write a file; what it was before is copied to `previous` first, where that is given.

        Raises:
            OSError: the file cannot be written; where the server has no room left its errno is in FULL.
        """
        path = f"{self.prefix}/{name}"

        def write() -> None:
            with self.system.open_output_stream(path) as file:
                file.write(content)

        if previous:
            with suppress(FileNotFoundError):
                _patiently(lambda: self.system.copy_file(path, f"{self.prefix}/{previous}"), self.patience)
        _patiently(write, self.patience)

    def sync(self, name: str) -> None:
        """Do nothing: what is written is with the server."""

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError):
            _patiently(lambda: self.system.delete_file(f"{self.prefix}/{name}"), self.patience)

    def names(self) -> list[str]:
        """Return the names of the files, sorted."""
        selector = fs.FileSelector(self.prefix, allow_not_found=True)
        there = _patiently(lambda: self.system.get_file_info(selector), self.patience)
        return sorted(info.base_name for info in there if info.type == fs.FileType.File)


Store = LocalStore | RemoteStore


def is_url(place: str) -> bool:
    """Return whether a place is a URL and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", place) is not None


def store_at(place: str, patience: float = PATIENCE) -> Store:
    """Return the files of a place: a folder's path, or a URL as `pyarrow.fs.FileSystem.from_uri` reads it.

    What fails for a reason that may pass is tried again for `patience` seconds.

    Raises:
        ValueError: pyarrow knows no such URL.
        OSError: the library that it needs is missing, or (other than S3) nobody answers.
    """
    if not is_url(place):
        return LocalStore(Path(place).expanduser().absolute(), patience)
    system, path = _patiently(lambda: _connected(place), patience)  # where no region is given, S3 is asked for it
    if isinstance(system, fs.LocalFileSystem):
        return LocalStore(Path(path), patience)
    return RemoteStore(system, path.rstrip("/"), patience)


def within(place: str, *names: str) -> str:
    """Return the place below another: `s3://bucket/all?scheme=http` and `a` make `s3://bucket/all/a?scheme=http`."""
    if not is_url(place):
        return str(Path(place, *names))
    path, mark, query = place.partition("?")
    return "/".join([path.rstrip("/"), *(quote(name, safe="") for name in names)]) + mark + query


@lru_cache(maxsize=64)
def _connected(place: str) -> tuple[Any, str]:
    # A connection is kept: to make one takes 20 ms, and a new one shakes hands again.
    system, path = fs.FileSystem.from_uri(place)
    return _impatient(system) if system.type_name == "s3" else system, path


def _impatient(system: Any) -> Any:
    """Return an S3 file system that gives up a server that is silent after 20 s, not 99, and sends a file at once.

    A URL cannot say so, and neither process nor search can end before pyarrow gives up. What passes later is for
    `_patiently`. A file sent at once is one request, otherwise three.
    """
    make, (options,) = system.__reduce__()  # as for pickling: all options that the URL gave
    strategy = fs.AwsStandardS3RetryStrategy(max_attempts=2)
    wanted = {"connect_timeout": 3.0, "request_timeout": 3.0, "allow_delayed_open": True}
    return make(
        options | {name: value for name, value in wanted.items() if name in options} | {"retry_strategy": strategy}
    )


def _patiently(deed: Callable[[], T], patience: float) -> T:
    """Do something; begin again where an error may pass, but not after so many seconds."""
    wait, until = 0.5, time.monotonic() + patience
    while True:
        try:
            return deed()
        except OSError as error:
            if "HTTP status 507" in str(error):  # Insufficient Storage, RFC 4918 section 11.5; MinIO says so
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({error})") from None
            passing = error.errno in PASSING_ERRORS or (error.errno is None and PASSING_WORDS.search(str(error)))
            if not passing or time.monotonic() + wait > until:
                raise
            LOG.warning("the storage fails and is tried again in %g s: %s", wait, error)
        time.sleep(wait)
        wait = min(2 * wait, 8.0)
