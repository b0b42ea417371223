"""`--storage`: what is checked before a search relies on it, and where in it a run keeps its files."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from odenas.search import storage
from odenas.search.file_store import LocalStore, store_at, within
from odenas.search.storage import check_storage, checkpoints_of, place
from odenas.space import OdenasError


@pytest.fixture(autouse=True, scope="module")
def credentials() -> Iterator[None]:
    """Without any, Amazon's library asks the machine it runs on for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        yield


def refused(text: str) -> str:
    """Return the one line that says why."""
    with pytest.raises(OdenasError) as caught:
        check_storage(text)
    line = str(caught.value)
    assert line.startswith("`storage` is ")
    assert "\n" not in line
    assert len(line) < 500
    return line


def test_a_folder_is_made_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, folder in (
        (str(tmp_path / "a" / "b"), tmp_path / "a" / "b"),
        ("relative", tmp_path / "relative"),
        ("~/home", tmp_path / "home"),
    ):
        monkeypatch.setenv("HOME", str(tmp_path))
        for _ in range(2):
            assert check_storage(text) == str(folder)
            assert list(folder.iterdir()) == []
    url = f"file://{tmp_path}/url"
    assert check_storage(url) == url
    assert list((tmp_path / "url").iterdir()) == []


@pytest.mark.parametrize("form", ["{}/file", "{}/file/below", "file://{}/file/below"])
def test_what_is_no_folder_is_refused(tmp_path: Path, form: str) -> None:
    (tmp_path / "file").write_text("precious")
    line = refused(form.format(tmp_path))
    assert "which cannot be used: " in line
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refused(str(tmp_path))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that holds no files of ours")
def test_a_file_system_that_cannot_be_written_is_refused() -> None:
    assert "which cannot be used: " in refused("/proc/odenas")


def test_what_is_read_must_be_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = LocalStore.read
    for wrong in (lambda *_: None, lambda self, name: (read(self, name) or b"")[:-1]):
        monkeypatch.setattr(LocalStore, "read", wrong)
        assert "what was written cannot be read" in refused(str(tmp_path))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s4://bucket/a", "must be a folder or begin with file://, s3://"),
        ("http://host/a", "must be a folder or begin with file://, s3://"),
        ("s3:///a", "Missing bucket name"),
        ("s3://bucket/a?colour=red", "colour"),
        ("s3://a b/c", "Cannot parse URI"),
        ("hdfs://nobody:1/a", "libjvm"),
        ("", "must be a folder or a URL"),
        ("  ", "must be a folder or a URL"),
    ],
)
def test_what_is_no_place_is_refused(text: str, said: str) -> None:
    assert said in refused(text)


@settings(deadline=None)
@given(st.from_regex(r"[a-z][a-z0-9+.-]{0,5}:[^\s]{0,12}", fullmatch=True))
def test_any_text_of_an_unknown_scheme_is_refused_in_one_line(text: str) -> None:
    if text.split(":")[0] in ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "mock", "local"):
        return
    refused(text)


@pytest.mark.parametrize("user", ["key:hush", "hush", ":hush"])
def test_a_password_is_refused_and_not_shown(user: str) -> None:
    line = refused(f"s3://{user}@bucket/a?scheme=http")
    assert "hush" not in line
    assert "'s3://…@bucket/a?scheme=http'" in line
    assert "AWS_SECRET_ACCESS_KEY" in line


WORDS = st.text(min_size=1, max_size=12).filter(lambda text: text not in (".", "..") and not set("/\0\\") & set(text))


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3))
def test_places_within_a_folder_are_folders(names: list[str]) -> None:
    assert within("/a/b", *names) == "/".join(["/a/b", *names])
    assert within("/a", names[0], *names[1:]) == within(within("/a", names[0]), *names[1:])


# As surrogates have no UTF-8, no URL has them.
@settings(deadline=None)
@given(st.lists(WORDS.filter(str.isprintable), min_size=1, max_size=3), st.sampled_from(["a", "a/", ""]))
def test_places_within_a_url_are_below_it(names: list[str], prefix: str) -> None:
    query = "?region=eu-west-1&scheme=http"  # without a region pyarrow asks the network for it
    system, path = fs.FileSystem.from_uri(within(f"s3://bucket/{prefix}{query}", *names))
    assert path == "/".join(["bucket", *prefix.split("/")[:1], *names] if prefix else ["bucket", *names])
    assert system.region == "eu-west-1"


@pytest.mark.parametrize(
    ("storage", "found"),
    [
        ("/shared/odenas", "/shared/odenas/digits"),
        ("file:///shared/odenas/", "file:///shared/odenas/digits"),
        ("s3://bucket", "s3://bucket/digits"),
        ("s3://bucket/all?region=eu-west-1", "s3://bucket/all/digits?region=eu-west-1"),
    ],
)
def test_a_run_s_place_follows_from_the_name_of_its_folder(
    storage: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    for path in ("digits", "runs/digits", "runs/digits/", Path("/elsewhere/digits"), "digits/../digits"):
        assert place(storage, path) == found
    monkeypatch.chdir(tmp_path / "digits")
    assert place(storage, ".") == found


def test_checkpoints_are_below_the_run_s_place() -> None:
    assert checkpoints_of("/runs/digits") == "/runs/digits/checkpoints"
    assert checkpoints_of("s3://b/digits?scheme=http") == "s3://b/digits/checkpoints?scheme=http"


@pytest.mark.parametrize("make", [lambda path: str(path), lambda path: f"file://{path}"])
def test_files_of_a_folder(tmp_path: Path, make: Callable[[Path], str]) -> None:
    store = store_at(make(tmp_path))
    assert (store.read("a"), store.names()) == (None, [])
    store.write("a", b"1")
    store.write("a", b"2", previous="b")
    store.write("c", b"3", previous="d")
    (tmp_path / "folder").mkdir()
    assert store.names() == ["a", "b", "c"]
    assert [store.read(name) for name in "abcd"] == [b"2", b"1", b"3", None]
    for _ in range(2):
        store.sync("a")
        store.delete("a")
    assert store.names() == ["b", "c"]


# The last, since pyarrow makes no connection while it waits in vain for another.
def test_one_who_listens_and_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        line = refused(f"s3://bucket/a?scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - start < 5
    assert line.endswith("which has not answered within 0.5 s")
