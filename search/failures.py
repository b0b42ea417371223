"""How trials fail, and which of the failures are worth another attempt."""

from __future__ import annotations

from dataclasses import dataclass

from odenas.search.config import SearchConfig


@dataclass(frozen=True)
class Failure:
    """What went wrong with a trial.

    Args:
        kind: a key of KINDS.
        reason: in one line, for the table and for counting.
        text: last lines of the traceback, or what else there is to tell.
        errno: of an OSError.
    """

    kind: str
    reason: str
    text: str
    errno: int | None = None


@dataclass(frozen=True)
class Kind:
    """A row of KINDS.

    Args:
        meaning: in a few words.
        retried: configuration -> how often a trial that failed in this way is begun again.
        alone: whether the next attempt has its device for itself.
    """

    meaning: str
    retries: int | None = 0
    alone: bool = False


AS_CONFIGURED = None

KINDS: dict[str, Kind] = {
    "non-finite": Kind("a loss or an error became infinite or not a number"),
    "exception": Kind("the training raised an exception"),
    "timed out": Kind("the trial took longer than `timeout`"),
    "out of memory": Kind("the device's or the machine's memory was full", retries=1, alone=True),
    "worker lost": Kind("the process or the machine that trained is gone", retries=AS_CONFIGURED),
}


def retries(kind: str, config: SearchConfig) -> int:
    """Return how often a trial that failed in this way is begun again; it goes on from its last epoch."""
    allowed = KINDS[kind].retries
    return config.retries if allowed is AS_CONFIGURED else allowed
