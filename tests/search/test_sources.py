"""Sources: every failure is one line, and soon."""

import errno
import socket
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from odenas.search import sources
from odenas.search.sources import Unavailable, command, torchvision


def pretend(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """Let `torchvision.datasets.Toy` be `made`, without importing torchvision."""
    package = ModuleType("torchvision")
    package.datasets = SimpleNamespace(Toy=made)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", package.datasets)


def test_a_silent_host_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        pretend(monkeypatch, lambda root, download: urllib.request.urlopen(url))
        monkeypatch.setattr(sources, "CONNECTION_SECONDS", 0.2)
        start = time.monotonic()
        with pytest.raises(Unavailable, match="timed out"):
            torchvision("Toy", tmp_path)
        assert time.monotonic() - start < 5
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "error", [ImportError("no\nmodule"), RuntimeError("File not found or corrupted."), ConnectionResetError()]
)
def test_failures_of_torchvision_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fail(root: Path, download: bool) -> None:
        raise error

    pretend(monkeypatch, fail)
    with pytest.raises(Unavailable, match=r"^[^\n]+$"):
        torchvision("Toy", tmp_path)


def test_a_full_disk_is_no_unreachable_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(root: Path, download: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pretend(monkeypatch, fail)
    with pytest.raises(OSError, match="No space left"):
        torchvision("Toy", tmp_path)


def test_commands_say_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(
        Unavailable, match=r"^`no-such-command` is no command on PATH \(No such file or directory\); needed: a miracle$"
    ):
        command(["no-such-command"], tmp_path, "a miracle")
    script = ["sh", "-c", "echo 'E: Unable to locate package' >&2; exit 100"]
    with pytest.raises(Unavailable, match=r"^`sh -c .* failed \(E: Unable to locate package\); needed: a miracle$"):
        command(script, tmp_path, "a miracle")
    monkeypatch.setattr(sources, "COMMAND_SECONDS", 0.1)
    with pytest.raises(Unavailable, match="took more than"):
        command(["sleep", "30"], tmp_path, "a miracle")
