"""Saved states of trainings: what was written is read, what was damaged is found out, and a good one is always left."""

import errno
import json
import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from odenas.results.files import TEMPORARY
from odenas.search import file_store
from odenas.search.checkpoint import Checkpoints, Damaged, packed, unpacked
from odenas.search.file_store import FULL

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
Rows = list[dict[str, Any]]


def state(epoch: int) -> tuple[dict[str, Tensor], Rows]:
    """Return a state that says of itself in each of its parts which epoch it is of."""
    tensors = {"epoch": torch.tensor(epoch), "network.w": torch.full((40, 3), float(epoch))}
    return tensors, [{"epoch": one, "loss": 1 / one} for one in range(1, epoch + 1)]


def epoch_of(saved: tuple[dict[str, Tensor], Rows] | None) -> int:
    assert saved is not None
    tensors, rows = saved
    epoch = int(tensors["epoch"])
    expected, expected_rows = state(epoch)
    assert rows == expected_rows
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    return epoch


@pytest.fixture
def there(tmp_path: Path) -> Checkpoints:
    return Checkpoints(str(tmp_path))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, position: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    size = int(torch.tensor(shape).prod()) * torch.empty((), dtype=dtype).element_size()
    # Any bits, those of not-a-number among them; a boolean is 0 or 1.
    content = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), generator=generator, dtype=torch.uint8)
    return content.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)


NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
ROWS = st.lists(
    st.dictionaries(st.text(max_size=9), st.none() | st.integers() | st.floats(allow_nan=False) | st.text(), max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES | st.sampled_from(["crc32", "rows"]), tensors(), max_size=4), ROWS)
def test_what_was_packed_is_unpacked(given_tensors: dict[str, Tensor], rows: Rows) -> None:
    found, found_rows = unpacked(packed(given_tensors, rows))
    assert found_rows == rows
    assert set(found) == set(given_tensors)
    for name, value in given_tensors.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


def test_a_text_like_the_checksum_is_not_taken_for_it() -> None:
    rows = [{'"crc32":"--------"': '"crc32":"00000000"'}]
    assert unpacked(packed({"crc32": torch.ones(2)}, rows))[1] == rows


def test_any_flipped_bit_is_found_out() -> None:
    content = packed({"w": torch.arange(5.0), "v": torch.tensor([True])}, [{"epoch": 1, "text": "é"}])
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            unpacked(bytes(damaged))


def test_any_content_cut_short_or_longer_is_found_out() -> None:
    content = packed(*state(2))
    for end in range(len(content)):
        with pytest.raises(Damaged):
            unpacked(content[:end])
    with pytest.raises(Damaged):
        unpacked(content + b"\0")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_anything_else_is_found_out(content: bytes) -> None:
    with pytest.raises(Damaged):
        unpacked(content)
    with pytest.raises(Damaged):
        unpacked(len(content).to_bytes(8, "little") + content)


@pytest.mark.parametrize("header", [b"[" * 100_000, b'{"__metadata__":{"rows":"' + b"[" * 100_000 + b'"}}'])
def test_deep_nesting_is_found_out(header: bytes) -> None:
    with pytest.raises(Damaged):
        unpacked(len(header).to_bytes(8, "little") + header)


def test_a_file_of_an_older_version_is_read(there: Checkpoints, tmp_path: Path) -> None:
    given_tensors, rows = state(3)
    (tmp_path / "00004.safetensors").write_bytes(save(given_tensors, metadata={"rows": json.dumps(rows)}))
    assert epoch_of(there.read("00004")) == 3
    there.write("00004", *state(4))
    assert epoch_of(there.read("00004")) == 4


def test_a_file_without_rows_is_no_checkpoint(there: Checkpoints, tmp_path: Path) -> None:
    save_file(state(1)[0], tmp_path / "00000.safetensors")
    save_file(state(1)[0], tmp_path / "00001.safetensors", metadata={"rows": '{"epoch": 1}'})
    assert there.read("00000") is there.read("00001") is None


