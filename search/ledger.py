"""The book of a search: what Optuna is told and what the run folder keeps of every trial, in one place."""

from __future__ import annotations

import json
import math
import socket
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.trial import layers
from odenas.space import Scheme, describe, scheme

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}


REDRAWS = 20
"""How often a scheme that was tried already is drawn again before it is tried once more."""


@dataclass(frozen=True)
class Draw:
    """A trial to run: its number, seed and scheme."""

    number: int
    seed: int
    scheme: Scheme


class Ledger:
    """Asks Optuna for schemes and tells it, and the run folder, the truth of what became of them.

    A trial that reached its budget is COMPLETE, one stopped early PRUNED (with its intermediate values), one that
    failed or became non-finite FAIL. The run folder is the only record: a ledger made on a folder that holds trials
    takes them up, finished ones as results, running ones as the first to run again.
    """

    def __init__(self, config: SearchConfig, run: Run) -> None:
        self.config, self.run, self.space = config, run, config.space
        self.rows: dict[int, dict[str, Any]] = {}
        self._resume: list[Draw] = []
        self._trials: dict[int, optuna.Trial] = {}
        self._tried: set[Scheme] = set()
        past = run.trials
        self.study = optuna.create_study(direction="minimize", sampler=make_sampler(config, len(past)))
        epochs = run.epochs
        for row in past.to_dict("records"):
            done = epochs[(epochs["number"] == row["number"]) & epochs["validation_error"].notna()]
            self._take_up({str(name): None if pd.isna(value) else value for name, value in row.items()}, done)
        self._keep_best()
        for number in self.rows:  # a kill may have come between, or `keep` have become less
            self._drop_weights(number)
        known = [scheme(name) for name in config.enqueue]
        for value in [value for value in known if value in self.space][len(past) :]:
            self.study.enqueue_trial(self.space.encode(value))

    def ask(self) -> Draw | None:
        """Return the next trial to run, or None if there is none left."""
        if self._resume:
            return self._resume.pop(0)
        if len(self.rows) >= self.config.trials:
            return None
        number = max(self.rows, default=-1) + 1  # not their count: a damaged line may have been deleted
        trial, value = self._new_scheme()
        self._trials[number] = trial
        draw = Draw(number, trial_seed(self.config.seed, number), value)
        row = first_row(self.run, self.config, number, describe(value), value, draw.seed)
        self._record(row | {"draw": json.dumps(trial.params)})
        return draw

    def report(self, number: int, epochs: Sequence[Mapping[str, Any]], **fields: Any) -> None:
        """Note epochs of a running trial, those already noted left out; `fields` are columns of the trial."""
        row = self.rows[number]
        row.update(fields)
        for epoch in epochs:
            if epoch["epoch"] > row["epochs"]:
                self.run.record_epoch({"number": number, "finished": now(), **epoch})
                self._trials[number].report(epoch["validation_error"], epoch["epoch"])
                row.update({name: epoch[name] for name in ("validation_error", "validation_loss", "train_loss")})
                row["epochs"] = epoch["epoch"]
                row["seconds"] = (row.get("seconds") or 0.0) + epoch["seconds"]

    def finish(self, number: int, failure: str | None = None, reason: str | None = None) -> str:
        """Note the end of a trial and return its status; `failure` is the text of what went wrong, if anything did."""
        row = self.rows[number]
        error = row.get("validation_error")
        if failure is not None or error is None or not math.isfinite(error):
            status, reason = "FAIL", reason or "failed"
        elif row["epochs"] >= row["budget"]:
            status, reason = "COMPLETE", "budget reached"
        else:
            status, reason = "PRUNED", reason or f"stopped by {self.config.scheduler} at epoch {row['epochs']}"
        self.study.tell(self._trials.pop(number), error if status == "COMPLETE" else None, state=STATES[status])
        end = {"status": status, "stop_reason": reason, "failure": failure, "finished": now()}
        self._record(row | end | {"checkpoint": self._checkpoint(number) if status == "COMPLETE" else None})
        self._drop_weights(number)
        self._keep_best()
        return status

    def _checkpoint(self, number: int) -> str:
        return str(self.run.checkpoint(number).relative_to(self.run.path))

    def _keep_best(self) -> None:
        """Delete the weights of complete trials but those of the best."""
        kept = [row for row in self.rows.values() if row.get("checkpoint")]
        kept.sort(key=lambda row: (row["validation_error"], row["params"], row["number"]))
        for row in kept[self.config.keep :]:
            self._record(row | {"checkpoint": None})
            self._drop_weights(row["number"])

    def _drop_weights(self, number: int) -> None:
        """Delete the weights of a trial that is over and not to be kept."""
        row = self.rows[number]
        if row["status"] != "RUNNING" and not row.get("checkpoint"):
            self.run.checkpoint(number).unlink(missing_ok=True)

    def _take_up(self, row: dict[str, Any], done: pd.DataFrame) -> None:
        """Give Optuna a trial of the run folder back, with the epochs that it has done."""
        number, draw = int(row["number"]), json.loads(row["draw"])
        fixed = FixedTrial(draw)
        value = self.space.suggest(fixed)
        finished = row["status"] in STATES
        frozen: FrozenTrial = create_trial(
            state=STATES.get(row["status"], TrialState.RUNNING),
            params=draw,
            distributions=fixed.distributions,
            value=row["validation_error"] if row["status"] in ("COMPLETE", "PRUNED") else None,
            intermediate_values=dict(zip(map(int, done["epoch"]), map(float, done["validation_error"]), strict=True)),
        )
        self.study.add_trial(frozen)
        self._tried.add(value)
        self.rows[number] = row
        if not finished:
            last = done.iloc[-1].to_dict() if len(done) else {}
            measured = {name: last.get(name) for name in ("validation_error", "validation_loss", "train_loss")}
            row.update(measured, epochs=int(last.get("epoch", 0)), seconds=float(done["seconds"].sum()))
            self._trials[number] = optuna.Trial(self.study, self.study.trials[-1]._trial_id)
            self._resume.append(Draw(number, int(row["seed"]), value))

    def _new_scheme(self) -> tuple[optuna.Trial, Scheme]:
        """Return a draw that was not tried before, if the space seems to hold one."""
        for _ in range(REDRAWS):
            trial = self.study.ask()
            value = self.space.suggest(trial)
            if value not in self._tried:
                break
            # The sampler learns that there is nothing more to learn here.
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            trial = self.study.ask()
            value = self.space.suggest(trial)
        self._tried.add(value)
        return trial, value

    def _record(self, row: dict[str, Any]) -> None:
        self.rows[int(row["number"])] = row
        self.run.record_trial(row)


