"""The copy of a run folder: a search whose driver's machine is lost goes on elsewhere."""

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from odenas.results import Run, load
from odenas.search import mirror
from odenas.search.checkpoint import Checkpoints
from odenas.search.file_store import LocalStore
from odenas.search.mirror import _Mirror, mirrored, recovered
from odenas.search.storage import checkpoints_of, place
from odenas.space import OdenasError

CONFIG = {"seed": 1}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "here" / "digits", CONFIG, {"odenas": "0.1"})


@pytest.fixture
def there(tmp_path: Path) -> str:
    return place(str(tmp_path / "shared"), "anywhere/digits")


def trial(run: Run, number: int, epochs: int = 2, status: str = "COMPLETE") -> None:
    """Record a trial in the order of a search: begun, epoch by epoch, ended."""
    run.record_trial({"number": number, "status": "RUNNING", "epochs": 0})
    for epoch in range(1, epochs + 1):
        run.record_epoch({"number": number, "epoch": epoch, "validation_error": 100.0 / epoch})
    run.record_trial({"number": number, "status": status, "epochs": epochs})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_equal(one: Run, other: Run) -> None:
    assert (one.created, one.config, one.versions) == (other.created, other.config, other.versions)
    for table in ("trials", "epochs", "coefficients", "confirmations"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))


