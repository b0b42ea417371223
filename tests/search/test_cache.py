"""The cache, with sources that are functions."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path

import pytest

from odenas.search.cache import Recipe, Source, cache_folder, read, state
from odenas.search.sources import Report, Unavailable
from odenas.space.errors import OdenasError

FILES = {"a.bin": b"abc" * 1000, "b.bin": b"xyz" * 1000}
Obtain = Callable[[Path, Report], Iterator[tuple[str, bytes]]]


def good(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    (work / "download").write_bytes(b"left over")
    yield from FILES.items()


def absent(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    yield "a.bin", FILES["a.bin"]
    raise Unavailable("its host is out of reach")


def other(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    yield "a.bin", b"something else"


def partial(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    yield "a.bin", FILES["a.bin"]


def recipe(*sources: Obtain, megabytes: int = 1) -> Recipe:
    digests = {name: sha1(content).hexdigest() for name, content in FILES.items()}
    return Recipe("toy", digests, megabytes, tuple(Source(f.__name__, f) for f in sources))


def fills(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    (kept / "archive").write_bytes(b"half of it")
    raise Unavailable("its host is out of reach")


def held(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock")


def contents(made: Recipe, folder: Path) -> tuple[list[bytes], list[str]]:
    lines: list[str] = []
    return read(made, list(FILES), folder, lines.append), lines


def test_is_built_once_and_leaves_only_the_files(tmp_path: Path) -> None:
    first, lines = contents(recipe(good), tmp_path / "new")
    assert first == list(FILES.values())
    assert lines == ["toy: obtaining it from good", "toy: 2 files with the SHA-1 of the originals"]
    assert held(tmp_path / "new") == ["toy", "toy/a.bin", "toy/b.bin"]
    assert contents(recipe(absent), tmp_path / "new") == (first, [])


def test_sources_are_tried_in_turn(tmp_path: Path) -> None:
    found, lines = contents(recipe(absent, other, partial, good), tmp_path)
    assert found == list(FILES.values())
    assert "toy: not from absent: its host is out of reach" in lines
    assert any(line.startswith("toy: not from other: a.bin has the SHA-1") for line in lines)
    assert "toy: not from partial: it has no b.bin" in lines
    assert held(tmp_path) == ["toy", "toy/a.bin", "toy/b.bin"]


def test_without_a_source_one_line_names_all_reasons_and_nothing_stays(tmp_path: Path) -> None:
    with pytest.raises(
        OdenasError, match=r"`data` is 'toy'.*absent: its host is out of reach; partial: it has no"
    ) as e:
        contents(recipe(absent, partial), tmp_path)
    assert "\n" not in str(e.value)
    assert held(tmp_path) == []


def test_what_a_source_left_is_there_for_the_next_attempt_until_the_files_are(tmp_path: Path) -> None:
    found: list[bytes] = []

    def looks(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
        found.extend(path.read_bytes() for path in kept.iterdir())
        yield from FILES.items()

    assert state(recipe(good), tmp_path) == ("not there", 0)
    with pytest.raises(OdenasError, match="no source could give"):
        contents(recipe(fills), tmp_path)
    assert held(tmp_path) == [".toy.part", ".toy.part/archive"]
    assert state(recipe(good), tmp_path) == ("begun", 10)
    contents(recipe(looks), tmp_path)
    assert found == [b"half of it"]
    assert held(tmp_path) == ["toy", "toy/a.bin", "toy/b.bin"]
    assert state(recipe(good), tmp_path) == ("there", 6000)
    (tmp_path / "toy" / "b.bin").unlink()
    assert state(recipe(good), tmp_path) == ("damaged", 3000)


def test_a_later_source_has_what_an_earlier_one_left(tmp_path: Path) -> None:
    def mirror(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
        assert (kept / "archive").read_bytes() == b"half of it"
        yield from FILES.items()

    assert contents(recipe(fills, mirror), tmp_path)[0] == list(FILES.values())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)


def a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_file_for_the_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.write_text("a file")


DAMAGES: list[Callable[[Path], object]] = [
    flip,
    lambda path: os.truncate(path, 2999),
    lambda path: os.truncate(path, 0),
    lambda path: path.write_bytes(path.read_bytes() + b"!"),
    lambda path: path.unlink(),
    a_folder_instead,
    lambda path: path.parent.rename(path.parent.with_name("moved")),
    a_file_for_the_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_noticed_and_obtained_again(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    contents(recipe(good), tmp_path)
    damage(tmp_path / "toy" / name)
    found, lines = contents(recipe(good), tmp_path)
    assert found == list(FILES.values())
    assert "toy: obtaining it from good" in lines
    assert contents(recipe(absent), tmp_path) == (found, [])


def test_the_damaged_file_is_named_and_stays_where_no_source_is_left(tmp_path: Path) -> None:
    contents(recipe(good), tmp_path)
    flip(tmp_path / "toy" / "b.bin")
    lines: list[str] = []
    with pytest.raises(OdenasError, match="no source could give"):
        read(recipe(absent), list(FILES), tmp_path, lines.append)
    assert lines[0] == f"toy: {tmp_path / 'toy' / 'b.bin'} is damaged; it is obtained again"
    assert held(tmp_path) == ["toy", "toy/a.bin", "toy/b.bin"]


def test_only_the_files_asked_for_are_read(tmp_path: Path) -> None:
    contents(recipe(good), tmp_path)
    (tmp_path / "toy" / "b.bin").unlink()
    assert read(recipe(absent), ["a.bin"], tmp_path, print) == [FILES["a.bin"]]


KILLED = """
import sys, time
from pathlib import Path
from odenas.search.cache import Recipe, Source, read

