"""Downloads from a host on this machine that drops, ignores, damages and falls silent."""

import errno
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from odenas.search import download as module
from odenas.search.cache import Recipe, Source, read, state
from odenas.search.download import download
from odenas.search.sources import Report, Unavailable

CONTENT = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA1 = hashlib.sha1(CONTENT).hexdigest()


class Request(BaseHTTPRequestHandler):
    """A request, answered by the next of the host's answers; the last of them answers all that follow."""

    server: "Host"

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.server.starts.append(start)
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self, start)

    def head(self, start: int, *, ranges: bool = True, length: bool = True) -> None:
        partial = ranges and "Range" in self.headers
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if length:
            self.send_header("Content-Length", str(len(CONTENT) - (start if partial else 0)))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


Answer = Callable[[Request, int], object]


class Host(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers, self.starts, self.over = list(answers), list[int](), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/data/file.bin"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # who asked may be gone


def whole(request: Request, start: int) -> None:
    if start >= len(CONTENT):
        request.send_error(416)
        return
    request.head(start)
    request.wfile.write(CONTENT[start:])


def drops_after(count: int) -> Answer:
    def answer(request: Request, start: int) -> None:
        request.head(start)
        request.wfile.write(CONTENT[start : start + count])

    return answer


def ignores_ranges(request: Request, start: int) -> None:
    request.head(0, ranges=False)
    request.wfile.write(CONTENT)


def ignores_ranges_and_drops(request: Request, start: int) -> None:
    request.head(0, ranges=False)
    request.wfile.write(CONTENT[:1000])


def without_length(request: Request, start: int) -> None:
    request.head(start, length=False)
    request.wfile.write(CONTENT[start:])


def damages(request: Request, start: int) -> None:
    request.head(start)
    request.wfile.write(CONTENT[start:-1] + bytes([CONTENT[-1] ^ 1]))


def another_page(request: Request, start: int) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(b"<html>Log in to this network</html>")


def silent_after(count: int) -> Answer:
    def answer(request: Request, start: int) -> None:
        if count:
            drops_after(count)(request, start)
            request.wfile.flush()
        request.server.over.wait(30)

    return answer


def another_part(request: Request, start: int) -> None:
    request.send_response(206)
    request.send_header("Content-Range", f"bytes {start + 10}-{len(CONTENT) - 1}/{len(CONTENT)}")
    request.end_headers()
    request.wfile.write(CONTENT[start + 10 :])


def an_earlier_part(request: Request, start: int) -> None:
    request.send_response(206)
    request.send_header("Content-Range", f"bytes {start - 10}-{len(CONTENT) - 1}/*")
    request.end_headers()
    request.wfile.write(CONTENT[start - 10 :])


def no_part_named(request: Request, start: int) -> None:
    request.send_response(206)
    request.end_headers()
    request.wfile.write(CONTENT[start:])


def refuses(request: Request, start: int) -> None:
    request.send_error(404)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 3.0)
    hosts = []

    def start(*answers: Answer) -> Host:
        hosts.append(Host(*answers))
        threading.Thread(target=hosts[-1].serve_forever, args=(0.02,), daemon=True).start()
        return hosts[-1]

    yield start
    for host in hosts:
        host.over.set()
        host.shutdown()
        host.server_close()


Serve = Callable[..., Host]


def keep(folder: Path, content: bytes) -> None:
    (folder / "file.bin.part").write_bytes(content)


def obtained(host: Host, folder: Path, report: Report = lambda line: None) -> bytes:
    return download(host.url, MD5, folder, report).read_bytes()


@pytest.mark.parametrize("answer", [whole, ignores_ranges, without_length])
def test_a_file_comes_whole_and_but_once(serve: Serve, tmp_path: Path, answer: Answer) -> None:
    host, lines = serve(answer), list[str]()
    assert obtained(host, tmp_path, lines.append) == CONTENT
    assert obtained(host, tmp_path, lines.append) == CONTENT
    assert host.starts == [0]
    assert lines == []


@pytest.mark.parametrize("seed", range(8))
def test_however_often_it_drops_no_byte_comes_twice(serve: Serve, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(CONTENT)), rng.randint(1, 8)))
    before = cuts.pop(0) if rng.random() < 0.5 else 0
    keep(tmp_path, CONTENT[:before])
    sizes = [b - a for a, b in zip([before, *cuts], cuts, strict=False)]
    host, lines = serve(*map(drops_after, sizes), whole), list[str]()
    assert obtained(host, tmp_path, lines.append) == CONTENT
    assert host.starts == [before, *cuts]
    assert len(lines) == len(cuts)
    assert all("127.0.0.1 was lost after" in line and "\n" not in line for line in lines)


@pytest.mark.parametrize("kept", [CONTENT[:1000], CONTENT + b"!"])
def test_a_host_that_knows_no_ranges_sends_all_of_it_again(serve: Serve, tmp_path: Path, kept: bytes) -> None:
    keep(tmp_path, kept)
    host = serve(ignores_ranges)
    assert obtained(host, tmp_path) == CONTENT
    assert host.starts == [len(kept)]


def test_a_host_that_knows_no_ranges_and_drops_is_given_up(serve: Serve, tmp_path: Path) -> None:
    host = serve(ignores_ranges_and_drops)
    with pytest.raises(Unavailable, match="it closed the connection"):
        obtained(host, tmp_path)
    assert host.starts == [0, 1000]


