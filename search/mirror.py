"""The copy of a run folder's plain files in the storage, so that a search outlives the machine of its driver."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odenas.results import Run, load
from odenas.results.files import TEMPORARY
from odenas.search.checkpoint import Checkpoints
from odenas.search.file_store import LocalStore, Store, store_at
from odenas.search.storage import checkpoints_of
from odenas.space.errors import OdenasError

LOG = logging.getLogger("odenas")
HEADER, TRIALS = "run.json", "trials.jsonl"
PATTERNS = (HEADER, TRIALS, "*.jsonl", "log.txt*")
"""The files that are copied, in the order in which they are read."""
EVERY = 30.0
"""Seconds from one copy to the next, at least."""
SHARE = 0.1
"""Part of the time that copying takes, at most."""
LAST = 20.0
"""Seconds that the end of a search waits for the last copy."""


@contextmanager
def mirrored(run: Run, place: str, every: float = EVERY) -> Iterator[None]:
    """Copy the run folder's plain files to the place, every so many seconds where they changed, and at the end.

    Checkpoints are not copied (the trials write them to the storage themselves), and locks neither. A copy that fails
    is logged and tried again; it never stops the search. Of JSONL files whole lines are copied. What trials.jsonl says
    of a trial is, at any moment, covered by the other files there. Only one machine at a time may run a search. Where
    the place is the run folder itself, nothing is done.

    Args:
        run: the search that is under way.
        place: of `storage.place`.
        every: seconds from one copy to the next; more where copying takes more than SHARE of the time.

    Raises:
        OdenasError: at the beginning, where the place holds another search or cannot be used.
    """
    store = store_at(place, patience=0)
    if _is_at(store, run.path):
        yield
        return
    try:
        _make_folders(store)
        header = _header(store, place)
    except OSError as error:
        raise _unusable(place, error) from None
    _check_same(header, run, place)
    mirror = _Mirror(run.path, store, place)
    mirror.copy()
    thread = threading.Thread(target=mirror.run, args=(every,), daemon=True, name="mirror")
    thread.start()
    try:
        yield
    finally:
        mirror.stopped.set()
        thread.join(LAST)
        if thread.is_alive():
            LOG.warning("%s: the last copy of the run folder has not ended within %g s", place, LAST)


def recovered(folder: Path, place: str) -> bool:
    """Bring a search back from the storage where the run folder is gone or behind; return whether that was done.

    The folder is gone where the machine was lost, and behind where the search went on elsewhere since. Checkpoints of
    trials that were drawn after the last copy are removed from the storage, since their numbers will be drawn anew;
    weights of finished trials stay there, for `Checkpoints.fetch`. A folder that holds something else is left alone.

    Raises:
        OdenasError: folder and storage hold different searches, or a search that went on in both; or the storage cannot
            be read.
    """
    store = store_at(place)
    if _is_at(store, folder):
        return False
    try:
        header = _header(store, place)
        if header is None:
            return False
        if (folder / HEADER).exists():
            run = load(folder)
            _check_same(header, run, place)
            if not _behind(run, store, place):
                return False
            _bring(store, folder, [name for name in _names(store) if name != HEADER])
        elif not _brought_whole(store, folder):
            return False
        _forget_unknown(load(folder), checkpoints_of(place))
    except OSError as error:
        raise _unusable(place, error) from None
    LOG.info("%s: the search was brought back from %s", folder, place)
    return True


@dataclass
class _Mirror:
    """Copies what changed since the last copy."""

    folder: Path
    store: Store
    place: str
    stopped: threading.Event = field(default_factory=threading.Event)
    copied: dict[str, tuple[int, int]] = field(default_factory=dict)
    failing: bool = False

    def run(self, every: float) -> None:
        """Copy until told to stop, and then once more."""
        pause = every
        while not self.stopped.wait(pause):
            begin = time.monotonic()
            self.copy()
            pause = max(every, (time.monotonic() - begin) * (1 / SHARE - 1))
        self.copy()

    def copy(self) -> None:
        """Copy the files that changed; log where that fails, and where it works again."""
        try:
            # A trial's last line comes after its epochs: it must be read before them, and written after them.
            contents = {path.name: self._changed(path) for path in _files(self.folder)}
            for name in sorted(contents, key=lambda name: name == TRIALS):
                if found := contents[name]:
                    stamp, content = found
                    self.store.write(name, content)
                    self.copied[name] = stamp
        except Exception as error:  # whatever it is, the search goes on
            if not self.failing:
                LOG.warning("%s: the run folder cannot be copied, which is tried again: %s", self.place, error)
            self.failing = True
        else:
            if self.failing:
                LOG.warning("%s: the run folder is copied again", self.place)
            self.failing = False

    def _changed(self, path: Path) -> tuple[tuple[int, int], bytes] | None:
        """Return a file's stamp and content where it is not the one copied last."""
        with suppress(FileNotFoundError):  # the log is rotated
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns)
            if stamp != self.copied.get(path.name):
                content = path.read_bytes()
                return stamp, _whole_lines(content) if path.suffix == ".jsonl" else content
        return None