def stuck(work, report):
    yield "a.bin", b"abc" * 1000
    print("half", flush=True)
    time.sleep(60)

read(Recipe("toy", {"a.bin": sys.argv[2], "b.bin": ""}, 1, (Source("stuck", stuck),)), ["a.bin"], Path(sys.argv[1]), id)
"""


def test_a_killed_build_leaves_no_half_and_its_rest_is_removed(tmp_path: Path) -> None:
    digest = sha1(FILES["a.bin"]).hexdigest()
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, digest], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "toy").exists()
    assert any(path.startswith(".toy-") for path in held(tmp_path))
    contents(recipe(good), tmp_path)
    assert held(tmp_path) == ["toy", "toy/a.bin", "toy/b.bin"]


def test_of_two_at_once_one_waits_and_finds_the_files(tmp_path: Path) -> None:
    started, waiting = threading.Event(), threading.Event()

    def slow(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
        started.set()
        assert waiting.wait(timeout=30)
        yield from FILES.items()

    builder = threading.Thread(target=contents, args=(recipe(slow), tmp_path))
    builder.start()
    assert started.wait(timeout=30)
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        waiting.set()

    assert read(recipe(absent), list(FILES), tmp_path, report) == list(FILES.values())
    builder.join()
    assert lines == ["toy: waiting for another process that obtains it"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_folder_that_cannot_hold_it_is_named(tmp_path: Path, code: int) -> None:
    def full(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
        yield "a.bin", FILES["a.bin"]
        raise OSError(code, os.strerror(code))

    with pytest.raises(
        OdenasError, match=f"`folder` is '{tmp_path}'.*{os.strerror(code)}.*with 1 MB free.*ODENAS_DATA"
    ):
        contents(recipe(full), tmp_path)
    assert held(tmp_path) == []


def test_too_little_room_is_seen_before_obtaining(tmp_path: Path) -> None:
    with pytest.raises(OdenasError, match=r"cannot hold 'toy' \(\d+ MB free\), but must .* with 1000000000 MB free"):
        contents(recipe(good, megabytes=10**9), tmp_path)


def test_a_file_for_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OdenasError, match="`folder` is"):
        contents(recipe(good), tmp_path / "file")


def test_folder_is_the_given_else_the_environments_else_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODENAS_DATA", str(tmp_path / "b"))
    assert cache_folder(tmp_path / "a") == tmp_path / "a"
    assert cache_folder() == tmp_path / "b"
    monkeypatch.setenv("ODENAS_DATA", "")
    assert cache_folder().parts[-2:] == ("odenas", "data")
    assert cache_folder("~/x") == Path.home() / "x"