def test_the_file_is_plain_safetensors(there: Checkpoints, tmp_path: Path) -> None:
    there.write("00012", *state(2))
    with safe_open(tmp_path / "00012.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"epoch", "network.w"}
        assert json.loads(file.metadata()["rows"]) == state(2)[1]


def test_the_last_two_are_kept_until_the_training_ends(there: Checkpoints, tmp_path: Path) -> None:
    assert there.read("00012") is None
    for epoch in range(1, 5):
        there.write("00012", *state(epoch))
        assert epoch_of(there.read("00012")) == epoch
    assert files(tmp_path) == ["00012.previous.safetensors", "00012.safetensors"]
    flip(tmp_path / "00012.safetensors")
    assert epoch_of(there.read("00012")) == 3
    there.write("00012", *state(4))
    there.settle("00012")
    assert files(tmp_path) == ["00012.safetensors"]
    assert epoch_of(there.read("00012")) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_the_state_before_a_damaged_one_is_taken_and_told(
    there: Checkpoints, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "00007.safetensors"
    for epoch in (1, 2, 3):
        there.write("00007", *state(epoch))
    if damage == "flip":
        flip(path)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -40 if damage == "cut" else 0])
    for _ in range(2):  # to be read is to be left as it is
        caplog.clear()
        with caplog.at_level(logging.WARNING, "odenas"):
            assert epoch_of(Checkpoints(str(tmp_path)).read("00007")) == 2
        told = [record.getMessage() for record in caplog.records]
        assert told[-1] == f"{tmp_path}: 00007.safetensors is gone or damaged; the state before it is taken"
        assert len(told) == (1 if damage == "gone" else 2)
        assert all("\n" not in line for line in told)


def test_a_damaged_file_takes_no_good_one_s_place(tmp_path: Path) -> None:
    before = Checkpoints(str(tmp_path))
    for epoch in (1, 2):
        before.write("00000", *state(epoch))
    flip(tmp_path / "00000.safetensors")
    later = Checkpoints(str(tmp_path))
    assert epoch_of(later.read("00000")) == 1
    later.write("00000", *state(2))
    flip(tmp_path / "00000.safetensors")
    assert epoch_of(Checkpoints(str(tmp_path)).read("00000")) == 1


def test_what_another_training_left_is_no_state_before(tmp_path: Path) -> None:
    Checkpoints(str(tmp_path)).write("00000", *state(9))
    there = Checkpoints(str(tmp_path))
    there.write("00000", *state(1))
    assert files(tmp_path) == ["00000.safetensors"]


def test_two_damaged_ones_are_none(there: Checkpoints, tmp_path: Path) -> None:
    for epoch in (1, 2):
        there.write("00000", *state(epoch))
    for path in tmp_path.iterdir():
        flip(path)
    assert there.read("00000") is None


