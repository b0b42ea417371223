"""A published file over HTTP: what an interrupted download left is kept, gone on from, and believed by its checksum."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from odenas.search.sources import Report, Unavailable
from odenas.search.transfer import megabytes, transfer

CONNECTION_SECONDS = 10.0  # the longest silence of a host
CONNECTIONS = 20  # to one host for one file, as long as each brings something
CHUNK = 1 << 16
USER_AGENT = "odenas"  # some hosts refuse urllib's own


class _Lost(Exception):
    """The connection ended before the file did."""


class _Beyond(Exception):
    """The host has no bytes after those that are kept."""


def download(url: str, md5: str, kept: Path, report: Report) -> Path:
    """Return the path of the file at `url`, downloaded into the folder `kept` unless it lies there whole.

    The bytes lie in NAME.part. What a former call left there is gone on from by a range request, and where the host
    does not know such requests, from the beginning; so is what turns out to be another file by its MD5. A connection
    that is lost is made anew as long as each brings something.

    Raises:
        Unavailable: the host is out of reach, or silent for CONNECTION_SECONDS, or what came has another MD5.
        OSError: `kept` cannot be written to.
    """
    name, host = url.rsplit("/", 1)[-1], urlsplit(url).hostname
    part = kept / f"{name}.part"
    if part.exists() and _md5(part) == md5:
        return part
    for _ in range(CONNECTIONS):
        begun = _size(part)
        try:
            start = _receive(url, part, report)
        except _Lost as reason:
            if _size(part) <= begun:
                raise Unavailable(reason) from reason
            report(f"{name}: {host} was lost after {megabytes(_size(part))} ({reason}); it goes on from there")
            continue
        except _Beyond:
            start = begun
        if (found := _md5(part)) == md5:
            return part
        part.unlink()
        if start == 0:
            raise Unavailable(f"{name} has the MD5 {found}, but must have {md5}")
        report(f"{name}: what was kept of it is damaged; it is downloaded from the beginning")
    raise Unavailable(f"{host} was lost {CONNECTIONS} times")


def _receive(url: str, part: Path, report: Report) -> int:
    """Append to `part` what it lacks; return the offset from which the host sent."""
    kept = _size(part)
    with _connect(url, kept) as response:
        start, total = _extent(response)
        if start > kept:
            raise _Lost(f"it sends from byte {start} on when asked for byte {kept} on")
        label = part.name.removesuffix(".part")
        part.touch()
        with part.open("r+b") as file, transfer(report, label, total, there=start) as show:
            file.truncate(start)
            file.seek(start)
            for chunk in _chunks(response):
                file.write(chunk)
                show(file.tell())
            if total is not None and file.tell() < total:
                raise _Lost("it closed the connection")
    return start


def _connect(url: str, start: int) -> HTTPResponse:
    """Return the host's answer to a request for the bytes from `start` on."""
    headers = {"User-Agent": USER_AGENT} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=CONNECTION_SECONDS
        )
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # Range Not Satisfiable, RFC 9110 §15.5.17
            raise _Beyond from error
        raise Unavailable(f"{url}: {error}") from error
    except (URLError, OSError, HTTPException) as error:
        raise _Lost(_reason(error)) from error
    return response


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """Return at which byte of the file the answer begins, and the size of the file where it is said."""
    if response.status == 206:  # Partial Content, RFC 9110 §15.3.7
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if told is None:
            raise Unavailable("it sends a part of the file without saying which")
        return int(told[1]), None if told[2] == "*" else int(told[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what comes, as it comes; of all errors only those of the connection become `_Lost`."""
    while True:
        try:
            chunk = response.read1(CHUNK)
        except (OSError, HTTPException) as error:
            raise _Lost(_reason(error)) from error
        if not chunk:
            return
        yield chunk


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # Against accidents alone; the cache compares the SHA-1 of what is read from the file.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
