"""The option `--storage`: a folder or URL that all nodes reach, checked before a search relies on it."""

from __future__ import annotations

import os
import re
import secrets
import threading
from os import PathLike
from pathlib import Path
from urllib.parse import urlsplit

from odenas.search.file_store import LocalStore, is_url, store_at, within
from odenas.space.errors import OdenasError

ANSWER = 30.0
"""Seconds within which a storage must have answered. S3 takes 2 s where nobody is there, 21 s where one is silent."""
REASONS = {
    "NO_SUCH_BUCKET": "there is no such bucket; make it first",
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|ExpiredToken|INVALID_CLIENT_TOKEN_ID": (
        "the credentials are refused; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    ),
    "NETWORK_CONNECTION": "nobody answers there",
    "HTTP status 30[127]": "the bucket is in another region; add ?region=NAME",
    "Unrecognized filesystem type": "but must be a folder or begin with file://, s3://, gs://, abfs:// or hdfs://",
}
"""What pyarrow says -> what the user is told before it."""


def check_storage(text: str) -> str:
    """Return the folder (absolute) or URL that `--storage` names, after a file was written, read and deleted there.

    A folder is made where it does not exist.

    Raises:
        OdenasError: pyarrow knows no such URL, it cannot be written or read, it does not answer within ANSWER seconds,
            or the URL holds a password.
    """
    # Another than the user would see the URL: the run folder keeps it.
    if is_url(text) and "@" in urlsplit(text).netloc:
        shown = re.sub("//[^/?#]*@", "//…@", text)
        raise OdenasError(
            f"`storage` is {shown!r}, which holds a password; give it by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not text.strip():
        raise OdenasError(f"`storage` is {text!r}, but must be a folder or a URL that all nodes reach")
    place = text if is_url(text) else str(Path(text).expanduser().absolute())
    failures: list[Exception] = []

    def probe() -> None:
        try:
            _probe(place)
        except Exception as error:  # it is told by the thread that waits
            failures.append(error)

    # Nothing ends a call of pyarrow, so that it is left to itself.
    thread = threading.Thread(target=probe, daemon=True, name="storage")
    thread.start()
    thread.join(ANSWER)
    if thread.is_alive():
        raise OdenasError(f"`storage` is {text!r}, which has not answered within {ANSWER:g} s")
    if failures:
        raise OdenasError(f"`storage` is {text!r}, {_reason(failures[0])}")
    return place


def place(storage: str, run_path: str | PathLike[str]) -> str:
    """Return where in a storage a run keeps its files: below it, by the name of the run folder.

    So the same command finds them on any machine, even where the run folder is gone, and after the folder was moved
    (not after it was renamed). That two searches do not share a place is seen to by `mirrored` and `recovered`.
    """
    return within(storage, Path(os.path.abspath(run_path)).name)


def checkpoints_of(place: str) -> str:
    """Return where in a run's place, or its run folder, the checkpoints are."""
    return within(place, "checkpoints")


def _probe(place: str) -> None:
    store = store_at(place, patience=2)
    if isinstance(store, LocalStore):
        store.folder.mkdir(parents=True, exist_ok=True)
    name, content = f"odenas-{secrets.token_hex(8)}", secrets.token_bytes(100)
    store.write(name, content)
    try:
        if store.read(name) != content or name not in store.names():
            raise OSError("what was written cannot be read")
    finally:
        store.delete(name)


def _reason(error: Exception) -> str:
    """Return in one line what is wrong, and what would be right where that is known."""
    said = getattr(error, "strerror", None) or str(error).splitlines()[0]
    said = said if len(said) <= 200 else f"{said[:200]}…"
    for pattern, told in REASONS.items():
        if re.search(pattern, str(error)):
            return f"{told} ({said})"
    return f"which cannot be used: {said}"
