"""How trials fail, and which of the failures are worth another attempt."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

import torch

from odenas.search.config import SearchConfig
from odenas.space import OdenasError

TRACEBACK_LINES = 12
AS_CONFIGURED = None


@dataclass(frozen=True)
class Failure:
    """What went wrong with a trial.

    Args:
        kind: a key of KINDS.
        reason: in one line, for the table and for counting.
        text: last lines of the traceback, or what else there is to tell.
    """

    kind: str
    reason: str
    text: str


@dataclass(frozen=True)
class Kind:
    """A row of KINDS.

    Args:
        meaning: in a few words.
        retries: how often a trial that failed in this way is begun again; AS_CONFIGURED, or a number.
        alone: whether the next attempt has its device for itself.
    """

    meaning: str
    retries: int | None = 0
    alone: bool = False


KINDS: dict[str, Kind] = {
    "non-finite": Kind("a loss or an error became infinite or not a number"),
    "exception": Kind("the training raised an exception"),
    "timed out": Kind("the trial took longer than `timeout`"),
    "out of memory": Kind("the device's or the machine's memory was full", retries=1, alone=True),
    "worker lost": Kind("the process or the machine that trained is gone", retries=AS_CONFIGURED),
}


def failure_of(error: Exception) -> Failure:
    """Return what a training's exception means; call it where the exception is handled."""
    text = "\n".join(traceback.format_exc().strip().splitlines()[-TRACEBACK_LINES:])
    # torch's allocator of the machine's memory raises a plain RuntimeError.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: " in str(error):
        return Failure("out of memory", "out of memory", text)
    return Failure("exception", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", text)


def unwritable(place: str, reason: str) -> OdenasError:
    """Return what ends a search whose trainings cannot save their state: it says nothing of a trial."""
    return OdenasError(
        f"`--run` keeps its checkpoints in {place}, which cannot be written: {reason}; mend that, and the same command "
        "goes on"
    )


def retries(kind: str, config: SearchConfig) -> int:
    """Return how often a trial that failed in this way is begun again; it goes on from its last epoch."""
    allowed = KINDS[kind].retries
    return config.retries if allowed is AS_CONFIGURED else allowed
