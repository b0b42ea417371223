"""A search's trials as Ray Tune's logging callbacks are to see them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.space import Scheme, describe

log = logging.getLogger("odenas")

PAUSE = 300.0
"""Seconds that a tracker which failed is left alone, such as a server that does not answer."""


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as Ray's callbacks see it: one for all its attempts, with a name and a folder that stay.

    Tune's own trial is one attempt, and its folder is thrown away.
    """

    number: int
    folder: Path = field(compare=False)
    config: dict[str, Any] = field(compare=False)

    @property
    def local_path(self) -> str:
        """Where a callback writes files of this trial."""
        return str(self.folder / str(self))

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """What distinguishes this trial from others."""
        return self.config

    def init_local_path(self) -> None:
        """Make the folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"trial-{self.number:05d}"


class Tracker(LoggerCallback):
    """Hands one of Ray's callbacks the trials of a search as `TrackedTrial`s, and each epoch of a trial once.

    What it raises is logged and does not end the search: the tracker then rests for a while, and gets what it missed.

    Args:
        inner: the callback, set up.
        config: of the search.
        run: its folder.
        folder: where the callback writes files of trials.
        began: whether the tracker knows a trial from an earlier life of the search; the others it gets from epoch 1.
    """

    def __init__(
        self, inner: Any, config: SearchConfig, run: Run, folder: Path, began: Callable[[TrackedTrial], bool]
    ) -> None:
        self.inner, self.config, self.folder, self.began = inner, config, folder, began
        recorded = run.epochs[["number", "epoch"]].astype(int).itertuples(index=False)
        self.recorded: dict[int, int] = {number: epoch for number, epoch in recorded}  # the last one of each counts
        self.handed_over: dict[int, int] = {}
        self.waiting: dict[int, dict[int, dict[str, Any]]] = {}
        self.started: set[int] = set()
        self.failed: set[int] = set()
        self.rests_until = 0.0

    def log_trial_start(self, trial: Any) -> None:
        """Open the record of a trial, or that of its earlier attempt again."""
        self._try(lambda: self._start(self._tracked(trial)))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Hand over the epochs that a trial reports."""
        number, told = int(trial.config["number"]), json.loads(result.get("told", "{}"))
        if "kind" in told:
            self.failed.add(number)
        fixed = _numbers(told.get("fields", {}))
        for row in told.get("rows", []):
            self.waiting.setdefault(number, {})[row["epoch"]] = fixed | _numbers(row)
        self._try(lambda: self._hand_over(self._tracked(trial)))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Close the record of an attempt."""
        number = int(trial.config["number"])

        def end() -> None:
            one = self._tracked(trial)
            self._hand_over(one)
            self.inner.log_trial_end(one, failed=failed or number in self.failed)

        self._try(end)
        self.started.discard(number)
        self.failed.discard(number)

    def _start(self, one: TrackedTrial) -> None:
        if one.number in self.started:
            return
        known = self.began(one)
        self.handed_over.setdefault(one.number, self.recorded.get(one.number, 0) if known else 0)
        self.inner.log_trial_start(one)
        self.started.add(one.number)

    def _hand_over(self, one: TrackedTrial) -> None:
        self._start(one)
        waiting = self.waiting.setdefault(one.number, {})
        for epoch in sorted(waiting):
            if epoch > self.handed_over[one.number]:
                self.inner.log_trial_result(epoch, one, waiting[epoch] | {"training_iteration": epoch})
                self.handed_over[one.number] = epoch
            del waiting[epoch]

    def _tracked(self, trial: Any) -> TrackedTrial:
        given = trial.config
        task = json.loads(given["task"])
        scheme = Scheme.from_dict(task["scheme"])
        config = {"label": describe(scheme), "seed": task["seed"], **self.config.space.encode(scheme)}
        return TrackedTrial(int(given["number"]), self.folder, config)

    def _try(self, deed: Callable[[], None]) -> None:
        if time.monotonic() < self.rests_until:
            return
        try:
            deed()
        except Exception:  # whatever a tracker raises, the search goes on
            log.exception("%s failed and is left alone for %.0f s", type(self.inner).__name__, PAUSE)
            self.rests_until = time.monotonic() + PAUSE

    # Tune copies and pickles its callbacks to restore them; the run folder restores this one.
    def __deepcopy__(self, memo: dict[int, Any]) -> Tracker:
        return self

    def __reduce__(self) -> Any:
        return (LoggerCallback, ())


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a curve can be drawn of."""
    kept = {name: value for name, value in row.items() if isinstance(value, int | float) and name != "epoch"}
    return {name: float(value) for name, value in kept.items()}
