"""The folder that keeps data sets: verified at every reading, built aside and moved into place at once.

Beside the data set NAME it holds `.NAME.lock`, which whoever obtains NAME holds, and until NAME is in place
`.NAME.part`: the archives of which it is made, whole or begun, so that nothing is fetched twice after a kill.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from odenas.search.sources import Report, Unavailable
from odenas.space.errors import OdenasError


@dataclass(frozen=True)
class Source:
    """One way to the files of a data set.

    Args:
        name: what the source is, for messages.
        obtain: yields (file name, content) of every file; what it leaves in the folder that it is given is there
            again when it is called again, by whatever process, until the data set is in place; raises `Unavailable`
            where it cannot.
    """

    name: str
    obtain: Callable[[Path, Report], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True)
class Recipe:
    """The files of a data set.

    Args:
        name: of the data set and of its folder in the cache.
        sha1: SHA-1 of every file, by file name.
        megabytes: room that the most demanding source takes at its peak.
        sources: tried in turn; all end in the same files.
    """

    name: str
    sha1: Mapping[str, str]
    megabytes: int
    sources: tuple[Source, ...]


class Damaged(Exception):
    """A file of the cache is missing or differs from the original."""


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that keeps data sets.

    It is `folder` where given, else the environment's ODENAS_DATA, else `odenas/data` in the user's cache folder.
    """
    chosen = folder or os.environ.get("ODENAS_DATA")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("odenas") / "data"


def read(recipe: Recipe, names: Sequence[str], folder: Path, report: Report) -> list[bytes]:
    """Return the contents of the named files, obtaining the data set where it is missing or one of them is damaged.

    Every content is read once and its SHA-1 compared, at about 0.5 s per GB; intact files need no right to write.

    Raises:
        OdenasError: no source can give the data, or the folder cannot hold them.
    """
    place = folder / recipe.name
    try:
        if place.exists():
            try:
                return [_content(place, name, recipe) for name in names]
            except Damaged as damage:
                report(f"{recipe.name}: {damage}; it is obtained again")
        _build(recipe, folder, report)
        return [_content(place, name, recipe) for name in names]
    except (OSError, Damaged) as error:
        reason = getattr(error, "strerror", None) or error
        raise OdenasError(_room(recipe, folder, reason)) from error


def state(recipe: Recipe, folder: Path) -> tuple[str, int]:
    """Return what the folder has of a data set, without reading it: there, damaged, begun or not there; and bytes."""
    place, kept = folder / recipe.name, _kept(recipe, folder)
    if place.exists():
        return "there" if all((place / name).is_file() for name in recipe.sha1) else "damaged", _bytes(place)
    return ("begun" if (begun := _bytes(kept)) else "not there"), begun


def _kept(recipe: Recipe, folder: Path) -> Path:
    return folder / f".{recipe.name}.part"


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _content(place: Path, name: str, recipe: Recipe) -> bytes:
    try:
        content = (place / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{place / name} is missing") from None
    if sha1(content).hexdigest() != recipe.sha1[name]:
        raise Damaged(f"{place / name} is damaged")
    return content


def _room(recipe: Recipe, folder: Path, reason: object) -> str:
    return (
        f"`folder` is '{folder}', which cannot hold {recipe.name!r} ({reason}), but must be a folder to write to with "
        f"{recipe.megabytes} MB free; the environment variable ODENAS_DATA may name another"
    )


def _build(recipe: Recipe, folder: Path, report: Report) -> None:
    """Put the files into place, unless another process has done so in the meantime."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(recipe, folder, report):
        if _intact(recipe, folder):
            return
        for left in folder.glob(f".{recipe.name}-*"):  # by a process that was killed: the lock is ours
            shutil.rmtree(left, ignore_errors=True)
        kept = _kept(recipe, folder)
        if (free := shutil.disk_usage(folder).free) + _bytes(kept) < recipe.megabytes * 10**6:
            raise OdenasError(_room(recipe, folder, f"{free // 10**6} MB free"))
        kept.mkdir(exist_ok=True)
        try:
            with TemporaryDirectory(prefix=f".{recipe.name}-", dir=folder) as work:
                _obtain(recipe, Path(work), kept, report)
                if (folder / recipe.name).exists():
                    os.replace(folder / recipe.name, Path(work, "damaged"))
                os.replace(Path(work, "files"), folder / recipe.name)
        except BaseException:
            with suppress(OSError):
                kept.rmdir()  # only where nothing is kept in it
            raise
        shutil.rmtree(kept, ignore_errors=True)


@contextmanager
def _alone(recipe: Recipe, folder: Path, report: Report) -> Iterator[None]:
    """Hold the data set's lock, which the system frees when the process dies."""
    lock = FileLock(folder / f".{recipe.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"{recipe.name}: waiting for another process that obtains it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _intact(recipe: Recipe, folder: Path) -> bool:
    try:
        for name in recipe.sha1:
            _content(folder / recipe.name, name, recipe)
    except Damaged:
        return False
    return True


def _obtain(recipe: Recipe, work: Path, kept: Path, report: Report) -> None:
    """Write the verified files into `work`/files, from the first source that gives them all."""
    reasons = []
    for source in recipe.sources:
        report(f"{recipe.name}: obtaining it from {source.name}")
        files = work / "files"
        files.mkdir()
        try:
            for name, content in source.obtain(kept, report):
                if (found := sha1(content).hexdigest()) != recipe.sha1[name]:
                    raise Unavailable(f"{name} has the SHA-1 {found}, but must have {recipe.sha1[name]}")
                (files / name).write_bytes(content)
            if missing := sorted(set(recipe.sha1) - {path.name for path in files.iterdir()}):
                raise Unavailable(f"it has no {', '.join(missing)}")
        except Unavailable as reason:
            report(f"{recipe.name}: not from {source.name}: {reason}")
            reasons.append(f"{source.name}: {reason}")
            shutil.rmtree(files)
        else:
            report(f"{recipe.name}: {len(recipe.sha1)} files with the SHA-1 of the originals")
            return
    raise OdenasError(f"`data` is {recipe.name!r}, which no source could give: {'; '.join(reasons)}")