def _files(folder: Path) -> list[Path]:
    found = [path for pattern in PATTERNS for path in sorted(folder.glob(pattern)) if path.is_file()]
    return list(dict.fromkeys(found))


def _names(store: Store) -> list[str]:
    """Return the names of the files in the storage that a mirror wrote, trials.jsonl last."""
    names = [name for name in store.names() if any(Path(name).match(pattern) for pattern in PATTERNS)]
    return sorted(names, key=lambda name: name == TRIALS)


def _header(store: Store, place: str) -> dict[str, Any] | None:
    """Return what run.json in the storage says, or None where there is none."""
    content = store.read(HEADER)
    if content is None:
        return None
    try:
        header = json.loads(content)
        return {"created": header["created"], "config": header["config"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OdenasError(f"`storage` has {place}, where run.json is damaged; choose another folder") from None


def _check_same(header: dict[str, Any] | None, run: Run, place: str) -> None:
    # run.json is written once, so that equal ones tell of the same search.
    if header is not None and header != {"created": run.created, "config": run.config}:
        raise OdenasError(
            f"`storage` has {place}, which holds another search than {run.path}, begun {header['created']}; choose "
            "another storage, or a run folder with another name"
        )


def _behind(run: Run, store: Store, place: str) -> bool:
    """Return whether the storage knows of trials what the run folder does not."""
    path = run.path / TRIALS
    here = _whole_lines(path.read_bytes() if path.exists() else b"")
    there = store.read(TRIALS) or b""
    if not (here.startswith(there) or there.startswith(here)):
        raise OdenasError(
            f"`storage` has {place}, where this search went on otherwise than in {run.path}; delete trials.jsonl "
            "there, or the run folder here"
        )
    return len(there) > len(here)


def _brought_whole(store: Store, folder: Path) -> bool:
    """Make the run folder of what the storage holds, at once; return whether there was room for it."""
    for empty in (folder / "checkpoints", folder):
        with suppress(OSError):
            empty.rmdir()
    if folder.exists():
        return False
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        (temporary / "checkpoints").mkdir(parents=True)
        _bring(store, temporary, _names(store))
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _bring(store: Store, folder: Path, names: list[str]) -> None:
    here = LocalStore(folder)
    for name in names:
        content = store.read(name)
        if content is not None:
            here.write(name, content)
            here.sync(name)


def _forget_unknown(run: Run, place: str) -> None:
    """Remove the checkpoints of trials that the run folder does not know."""
    checkpoints, known = Checkpoints(place), set(run.trials["number"])
    for name in checkpoints.names():
        if name.isdigit() and int(name) not in known:
            checkpoints.delete(name)


def _make_folders(store: Store) -> None:
    # The driver alone makes folders: see LocalStore.
    if isinstance(store, LocalStore):
        (store.folder / "checkpoints").mkdir(parents=True, exist_ok=True)


def _is_at(store: Store, folder: Path) -> bool:
    return isinstance(store, LocalStore) and store.folder.resolve() == folder.resolve()


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _unusable(place: str, error: OSError) -> OdenasError:
    return OdenasError(f"`storage` has {place}, which cannot be used: {(error.strerror or str(error)).splitlines()[0]}")
