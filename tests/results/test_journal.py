import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odenas.results.journal import CHUNK, Journal
from odenas.space import OdenasError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5)


@given(rows=ROWS)
def test_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    journal = Journal(tmp_path_factory.mktemp("run") / "log.jsonl")
    for row in rows:
        journal.append(row)
    assert journal.read() == rows


@given(rows=ROWS.filter(bool), data=st.data())
def test_cut_at_any_byte_loses_the_lines_after_it_alone(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    journal = Journal(tmp_path_factory.mktemp("run") / "log.jsonl")
    for row in rows:
        journal.append(row)
    content = journal.path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    journal.path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert journal.read() == rows[:whole]
    journal.append({"after": 1})
    assert journal.read() == [*rows[:whole], {"after": 1}]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").read() == []


def test_a_long_cut_line_is_removed_before_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"kept": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"cut": "' + b"x" * (3 * CHUNK))
    journal.append({"kept": 2}, sync=True)
    assert journal.read() == [{"kept": 1}, {"kept": 2}]


@pytest.mark.parametrize("damage", [b"{", b"", b"[1]", b"\xff\xfe", b'{"a": NaN}', b"\0\0\0", b"[" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.path.write_bytes(b'{"a": 1}\n' + damage + b'\n{"a": 2}\n')
    with pytest.raises(OdenasError, match=r"log.jsonl` line 2 is damaged") as error:
        journal.read()
    assert "\n" not in str(error.value)


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"a": float("nan")})
    assert not journal.path.exists()


def test_a_folder_that_is_gone_or_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for path in (tmp_path / "gone" / "log.jsonl", tmp_path / "folder.jsonl"):
        with pytest.raises(OdenasError, match="cannot be written: "):
            Journal(path).append({"a": 1})
    with pytest.raises(OdenasError, match="cannot be read: "):
        Journal(tmp_path / "folder.jsonl").read()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"a": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:3]))
    with pytest.raises(OdenasError, match="No space left"):
        journal.append({"a": 2})
    assert journal.path.read_bytes() == b'{"a":1}\n'


def test_a_writer_killed_at_any_moment_leaves_a_readable_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    code = (
        "import sys, itertools; from pathlib import Path; from odenas.results.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in itertools.count(): journal.append({'i': i, 'filler': 'x' * (i % 7000)})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(journal.path)])
    try:
        deadline = time.monotonic() + 60
        while len(journal.read()) < 50 and time.monotonic() < deadline:
            time.sleep(0.005)  # a reader meanwhile sees whole rows alone
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    rows = journal.read()
    assert len(rows) >= 50
    assert [row["i"] for row in rows] == list(range(len(rows)))


def test_lines_are_plain_json(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    journal.append({"scheme": "x ← x + ½ f", "name": "\udcff"})
    (line,) = journal.path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"scheme": "x ← x + ½ f", "name": "\udcff"}