def wait_for(found: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_plain_files_are_copied_and_brought_back(run: Run, there: str, tmp_path: Path) -> None:
    (run.path / ".lock").write_text("")
    (run.path / ".run.json.12.tmp").write_text("{}")
    (run.path / "notes.txt").write_text("mine")
    run.checkpoint(0).write_bytes(b"weights")
    with mirrored(run, there):
        trial(run, 0)
        run.record_coefficients(0, 1, [{"symbol": "V", "index": 0, "value": 1.0}])
        run.log.write_text("a line")
        (run.path / "log.txt.1").write_text("older lines")
    copied = ["coefficients.jsonl", "epochs.jsonl", "log.txt", "log.txt.1", "run.json", "trials.jsonl"]
    assert names(Path(there)) == sorted(["checkpoints", *copied])
    assert names(Path(there, "checkpoints")) == []
    assert all(Path(there, name).read_bytes() == (run.path / name).read_bytes() for name in copied)

    elsewhere = tmp_path / "elsewhere" / "digits"
    assert recovered(elsewhere, there)
    assert names(elsewhere.parent) == ["digits"]
    assert names(elsewhere) == sorted(["checkpoints", *copied])
    check_equal(load(elsewhere), run)
    assert not recovered(elsewhere, there)


def test_copies_are_made_while_the_search_runs(run: Run, there: str) -> None:
    copy = Path(there, "trials.jsonl")
    with mirrored(run, there, every=0.02):
        assert Path(there, "run.json").exists()  # at once: the place is taken
        for number in range(3):
            trial(run, number)
            wait_for(lambda: copy.exists() and copy.read_bytes() == (run.path / "trials.jsonl").read_bytes())
    assert not [thread for thread in threading.enumerate() if thread.name == "mirror"]


def test_a_file_that_did_not_change_is_not_copied_again(run: Run, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = LocalStore.write

    def counted(self: LocalStore, name: str, content: bytes, **more: Any) -> None:
        written.append(name)
        write(self, name, content, **more)

    monkeypatch.setattr(LocalStore, "write", counted)
    trial(run, 0)
    Path(there).mkdir(parents=True)
    one = _Mirror(run.path, LocalStore(Path(there)), there)
    for _ in range(3):
        one.copy()
    assert sorted(written) == ["epochs.jsonl", "run.json", "trials.jsonl"]
    trial(run, 1, epochs=0)
    one.copy()
    assert written[3:] == ["trials.jsonl"]


def test_copying_takes_a_tenth_of_the_time_at_most(run: Run, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _Mirror(run.path, LocalStore(Path(there)), there)
    pauses: list[float] = []
    clock, times = 0.0, [0.1, 5.0, 200.0, 1.0]

    def copy() -> None:
        nonlocal clock
        clock += times[len(pauses) - 1] if len(pauses) <= len(times) else 0

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) > len(times)

    monkeypatch.setattr(one, "copy", copy)
    monkeypatch.setattr(one.stopped, "wait", wait)
    monkeypatch.setattr("odenas.search.mirror.time.monotonic", lambda: clock)
    one.run(30.0)
    assert pauses == pytest.approx([30, 30, 45, 1800, 30])


def test_the_storage_failing_stops_no_search(
    run: Run, there: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, down, tried = LocalStore.write, True, 0

    def failing(self: LocalStore, name: str, content: bytes, **more: Any) -> None:
        nonlocal tried
        tried += 1
        if down:
            raise OSError("AWS Error NETWORK_CONNECTION")
        write(self, name, content, **more)

    monkeypatch.setattr(LocalStore, "write", failing)
    with caplog.at_level(logging.WARNING, "odenas"), mirrored(run, there, every=0.01):
        trial(run, 0)
        wait_for(lambda: tried > 5)
        down = False
        wait_for(lambda: Path(there, "trials.jsonl").exists())
    assert [record.getMessage() for record in caplog.records] == [
        f"{there}: the run folder cannot be copied, which is tried again: AWS Error NETWORK_CONNECTION",
        f"{there}: the run folder is copied again",
    ]
    check_equal(load(there), run)


def test_the_end_does_not_wait_for_a_storage_that_hangs(
    run: Run, there: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "LAST", 0.2)
    release, write = threading.Event(), LocalStore.write

    def hanging(self: LocalStore, name: str, content: bytes, **more: Any) -> None:
        if name == "trials.jsonl":
            release.wait(20)
        write(self, name, content, **more)

    monkeypatch.setattr(LocalStore, "write", hanging)
    with caplog.at_level(logging.WARNING, "odenas"), mirrored(run, there):
        trial(run, 0)
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert "has not ended within 0.2 s" in caplog.records[-1].getMessage()
    release.set()


def test_what_goes_wrong_in_the_search_goes_on_its_way(run: Run, there: str) -> None:
    def search() -> None:
        with mirrored(run, there):
            trial(run, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()
    check_equal(load(there), run)


@pytest.mark.parametrize("seed", range(6))
def test_the_copy_never_says_more_of_a_trial_than_its_epochs_tell(
    run: Run, there: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search writes between any two deeds of the mirror, whose writes fail now and then."""
    rng, write, changed = random.Random(seed), LocalStore.write, _Mirror._changed
    count, checked = 0, list[bool]()  # what is raised in a copy is caught there

    def go_on() -> None:
        nonlocal count
        for _ in range(rng.randint(0, 2)):
            trial(run, count, epochs=rng.randint(1, 3))
            count += 1

    def check() -> None:
        store = Path(there)
        if not (store / "run.json").exists():
            return
        copy = load(store)
        known = copy.epochs.groupby("number").size().to_dict()
        checked.extend(known.get(row["number"], 0) >= row["epochs"] for row in copy.trials.to_dict("records"))

    def writing(self: LocalStore, name: str, content: bytes, **more: Any) -> None:
        go_on()
        if rng.random() < 0.3:
            raise OSError("no network")
        write(self, name, content, **more)
        check()

    def looking(self: _Mirror, path: Path) -> Any:
        go_on()
        return changed(self, path)

    Path(there).mkdir(parents=True)
    one = _Mirror(run.path, LocalStore(Path(there)), there)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", writing)
        patch.setattr(_Mirror, "_changed", looking)
        for _ in range(8):
            one.copy()
    assert count > 5
    assert len(checked) > 5
    assert all(checked)
    one.copy()
    check_equal(load(there), run)


def test_a_line_still_being_written_is_not_copied(run: Run, there: str) -> None:
    trial(run, 0)
    whole = (run.path / "trials.jsonl").read_bytes()
    with (run.path / "trials.jsonl").open("ab") as file:
        file.write(b'{"number": 1, "sta')
    with mirrored(run, there):
        pass
    assert Path(there, "trials.jsonl").read_bytes() == whole


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_storage_that_is_the_run_folder_is_left_alone(run: Run, form: str) -> None:
    trial(run, 0)
    where = place(form.format(run.path.parent), run.path)
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    with mirrored(run, where, every=0.01):
        time.sleep(0.05)
    assert not recovered(run.path, where)
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


@pytest.mark.parametrize("change", ["created", "config"])
def test_another_search_of_the_same_name_is_refused(run: Run, there: str, tmp_path: Path, change: str) -> None:
    with mirrored(run, there):
        trial(run, 0)
    other = Run.create(tmp_path / "other" / "digits", CONFIG | ({"seed": 2} if change == "config" else {}), {})
    content = json.loads((other.path / "run.json").read_text())
    content["created"] = "2020-01-01T00:00:00+00:00" if change == "created" else run.created
    (other.path / "run.json").write_text(json.dumps(content))
    other = load(other.path)
    trial(other, 5)
    before = {path.name: path.read_bytes() for path in Path(there).glob("*.*")}
    for deed in (lambda: recovered(other.path, there), lambda: mirrored(other, there).__enter__()):
        with pytest.raises(OdenasError, match=r"`storage` has .* holds another search than .*other/digits") as caught:
            deed()
        assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in Path(there).glob("*.*")} == before
    assert load(other.path).trials["number"].tolist() == [5]


def test_a_damaged_copy_is_refused(run: Run, there: str, tmp_path: Path) -> None:
    Path(there).mkdir(parents=True)
    for content in ("{", "[]", "{}", '{"created": 1}'):
        Path(there, "run.json").write_text(content)
        with pytest.raises(OdenasError, match=r"run\.json is damaged"):
            recovered(tmp_path / "new", there)
        with pytest.raises(OdenasError, match=r"run\.json is damaged"):
            mirrored(run, there).__enter__()


def test_a_folder_that_is_behind_is_brought_forward(run: Run, there: str, tmp_path: Path) -> None:
    with mirrored(run, there):
        trial(run, 0)
    elsewhere = tmp_path / "elsewhere" / "digits"
    assert recovered(elsewhere, there)
    later = load(elsewhere)
    with mirrored(later, there):
        trial(later, 1)
    assert recovered(run.path, there)
    check_equal(load(run.path), later)
    # And one that is ahead of the copy is left as it is: the machine was cut off before the last copy.
    trial(run, 2)
    assert not recovered(run.path, there)
    assert load(run.path).trials["number"].tolist() == [0, 1, 2]
    trial(later, 7)
    with mirrored(later, there):
        pass
    with pytest.raises(OdenasError, match="went on otherwise"):
        recovered(run.path, there)


def test_what_the_storage_does_not_hold_is_not_brought(run: Run, there: str, tmp_path: Path) -> None:
    assert not recovered(run.path, there)
    assert not recovered(tmp_path / "new", there)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_else_is_left_alone(run: Run, there: str, tmp_path: Path) -> None:
    with mirrored(run, there):
        trial(run, 0)
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / "precious").write_text("mine")
    assert not recovered(other, there)
    assert names(other) == ["checkpoints"]
    # What a run that was killed at its beginning leaves is nothing.
    empty = tmp_path / "empty"
    (empty / "checkpoints").mkdir(parents=True)
    assert recovered(empty, there)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("kill", range(5))
def test_a_kill_while_the_search_is_brought_back(
    run: Run, there: str, tmp_path: Path, kill: int, behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, write, left = tmp_path / "elsewhere" / "digits", LocalStore.write, kill
    with mirrored(run, there):
        trial(run, 0)
    if behind:
        recovered(elsewhere, there)
    with mirrored(run, there):
        trial(run, 1)
        run.log.write_text("a line")

    def killed(self: LocalStore, name: str, content: bytes, **more: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(self, name, content, **more)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", killed)
        if kill < (3 if behind else 4):
            with pytest.raises(KeyboardInterrupt):
                recovered(elsewhere, there)
            if not behind:
                assert not elsewhere.exists()
        else:
            recovered(elsewhere, there)
    recovered(elsewhere, there)
    check_equal(load(elsewhere), run)
    assert (elsewhere / "log.txt").read_text() == "a line"


def test_checkpoints_of_trials_that_are_not_known_are_forgotten(run: Run, there: str, tmp_path: Path) -> None:
    with mirrored(run, there):
        trial(run, 0)
        trial(run, 3, status="RUNNING")
    saved = Checkpoints(checkpoints_of(there))
    for name in ("00000", "00003", "00004", "twin-00009"):
        for _ in range(2):
            saved.write(name, {"epoch": torch.tensor(1)}, [])
    assert not recovered(run.path, there)
    assert len(saved.names()) == 4  # the run folder was not brought back: it knows better
    assert recovered(tmp_path / "elsewhere" / "digits", there)
    assert saved.names() == ["00000", "00003", "twin-00009"]
