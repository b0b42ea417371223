"""Where the libraries' log goes while a command works: to a file, and not to the console."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

BYTES = 5_000_000


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what is logged to a file, for the time of a `with`; the file is made with its first line.

    One of BYTES becomes `log.txt.1`, and the one before goes.
    """
    handler = RotatingFileHandler(path, maxBytes=BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
