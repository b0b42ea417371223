"""`--storage s3://…` against servers that speak S3 on this machine: moto's, and some that refuse."""

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.results import Run, load
from odenas.search.checkpoint import Checkpoints
from odenas.search.file_store import FULL, RemoteStore, store_at, within
from odenas.search.mirror import mirrored, recovered
from odenas.search.storage import check_storage, checkpoints_of, place
from odenas.space import OdenasError

boto3 = pytest.importorskip("boto3")
server = pytest.importorskip("moto.server")
BUCKET = "odenas-tests"


@pytest.fixture(autouse=True, scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.delenv("AWS_PROFILE", raising=False)
        yield


@pytest.fixture(scope="module")
def address(credentials: None) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield f"{host}:{port}"
    moto.stop()


def url(address: str, path: str) -> str:
    return f"s3://{path}?endpoint_override={address}&scheme=http&region=us-east-1"


@pytest.fixture
def storage(address: str, request: pytest.FixtureRequest) -> str:
    """A prefix of its own for each test."""
    return within(url(address, BUCKET), request.node.name)


def state(epoch: int) -> Any:
    return {"epoch": torch.tensor(epoch), "w": torch.full((50,), epoch / 3)}, [{"epoch": epoch}]


def epoch_of(saved: Any) -> int:
    tensors, rows = saved
    epoch = int(tensors["epoch"])
    assert rows == [{"epoch": epoch}]
    assert torch.equal(tensors["w"], state(epoch)[0]["w"])
    return epoch


def test_a_storage_that_works_is_left_as_it_was(storage: str) -> None:
    for _ in range(2):
        assert check_storage(storage) == storage
        assert store_at(storage).names() == []


def test_two_processes_share_the_checkpoints(storage: str) -> None:
    """One trains the epochs 1 to 3 and is gone; another goes on."""
    child = """
import sys, torch
from odenas.search.checkpoint import Checkpoints
there = Checkpoints(sys.argv[1])
assert there.read("00012") is None
for epoch in (1, 2, 3):
    tensors = {"epoch": torch.tensor(epoch), "w": torch.full((50,), epoch / 3)}
    there.write("00012", tensors, [{"epoch": epoch}])
"""
    where = checkpoints_of(place(storage, "runs/a run #1"))
    subprocess.run([sys.executable, "-c", child, where], check=True, timeout=120, env=dict(os.environ))
    there = Checkpoints(where)
    assert epoch_of(there.read("00012")) == 3
    there.write("00012", *state(4))
    assert epoch_of(Checkpoints(where).read("00012")) == 4
    assert store_at(where).names() == ["00012.previous.safetensors", "00012.safetensors"]
    assert there.names() == ["00012"]
    there.settle("00012")
    assert store_at(where).names() == ["00012.safetensors"]
    for _ in range(2):
        there.delete("00012")
        assert there.names() == []
        assert there.read("00012") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_the_state_before_a_damaged_one_is_taken(storage: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    there, store = Checkpoints(storage), store_at(storage)
    for epoch in (1, 2, 3):
        there.write("00000", *state(epoch))
    content = store.read("00000.safetensors") or b""
    damaged = {"cut": content[:-30], "flip": content[:-1] + bytes([content[-1] ^ 4]), "empty": b""}
    if damage == "gone":
        store.delete("00000.safetensors")
    else:
        store.write("00000.safetensors", damaged[damage])
    later = Checkpoints(storage)
    with caplog.at_level(logging.WARNING, "odenas"):
        assert epoch_of(later.read("00000")) == 2
    assert "the state before it is taken" in caplog.records[-1].getMessage()
    later.write("00000", *state(3))
    store.write("00000.safetensors", b"damaged again")
    assert epoch_of(Checkpoints(storage).read("00000")) == 2


def test_weights_are_fetched(storage: str, tmp_path: Path) -> None:
    there = Checkpoints(storage)
    assert not there.fetch("00000", tmp_path / "00000.safetensors")
    there.write("00000", *state(1))
    assert there.fetch("00000", tmp_path / "00000.safetensors")
    assert epoch_of(Checkpoints(str(tmp_path)).read("00000")) == 1
    store_at(storage).write("00000.safetensors", b"damaged")
    assert not there.fetch("00000", tmp_path / "00000.safetensors")
    assert epoch_of(Checkpoints(str(tmp_path)).read("00000")) == 1


def test_a_search_goes_on_on_another_machine(storage: str, tmp_path: Path) -> None:
    where = place(storage, "runs/digits")
    run = Run.create(tmp_path / "one" / "digits", {"seed": 1}, {"odenas": "0.1"})
    with mirrored(run, where, every=0.05):
        for number in range(3):
            run.record_trial({"number": number, "status": "RUNNING"})
            run.record_epoch({"number": number, "epoch": 1, "validation_error": 9.0})
        run.record_trial({"number": 0, "status": "COMPLETE", "epochs": 1})
        for name in ("00001", "00007"):
            Checkpoints(checkpoints_of(where)).write(name, *state(1))
    other = tmp_path / "two" / "digits"
    assert recovered(other, where)
    assert load(other).trials.equals(run.trials)
    assert load(other).epochs.equals(run.epochs)
    assert Checkpoints(checkpoints_of(where)).names() == ["00001"]
    assert not recovered(other, where)
    stranger = Run.create(tmp_path / "three" / "digits", {"seed": 2}, {})
    with pytest.raises(OdenasError, match="holds another search"):
        recovered(stranger.path, where)


def refused(text: str) -> str:
    start = time.monotonic()
    with pytest.raises(OdenasError) as caught:
        check_storage(text)
    assert time.monotonic() - start < 15
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_is_not_there_is_refused(address: str) -> None:
    assert "there is no such bucket" in refused(url(address, "odenas-nowhere/a"))


@contextmanager
def answering(status: int, code: str, good_after: int = 10**9) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer to everything, an error as S3 words it; yield the address and the requests so far."""
    requests: list[str] = []
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said the server</Message></Error>".encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append(self.command)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{http.server_port}", requests
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_credentials_that_are_refused_are_told_at_once(code: str) -> None:
    with answering(403, code) as (address, _):
        start = time.monotonic()
        line = refused(url(address, "bucket/a"))
        assert time.monotonic() - start < 5
    assert "the credentials are refused; set AWS_ACCESS_KEY_ID" in line


def test_a_server_without_room_is_told_at_once_by_its_number() -> None:
    with answering(507, "XMinioStorageFull") as (address, _):
        there, start = Checkpoints(url(address, "bucket/a")), time.monotonic()
        with pytest.raises(OSError, match="No space left") as caught:
            there.write("00000", *state(1))
        assert time.monotonic() - start < 3
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.errno in FULL


def test_that_the_server_fails_does_not_say_that_there_is_nothing() -> None:
    with answering(403, "AccessDenied") as (address, _):
        there = Checkpoints(url(address, "bucket/a"))
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            there.read("00000")


def test_nobody_there_is_told_within_seconds() -> None:
    with answering(200, "") as (address, _):
        pass
    assert "nobody answers there" in refused(url(address, "bucket/a"))


@pytest.mark.slow
def test_an_outage_is_waited_for(address: str, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is away for longer than pyarrow's own attempts last."""
    there = Checkpoints(storage)
    there.write("00000", *state(1))
    store = store_at(storage)
    assert isinstance(store, RemoteStore)
    nobody = store_at(url("127.0.0.1:9", "x"))
    assert isinstance(nobody, RemoteStore)
    at_work, away = store.system, nobody.system
    until = time.monotonic() + 8

    class Away:
        def open_output_stream(self, path: str) -> Any:
            return (away if time.monotonic() < until else at_work).open_output_stream(path)

    RemoteStore(Away(), store.prefix).write("00000.safetensors", b"whole")
    assert time.monotonic() > until
    assert store.read("00000.safetensors") == b"whole"
