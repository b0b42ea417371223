"""What a source of a data set may say, and a command, such as a package manager's, as one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Report = Callable[[str], object]

COMMAND_SECONDS = 1800.0  # the longest a command may take: 140 MB at 80 kB/s
POLL_SECONDS = 0.5  # between two looks at a command


class Unavailable(Exception):
    """A source cannot give the data; the message says why, in one line."""

    def __init__(self, reason: object) -> None:
        line = " ".join(str(reason).split())
        super().__init__(line if len(line) <= 300 else f"{line[:297]}...")


def command(arguments: Sequence[str], folder: Path, needed: str, waiting: Callable[[], object] = lambda: None) -> None:
    """Run a command in `folder`; `needed` says what it takes to succeed; `waiting` is called while it runs.

    Raises:
        Unavailable: there is no such command, or it fails or takes longer than COMMAND_SECONDS.
    """
    line, deadline = " ".join(arguments[:3]), time.monotonic() + COMMAND_SECONDS
    try:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise Unavailable(f"`{arguments[0]}` is no command on PATH ({error.strerror}); needed: {needed}") from error
    with process:
        try:
            errors = _errors(process, deadline, waiting)
        except BaseException:  # an interrupt, too, ends the command
            process.kill()
            raise
    if errors is None:
        raise Unavailable(f"`{line}` took more than {COMMAND_SECONDS:.0f} s; needed: {needed}")
    if process.returncode:
        said = [text for text in errors.splitlines() if "err" in text.lower() or text.startswith("E:")]
        raise Unavailable(f"`{line}` failed ({' '.join(said[:3]) or process.returncode}); needed: {needed}")


def _errors(process: subprocess.Popen[str], deadline: float, waiting: Callable[[], object]) -> str | None:
    """Return what a command wrote on stderr until its end; None where it was killed at the deadline."""
    while time.monotonic() < deadline:
        try:
            return process.communicate(timeout=POLL_SECONDS)[1]
        except subprocess.TimeoutExpired:
            waiting()
    process.kill()
    return None
