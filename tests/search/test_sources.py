"""Commands as sources: every failure is one line, and soon."""

import os
import time
from pathlib import Path

import pytest

from odenas.search import sources
from odenas.search.sources import Unavailable, command


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


def test_a_command_that_writes_much_does_not_stand_still(tmp_path: Path) -> None:
    command(["sh", "-c", "for i in $(seq 20000); do echo a line of output; echo and of errors >&2; done"], tmp_path, "")


def test_an_interrupt_ends_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "POLL_SECONDS", 0.05)
    begun, pid = time.monotonic(), tmp_path / "pid"

    def interrupt() -> None:
        if pid.exists() and pid.read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command(["sh", "-c", "echo $$ > pid; exec sleep 30"], tmp_path, "a miracle", interrupt)
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