def make_sampler(config: SearchConfig, past: int) -> optuna.samplers.BaseSampler:
    """Return the sampler that the configuration names; `past` trials shift its seed, so that none is drawn twice."""
    seed = int(np.random.SeedSequence([config.seed, past]).generate_state(1)[0])
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    samplers: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=seed, warn_independent_sampling=False),
    }
    return samplers[config.sampler]()  # type: ignore[no-any-return]


def first_row(
    run: Run, config: SearchConfig, number: int | None, label: str, value: Scheme, seed: int
) -> dict[str, Any]:
    """Return the columns of a training that begins."""
    return {
        "number": number,
        "label": label,
        "status": "RUNNING",
        "epochs": 0,
        "budget": config.epochs,
        "data": config.data,
        "seed": seed,
        "depth": layers(config.depth, value),
        **scheme_fields(value),
        "started": now(),
        **provenance(run),
    }


def scheme_fields(value: Scheme) -> dict[str, Any]:
    """Return the columns that describe a scheme."""
    return {
        "steps": value.tableau.steps,
        "stages": value.tableau.stages,
        "order": value.order,
        "zero_stable": value.zero_stable,
        "error_constant": value.error_constant,
        "real_interval": value.real_interval,
        "imaginary_interval": value.imaginary_interval,
        "learning": value.coefficients.learning,
        "sharing": value.coefficients.sharing,
        "constraint": value.coefficients.constraint,
        "scale": value.scale,
        "start": value.start,
        "transition": value.transition,
        "tying": value.tying,
        "block": value.blocks.kind,
        "activation": value.blocks.activation,
        "noise": value.stochasticity.variant,
        "noise_rate": value.stochasticity.rate,
        "scheme": json.dumps(value.to_dict()),
    }


def provenance(run: Run) -> dict[str, Any]:
    """Return the columns that say where and with what a row of this run came about."""
    versions = {f"version_{name}": run.versions.get(name) for name in ("odenas", "torch")}
    return {"hostname": socket.gethostname(), **versions, "commit": run.versions.get("commit")}


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial, different for each number and reproducible from the search's seed."""
    return int(np.random.SeedSequence([seed, 1, number]).generate_state(1)[0])


def now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)