def test_that_a_file_cannot_be_read_does_not_say_that_there_is_none(there: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "00000.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        there.read("00000")


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    there = Checkpoints(str(tmp_path / "not mounted"))
    assert there.read("00000") is None
    assert there.names() == []
    with pytest.raises(FileNotFoundError):
        there.write("00000", *state(1))
    assert not (tmp_path / "not mounted").exists()


class Deeds:
    """Lets file operations fail, the one after the given number of them, as a disk or a kill does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.left, self.error = 10**9, error
        for name in ("write_bytes", "replace"):
            monkeypatch.setattr(Path, name, self.failing(name, getattr(Path, name)))

    def failing(self, name: str, deed: Any) -> Any:
        def do(path: Path, other: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                if name == "write_bytes":
                    deed(path, other[: len(other) // 2])
                raise self.error
            return deed(path, other)

        return do


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_write_that_fails_at_any_step_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, before: int, step: int
) -> None:
    there = Checkpoints(str(tmp_path))
    for epoch in range(1, before + 1):
        there.write("00000", *state(epoch))
    with monkeypatch.context() as patch:
        deeds = Deeds(patch, error)
        deeds.left, start = step, time.monotonic()
        with pytest.raises(type(error)) as caught:
            there.write("00000", *state(before + 1))
        assert time.monotonic() - start < 0.4  # nothing waited for
    if isinstance(caught.value, OSError):
        assert caught.value.errno in FULL
    assert epoch_of(Checkpoints(str(tmp_path)).read("00000")) == before
    assert not list(tmp_path.glob(f".*{TEMPORARY}"))
    there.write("00000", *state(before + 1))
    assert epoch_of(there.read("00000")) == before + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", place], check=True)


def test_on_a_full_disk_the_last_state_stays(small_disk: Path) -> None:
    there = Checkpoints(str(small_disk))
    there.write("00000", *state(1))
    (small_disk / "ballast").write_bytes(bytes(40_000))
    tensors, rows = state(2)
    with pytest.raises(OSError, match="No space left") as caught:
        there.write("00000", tensors | {"large": torch.zeros(20_000)}, rows)
    assert caught.value.errno in FULL
    assert epoch_of(there.read("00000")) == 1
    assert files(small_disk) == ["00000.safetensors", "ballast"]
    (small_disk / "ballast").unlink()
    there.write("00000", tensors, rows)
    assert epoch_of(there.read("00000")) == 2


def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    rng, last = random.Random(1), 0
    for _ in range(25):
        child = os.fork()
        if child == 0:  # pragma: no cover
            there = Checkpoints(str(tmp_path))
            saved = there.read("00000")
            epoch = epoch_of(saved) if saved else 0
            while True:
                epoch += 1
                there.write("00000", *state(epoch))
        time.sleep(rng.uniform(0.01, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        saved = Checkpoints(str(tmp_path)).read("00000")
        epoch = epoch_of(saved) if saved else 0
        assert epoch >= last  # a kill takes nothing that was there
        last = epoch
    assert last > 1
    there = Checkpoints(str(tmp_path))
    there.write("00000", *state(last))
    there.settle("00000")
    there.delete("00000")
    assert files(tmp_path) == []  # not even what the killed ones were writing


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = 0.0, list[float]()
        monkeypatch.setattr("odenas.search.file_store.time.monotonic", lambda: self.now)
        monkeypatch.setattr("odenas.search.file_store.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("failures", [3, 10**9])
def test_what_may_pass_is_tried_again_for_a_minute(
    there: Checkpoints, monkeypatch: pytest.MonkeyPatch, number: int, failures: int
) -> None:
    there.write("00000", *state(1))
    clock, write, left = Clock(monkeypatch), Path.write_bytes, failures

    def failing(path: Path, content: bytes) -> int:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(number, os.strerror(number))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    if failures == 3:
        there.write("00000", *state(2))
        assert clock.waits == [0.5, 1, 2]
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            there.write("00000", *state(2))
        assert 50 < clock.now <= file_store.PATIENCE
    assert epoch_of(there.read("00000")) == (2 if failures == 3 else 1)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_what_does_not_pass_is_not_tried_again(
    there: Checkpoints, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(path: Path, content: bytes) -> int:
        raise OSError(number, os.strerror(number))

    clock = Clock(monkeypatch)
    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OSError, match=os.strerror(number)):
        there.write("00000", *state(1))
    assert not clock.waits


def test_names_and_deletion(there: Checkpoints, tmp_path: Path) -> None:
    for name in ("00010", "00002", "twin-00002"):
        for epoch in (1, 2):
            there.write(name, *state(epoch))
    (tmp_path / "00005.previous.safetensors").write_bytes(packed(*state(1)))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / f".00002.safetensors.ab12{TEMPORARY}").write_text("left by a kill")
    assert there.names() == ["00002", "00005", "00010", "twin-00002"]
    for _ in range(2):
        there.delete("00002")
        assert there.names() == ["00005", "00010", "twin-00002"]
        assert there.read("00002") is None
        assert not any("00002" in name for name in files(tmp_path) if not name.startswith("twin"))


def test_a_deletion_cut_short_leaves_nothing_older(
    there: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epoch in (1, 2):
        there.write("00000", *state(epoch))
    unlink, done = Path.unlink, list[str]()

    def once(path: Path, missing_ok: bool = False) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", once)
    with pytest.raises(KeyboardInterrupt):
        there.delete("00000")
    monkeypatch.undo()
    assert epoch_of(there.read("00000")) == 2


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a.previous", "a b", "é\n"])
def test_a_name_is_a_plain_file_name(there: Checkpoints, name: str) -> None:
    for deed in (there.read, there.delete, there.settle, lambda name: there.write(name, *state(1))):
        with pytest.raises(ValueError, match="no name of a checkpoint"):
            deed(name)


def test_weights_are_fetched_whole_or_not_at_all(there: Checkpoints, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    target = run / "00003.safetensors"
    assert not there.fetch("00003", target)
    for epoch in (1, 2):
        there.write("00003", *state(epoch))
    assert there.fetch("00003", target)
    assert target.read_bytes() == (tmp_path / "00003.safetensors").read_bytes()
    assert there.fetch("00003", tmp_path / "00003.safetensors")  # there already
    flip(tmp_path / "00003.safetensors")
    # The state before the last is not what the training ended with.
    assert not there.fetch("00003", target)
    assert not there.fetch("00003", tmp_path / "00003.safetensors")
    assert epoch_of(Checkpoints(str(run)).read("00003")) == 2
    assert files(run) == ["00003.safetensors"]


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_a_path_or_a_url(tmp_path: Path, form: str) -> None:
    there = Checkpoints(form.format(tmp_path))
    there.write("00000", *state(1))
    assert files(tmp_path) == ["00000.safetensors"]
    assert epoch_of(there.read("00000")) == 1


def test_an_unknown_url_is_refused() -> None:
    with pytest.raises(ValueError, match="xyz"):
        Checkpoints("xyz://a/b")
