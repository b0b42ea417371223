"""The end of a trial that takes too long, whatever it is doing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT = 75
"""Exit status of a process that was ended so (EX_TEMPFAIL of sysexits.h)."""


@contextmanager
def watchdog(seconds: float | None) -> Iterator[None]:
    """End this process if what is within takes longer: a training that hangs in a library heeds nothing else."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, os._exit, [EXIT])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
