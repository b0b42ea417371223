"""The book of a search: what is drawn, what became of it, and what the run folder keeps of it."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from optuna.samplers import BaseSampler

from odenas.results import Run
from odenas.results.pareto import ranking
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.constraints import broken, lasting, total_violation
from odenas.search.failures import KINDS, Failure, retries
from odenas.search.objectives import values_of
from odenas.search.stopping import RULES, Curve, Setting
from odenas.search.study import STATES, Study
from odenas.search.trial_row import first_row, now, trial_seed
from odenas.space import Scheme, describe

log = logging.getLogger("odenas")


@dataclass(frozen=True)
class Draw:
    """A trial to run: its number, seed and scheme, and whether it needs its device for itself."""

    number: int
    seed: int
    scheme: Scheme
    alone: bool = False


class Ledger:
    """Hands out trials, and notes in the run folder what becomes of them.

    A trial that reached its budget is COMPLETE, one stopped early PRUNED, one that failed FAIL; one that failed in a
    way that another attempt may mend is handed out again and goes on from its last epoch. The run folder is the only
    record: a ledger made on a folder that holds trials takes them up, and hands out first what was running.

    Trial n is drawn, and stopped early or not, by what became of the trials up to n − lag, whichever of the later ones
    have ended by then: so a search does not hang on which of several workers is faster.

    Args:
        config: of the search.
        run: its folder.
        lag: of that rule; as many trials as this may run at a time.
        checkpoints: where the trainings' states lie; the run folder's, if not given.
        sampler: an Optuna sampler in place of the one that the configuration names.
    """

    def __init__(
        self,
        config: SearchConfig,
        run: Run,
        lag: int = 8,
        checkpoints: Checkpoints | None = None,
        sampler: BaseSampler | None = None,
    ) -> None:
        self.config, self.run, self.lag = config, run, lag
        self.checkpoints = checkpoints or Checkpoints(str(run.path.absolute() / "checkpoints"))
        self.study = Study(config, sampler)
        self.rows: dict[int, dict[str, Any]] = {}
        self._points: dict[int, list[tuple[float, ...]]] = {}
        self._setting = Setting(config.epochs, min(config.grace, config.epochs), config.reduction, config.seed)
        self._tried: set[Scheme] = set()
        self._again: list[Draw] = []
        self._unfinished: set[int] = set()
        self._failed: Counter[tuple[int, str]] = Counter()
        self._exhausted = False
        epochs = run.epochs
        done = dict(tuple(epochs[epochs["validation_error"].notna()].groupby("number")))
        for row in run.trials.to_dict("records"):
            known = {str(name): None if pd.isna(value) else value for name, value in row.items()}
            self._take_up(known, done.get(row["number"], epochs.head(0)))
        self._keep_best()
        self._tidy()

    @property
    def ready(self) -> bool:
        """Whether the next trial may be drawn: all trials have ended that it is to know."""
        return bool(self._again) or min(self._unfinished, default=math.inf) > self._next_number - self.lag

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to run."""
        return not self._unfinished and (self._exhausted or len(self.rows) >= self.config.trials)

    def ask(self) -> Draw | None:
        """Return the next trial to run, or None where there is none left, or none until others have ended."""
        if self._again:
            return self._hand_out(self._again.pop(0))
        if len(self.rows) >= self.config.trials or self._exhausted or not self.ready:
            return None
        number = self._next_number
        self._tell(number)
        drawn = self.study.ask(number, self._tried)
        if drawn is None:
            self._exhausted = True
            return None
        draw = Draw(number, trial_seed(self.config.seed, number), drawn[1])
        self._tried.add(draw.scheme)
        row = first_row(self.run, self.config, number, describe(draw.scheme), draw.scheme, draw.seed)
        self._points[number] = []
        self._unfinished.add(number)
        self._record(row | {"draw": json.dumps(drawn[0])})
        return self._hand_out(draw)

    def report(self, number: int, epochs: Sequence[Mapping[str, Any]], **fields: Any) -> None:
        """Note epochs of a running trial, those already noted left out; `fields` are columns of the trial."""
        row = self.rows[number]
        row.update(fields)
        for epoch in epochs:
            if epoch["epoch"] > row["epochs"]:
                self.run.record_epoch({"number": number, "finished": now(), **epoch})
                row.update({name: epoch[name] for name in ("validation_error", "validation_loss", "train_loss")})
                row["epochs"] = epoch["epoch"]
                row["seconds"] = (row.get("seconds") or 0.0) + epoch["seconds"]
                self._points[number].append(values_of(row, self.config.objectives))

    def stops(self, number: int) -> str | None:
        """Return why a running trial is to stop now, or None: it breaks a constraint, or the scheduler says so."""
        row = self.rows[number]
        if (reason := broken(row, self.study.constraints)) is not None and row["epochs"] < row["budget"]:
            return reason
        if not row["epochs"]:
            return None
        others = {other: self._curve(other) for other in self._known_to(number)}
        if not RULES[self.config.scheduler](number, self._curve(number), others, self._setting):
            return None
        return f"stopped by {self.config.scheduler} at epoch {row['epochs']}"

    def finish(self, number: int, failure: Failure | None = None, reason: str | None = None) -> str:
        """Note the end of a trial, or of one attempt, and return its status: RUNNING if it is handed out again.

        Args:
            number: of the trial.
            failure: what went wrong, if anything did.
            reason: why it was stopped, if it was.
        """
        row = self.rows[number]
        error = row.get("validation_error")
        measured = error is not None and math.isfinite(error)
        if failure is None and not measured and (row["epochs"] or reason is None):
            failure = Failure("non-finite", f"`validation_error` is {error}", f"`validation_error` is {error}")
        if failure is not None and self._begun_again(number, failure):
            return "RUNNING"
        status = "FAIL" if failure else "COMPLETE" if row["epochs"] >= row["budget"] else "PRUNED"
        if failure:
            reason = failure.reason
        elif status == "COMPLETE":
            reason = "budget reached"
        end = {"status": status, "stop_reason": reason, "failure": failure.text if failure else None}
        kept = str(self.run.checkpoint(number).relative_to(self.run.path)) if status == "COMPLETE" else None
        if kept and not self._fetched(number):
            kept = None
        feasible = None if failure else total_violation(row, self.study.constraints) == 0
        self._unfinished.discard(number)
        self._record(row | end | {"feasible": feasible, "finished": now(), "checkpoint": kept})
        self._drop_weights(number)
        self._keep_best()
        return status

    @property
    def _next_number(self) -> int:
        return max(self.rows, default=-1) + 1  # not their count: a damaged line may have been deleted

    def _known_to(self, number: int) -> list[int]:
        """Return the trials whose end the draw of this number, and its early stop, may know."""
        return [other for other in self.rows if other <= number - self.lag and other not in self._unfinished]

    def _curve(self, number: int) -> Curve:
        return Curve(self._points[number], total_violation(self.rows[number], lasting(self.study.constraints)))

    def _tell(self, number: int) -> None:
        """Tell the study the ends that the draw of this number is to know."""
        for known in sorted(self.study.untold & set(self._known_to(number))):
            self.study.tell(known, self.rows[known], self._curve(known))

    def _hand_out(self, draw: Draw) -> Draw:
        row = self.rows[draw.number]
        row["attempts"] = (row.get("attempts") or 0) + 1
        return draw

    def _begun_again(self, number: int, failure: Failure) -> bool:
        """Return whether a failed trial has another attempt; if so, it is the next to be handed out."""
        self._failed[number, failure.kind] += 1
        log.warning("trial %d: %s: %s", number, failure.reason, failure.text)
        if self._failed[number, failure.kind] > retries(failure.kind, self.config):
            return False
        row = self.rows[number]
        value = Scheme.from_dict(json.loads(row["scheme"]))
        self._again.append(Draw(number, int(row["seed"]), value, KINDS[failure.kind].alone))
        self._record(row)
        return True

    def _keep_best(self) -> None:
        """Delete the weights of complete trials but those of the best."""
        kept = [row for row in self.rows.values() if row.get("checkpoint")]
        if len(kept) <= self.config.keep:
            return
        kept.sort(key=lambda row: (row["validation_error"], row["params"], row["number"]))
        values = np.array([values_of(row, self.config.objectives) for row in kept])
        places = ranking(values, np.array([total_violation(row, self.study.constraints) for row in kept]))
        for row, place in zip(kept, places, strict=True):
            if place >= self.config.keep:
                self._record(row | {"checkpoint": None})
                self._drop_weights(row["number"])

    def _tidy(self) -> None:
        """Set right what a kill came between, or a smaller `keep`: drop weights, and bring those kept to the folder."""
        held = set(self.checkpoints.names())
        for number, row in self.rows.items():
            weights = self.run.checkpoint(number)
            if row.get("checkpoint") and not weights.exists():
                self._fetched(number)
            elif weights.stem in held or weights.exists():
                self._drop_weights(number)

    def _fetched(self, number: int) -> bool:
        """Return whether the weights of a complete trial are in the run folder, or were brought there."""
        weights = self.run.checkpoint(number)
        try:
            return self.checkpoints.fetch(weights.stem, weights)
        except OSError as error:  # the trial is none the worse for it
            log.warning("trial %d: its weights cannot be fetched from %s: %s", number, self.checkpoints.place, error)
            return False

    def _drop_weights(self, number: int) -> None:
        """Delete what is kept of a training that is over: its state, and its weights unless they are to be kept."""
        row = self.rows[number]
        weights = self.run.checkpoint(number)
        if row["status"] == "RUNNING":
            return
        self.checkpoints.settle(weights.stem)
        if not row.get("checkpoint"):
            self.checkpoints.delete(weights.stem)
            weights.unlink(missing_ok=True)

    def _take_up(self, row: dict[str, Any], done: pd.DataFrame) -> None:
        """Take a trial of the run folder up, with the epochs that it has done."""
        number = int(row["number"])
        self._tell(number)
        value = self.study.take_up(number, json.loads(row["draw"]), self._tried)
        self._tried.add(value)
        self.rows[number] = row
        seconds = done["seconds"].cumsum()
        self._points[number] = [
            values_of(row | {"validation_error": error, "seconds": gone}, self.config.objectives)
            for error, gone in zip(done["validation_error"], seconds, strict=True)
        ]
        if row["status"] not in STATES:
            self._unfinished.add(number)
            last = done.iloc[-1].to_dict() if len(done) else {}
            measured = {name: last.get(name) for name in ("validation_error", "validation_loss", "train_loss")}
            row.update(measured, epochs=int(last.get("epoch", 0)), seconds=float(done["seconds"].sum()))
            self._again.append(Draw(number, int(row["seed"]), value))

    def _record(self, row: dict[str, Any]) -> None:
        self.rows[int(row["number"])] = row
        self.run.record_trial(row)
