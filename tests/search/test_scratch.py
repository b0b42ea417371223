"""Folders for Ray's files: short names, gone afterwards, swept up after a killed process."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from odenas.search.scratch import LONGEST, PREFIX, scratch
from odenas.space import OdenasError


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose path is short, as pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_the_folder_goes_with_what_is_in_it(base: Path) -> None:
    with scratch() as one, scratch() as two:
        assert one.parent == two.parent == base
        assert one != two
        (one / "session" / "logs").mkdir(parents=True)
        (one / "session" / "logs" / "raylet.out").write_text("x")
    assert list(base.iterdir()) == []


def test_the_folder_goes_when_something_is_raised(base: Path) -> None:
    with pytest.raises(KeyError), scratch():
        raise KeyError
    assert list(base.iterdir()) == []


def test_a_path_too_long_for_sockets_is_not_taken(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / "a-folder-of-a-batch-system"
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with scratch() as folder:
        assert folder.parent == Path("/tmp")
        assert len(str(folder)) <= LONGEST


def test_what_a_killed_process_left_goes_and_nothing_else(base: Path) -> None:
    code = "import os; from odenas.search.scratch import scratch; s = scratch(); s.__enter__(); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    (left,) = base.iterdir()
    (base / "of-somebody-else").mkdir()
    (base / f"{PREFIX}in-the-making").mkdir()
    with scratch() as running:
        assert not left.exists()
        with scratch():
            assert running.exists()
    assert sorted(path.name for path in base.iterdir()) == [f"{PREFIX}in-the-making", "of-somebody-else"]


def test_no_folder_to_write_to_is_one_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(base / "none"))
    with pytest.raises(OdenasError, match=r"^`RAY_TMPDIR` is '.*none', .* \(No such file or directory\)"), scratch():
        pass


def test_a_full_disk_is_one_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_500_000))
    with pytest.raises(OdenasError, match=r"\(3 MB free, 32 needed\)") as error, scratch():
        pass
    assert "\n" not in str(error.value)
    assert list(base.iterdir()) == []