@pytest.mark.parametrize("kept", [b"!" + CONTENT[1:1000], CONTENT[:-1] + b"!", CONTENT + b"!", CONTENT[1:] + b"!!"])
def test_what_was_kept_damaged_is_thrown_away(serve: Serve, tmp_path: Path, kept: bytes) -> None:
    keep(tmp_path, kept)
    host, lines = serve(whole), list[str]()
    assert obtained(host, tmp_path, lines.append) == CONTENT
    assert host.starts == [len(kept), 0]
    assert lines == ["file.bin: what was kept of it is damaged; it is downloaded from the beginning"]


@pytest.mark.parametrize("answer", [damages, another_page])
def test_another_file_is_refused_and_not_kept(serve: Serve, tmp_path: Path, answer: Answer) -> None:
    host = serve(answer)
    with pytest.raises(Unavailable, match=f"^file.bin has the MD5 [0-9a-f]{{32}}, but must have {MD5}$"):
        obtained(host, tmp_path)
    assert host.starts == [0]
    assert list(tmp_path.iterdir()) == []
    # After a part that was right, too: the rest may be wrong because of the part or because of the host.
    keep(tmp_path, CONTENT[:1000])
    with pytest.raises(Unavailable, match="has the MD5"):
        obtained(host, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_host_costs_seconds_and_what_came_is_kept(serve: Serve, tmp_path: Path) -> None:
    host = serve(silent_after(5000), silent_after(0))
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"^timed out$"):
        obtained(host, tmp_path)
    assert time.monotonic() - begun < 20
    assert host.starts == [0, 5000]
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:5000]
    # The next host goes on from there.
    other = serve(whole)
    assert obtained(other, tmp_path) == CONTENT
    assert other.starts == [5000]


def test_an_earlier_part_than_asked_for_is_used(serve: Serve, tmp_path: Path) -> None:
    keep(tmp_path, CONTENT[:1000])
    assert obtained(serve(an_earlier_part), tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("answer", "match"),
    [(another_part, "sends from byte 1010 on when asked for byte 1000 on"), (no_part_named, "without saying which"),
     (refuses, "HTTP Error 404: Not Found")],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_spoils_nothing(serve: Serve, tmp_path: Path, answer: Answer, match: str) -> None:
    keep(tmp_path, CONTENT[:1000])
    with pytest.raises(Unavailable, match=match):
        obtained(serve(answer), tmp_path)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:1000]


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"^Connection refused$"):
        download(f"http://127.0.0.1:{port}/file.bin", MD5, tmp_path, print)
    assert time.monotonic() - begun < 2
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_brings_a_little_each_time_is_given_up_in_the_end(serve: Serve, tmp_path: Path) -> None:
    host = serve(drops_after(10))
    with pytest.raises(Unavailable, match=f"127.0.0.1 was lost {module.CONNECTIONS} times"):
        obtained(host, tmp_path)
    assert host.starts == list(range(0, 10 * module.CONNECTIONS, 10))


def test_a_full_disk_is_no_lost_connection(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(response: object) -> Iterator[bytes]:
        yield b"x" * 1000
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_chunks", full)
    with pytest.raises(OSError, match="No space left"):
        obtained(serve(whole), tmp_path)


PROCESS = """
import sys
from functools import partial
from pathlib import Path
from odenas.search.cache import Recipe, Source, read
from odenas.search.download import download

def obtain(kept, report):
    yield "file.bin", download(sys.argv[2], sys.argv[3], kept, report).read_bytes()

def report(line):
    print(line, flush=True)

read(Recipe("toy", {"file.bin": sys.argv[4]}, 1, (Source("here", obtain),)), ["file.bin"], Path(sys.argv[1]), report)
"""


def process(folder: Path, host: Host) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", PROCESS, str(folder), host.url, MD5, SHA1]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def recipe(host: Host) -> Recipe:
    def obtain(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
        yield "file.bin", download(host.url, MD5, kept, report).read_bytes()

    return Recipe("toy", {"file.bin": SHA1}, 1, (Source("here", obtain),))


def test_a_killed_process_s_download_goes_on(serve: Serve, tmp_path: Path) -> None:
    host = serve(silent_after(200_000), whole)
    made = recipe(host)
    part = tmp_path / ".toy.part" / "file.bin.part"
    with process(tmp_path, host) as child:
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size > 100_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    begun = part.stat().st_size
    assert state(made, tmp_path) == ("begun", begun)
    assert read(made, ["file.bin"], tmp_path, print) == [CONTENT]
    assert host.starts == [0, begun]
    assert state(made, tmp_path) == ("there", len(CONTENT))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".toy.lock", "toy"]


def test_of_several_processes_one_obtains_and_all_have_it(serve: Serve, tmp_path: Path) -> None:
    may_end = threading.Event()

    def slow(request: Request, start: int) -> None:
        assert may_end.wait(60)
        whole(request, start)

    host = serve(slow)
    children = [process(tmp_path, host) for _ in range(3)]
    first = [child.stdout.readline() for child in children if child.stdout]
    may_end.set()
    assert sorted(first) == [
        "toy: obtaining it from here\n",
        *["toy: waiting for another process that obtains it\n"] * 2,
    ]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert host.starts == [0]
    assert (tmp_path / "toy" / "file.bin").read_bytes() == CONTENT
