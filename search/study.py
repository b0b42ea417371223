"""The sampler's side of a search: an Optuna study in memory, told in order, so that a seed means one search."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FixedTrial, TrialState, create_trial

from odenas.search.config import SearchConfig
from odenas.search.constraints import constraint, violations
from odenas.search.objectives import values_of
from odenas.search.own_samplers import distributions
from odenas.search.samplers import SAMPLERS, ask, set_constraints
from odenas.search.stopping import Curve
from odenas.space import Scheme, scheme

STATES = {"COMPLETE": TrialState.COMPLETE, "PRUNED": TrialState.PRUNED, "FAIL": TrialState.FAIL}

REDRAWS = 10
"""How often a scheme that was tried already is drawn again before one is drawn at random."""


class Study:
    """Draws schemes by an Optuna sampler.

    What a draw is follows from the seed, its number, and the ends that the study was told before it: each draw has a
    sampler of its own. A study that is rebuilt from the rows of a run folder draws on as the first would have.

    Args:
        config: of the search.
        sampler: an Optuna sampler in place of the one that the configuration names.
    """

    def __init__(self, config: SearchConfig, sampler: BaseSampler | None = None) -> None:
        self.config, self.space, self.given = config, config.space, sampler
        self.constraints = [constraint(text) for text in config.constraints]
        self.optuna = optuna.create_study(directions=["minimize"] * len(config.objectives), sampler=sampler)
        self._running: dict[int, optuna.Trial] = {}
        known = dict.fromkeys(scheme(name) for name in config.enqueue)
        self._first = [value for value in known if value in self.space]

    @property
    def untold(self) -> set[int]:
        """The numbers of the trials whose end the study does not know yet."""
        return set(self._running)

    def ask(self, number: int, tried: Collection[Scheme]) -> tuple[dict[str, Any], Scheme] | None:
        """Return what is drawn for a trial and the scheme that it makes: one not tried yet, if one is found.

        None where a sampler that goes through the whole space finds no new scheme in it.
        """
        if number < len(self._first) and self._first[number] not in tried:
            return self._keep(number, self._ask(number, given=self.space.encode(self._first[number])))
        for attempt in range(REDRAWS):
            trial = self._ask(number, attempt=attempt)
            if self.space.suggest(trial) not in tried:
                return self._keep(number, trial)
            self.optuna.tell(trial, state=TrialState.FAIL)  # samplers pass failures over
        if self.given is None and self.config.sampler == "grid":
            return None
        generator = np.random.default_rng([self.config.seed, 4, number])
        for _ in range(REDRAWS):
            value = self.space.draw(generator)
            if value not in tried:
                break
        return self._keep(number, self._ask(number, given=self.space.encode(value)))

    def take_up(self, number: int, draw: Mapping[str, Any], tried: Collection[Scheme]) -> Scheme:
        """Take a trial of an earlier process up, as one that runs; return its scheme."""
        asked = FixedTrial(dict(draw))
        value = self.space.suggest(asked)
        if self.given is not None or SAMPLERS[self.config.sampler].replayed:
            again = self.ask(number, tried)
            if again is None or again[0] != dict(draw):  # other versions may draw otherwise; what was drawn counts
                if again is not None:
                    self.optuna.tell(self._running.pop(number), state=TrialState.FAIL)
                self._keep(number, self._ask(number, given=draw))
            return value
        kinds = {**distributions(self.space), **asked.distributions}
        known = {name: kinds[name] for name in draw}
        self.optuna.add_trial(create_trial(state=TrialState.RUNNING, params=dict(draw), distributions=known))
        last = self.optuna.get_trials(deepcopy=False)[-1]
        self._running[number] = optuna.Trial(self.optuna, last._trial_id)
        return value

    def tell(self, number: int, row: Mapping[str, Any], curve: Curve) -> None:
        """Tell the sampler how a trial ended.

        COMPLETE with its objectives, PRUNED, with what it reached after each epoch where there is one objective, or
        FAIL; with what it breaks of the constraints.
        """
        trial, state = self._running.pop(number), STATES[row["status"]]
        set_constraints(trial, violations(row, self.constraints))
        if len(self.config.objectives) == 1:  # Optuna takes intermediate values of no other
            for epoch, point in enumerate(curve.points, start=1):
                trial.report(point[0], epoch)
        complete = state == TrialState.COMPLETE
        self.optuna.tell(trial, values_of(row, self.config.objectives) if complete else None, state=state)

    def _ask(self, number: int, attempt: int = 0, given: Mapping[str, Any] | None = None) -> optuna.Trial:
        return ask(self.optuna, self.config, number, attempt=attempt, given=given, own=self.given)

    def _keep(self, number: int, trial: optuna.Trial) -> tuple[dict[str, Any], Scheme]:
        value = self.space.suggest(trial)
        self._running[number] = trial
        return trial.params, value
