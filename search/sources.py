"""Where data sets come from: torchvision's download, or a command such as a package manager's."""

from __future__ import annotations

import errno
import socket
import subprocess
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

Report = Callable[[str], object]

CONNECTION_SECONDS = 10.0  # the longest silence of a host
COMMAND_SECONDS = 1800.0  # the longest a command may take: 140 MB at 80 kB/s
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Unavailable(Exception):
    """A source cannot give the data; the message says why, in one line."""

    def __init__(self, reason: object) -> None:
        line = " ".join(str(reason).split())
        super().__init__(line if len(line) <= 300 else f"{line[:297]}...")


def torchvision(name: str, root: Path, **options: Any) -> Any:
    """Return torchvision's data set of the class `name`, downloaded into `root` unless it is there.

    While it runs, sockets that the process opens time out after CONNECTION_SECONDS of silence, so that an unreachable
    host costs seconds.

    Raises:
        Unavailable: torchvision does not import, its host is out of reach, or what came is damaged.
        OSError: `root` cannot be written to.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECTION_SECONDS)
    try:
        import torchvision.datasets  # takes seconds, and fails where it does not match torch

        return getattr(torchvision.datasets, name)(root, download=True, **options)
    except (ImportError, RuntimeError, HTTPException, OSError) as error:
        if isinstance(error, OSError) and error.errno in STORAGE:
            raise
        raise Unavailable(str(error) or type(error).__name__) from error
    finally:
        socket.setdefaulttimeout(before)


def command(arguments: Sequence[str], folder: Path, needed: str) -> None:
    """Run a command in `folder`; `needed` says what it takes to succeed.

    Raises:
        Unavailable: there is no such command, or it fails or takes longer than COMMAND_SECONDS.
    """
    line = " ".join(arguments[:3])
    try:
        done = subprocess.run(
            arguments, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS
        )
    except OSError as error:
        raise Unavailable(f"`{arguments[0]}` is no command on PATH ({error.strerror}); needed: {needed}") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{line}` took more than {COMMAND_SECONDS:.0f} s; needed: {needed}") from None
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if "err" in text.lower() or text.startswith("E:")]
        raise Unavailable(f"`{line}` failed ({' '.join(said[:3]) or done.returncode}); needed: {needed}")
