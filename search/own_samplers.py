"""Samplers that Optuna has not, or not so that a draw follows from the seed, its number and what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from odenas.space import SearchSpace


class Maker(NamedTuple):
    """What a sampler is made from.

    seed: of this draw.
    run_seed: of the whole search.
    number: of the trial that is drawn.
    attempt: how many draws of this trial were rejected.
    space: what it draws from.
    options: those that samplers which heed constraints take.
    """

    seed: int
    run_seed: int
    number: int
    attempt: int
    space: SearchSpace
    options: Mapping[str, Any]


class SobolSampler(BaseSampler):
    """Trial n is point n of a scrambled Sobol' sequence over all parameters (Sobol' 1967; Owen 1998).

    Optuna's own counts in the study which point is next, and draws the first trial and, before version 5, all choices
    at random.
    """

    def __init__(self, made: Maker) -> None:
        self.made = made
        self.random = RandomSampler(seed=made.seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters; none for a draw again, which is at random."""
        return {} if self.made.attempt else dict(distributions(self.made.space))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of this trial's number."""
        if not search_space:
            return {}
        from scipy.stats import qmc  # takes half a second to import

        sequence = qmc.Sobol(len(search_space), seed=self.made.run_seed)
        if self.made.number:
            sequence.fast_forward(self.made.number)
        point = sequence.random(1)[0]
        return {name: _at(kind, float(x)) for (name, kind), x in zip(search_space.items(), point, strict=True)}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        """Return a value at random."""
        return self.random.sample_independent(study, trial, name, kind)


class VisibleTpeSampler(TPESampler):
    """TPE that takes of a trial that runs only what was drawn.

    Optuna's also looks at what it had in mind for parameters that the trial then was not asked for; a search that is
    resumed cannot know them.
    """

    def _get_params(self, trial: FrozenTrial, *_: Any) -> dict[str, Any]:
        return trial.params


class NumberedCmaEsSampler(CmaEsSampler):
    """CMA-ES whose draw depends on its seed, and not on how many trials the study holds beside."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the coordinates; the seed already tells the trials apart."""
        same = copy(trial)
        same.number = 0
        return super().sample_relative(study, same, search_space)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Do nothing: Optuna's warns of constraints, which serve the ranking nevertheless."""


class GridSampler(BaseSampler):
    """All schemes of a finite space, each once, in an order that the run's seed decides.

    Optuna's `BruteForceSampler` would stop a loop that is not Optuna's, and repeats itself after a resumption.
    """

    def __init__(self, made: Maker) -> None:
        self.made = made
        self.random = RandomSampler(seed=made.seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters."""
        return dict(distributions(self.made.space))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the first scheme that no other trial has, or one at random if there is none left."""
        had = {_key(other.params) for other in study.get_trials(deepcopy=False) if other.number != trial.number}
        return next(
            (dict(params) for params in _points(self.made.space, self.made.run_seed) if _key(params) not in had), {}
        )

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        """Return a value at random."""
        return self.random.sample_independent(study, trial, name, kind)


class TakenSampler(BaseSampler):
    """Stands for a sampler where all parameters are given already and it need not be asked."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        """Return what the sampler draws, for a parameter that is not given."""
        return self.sampler.sample_independent(study, trial, name, kind)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Do what the sampler does."""
        self.sampler.after_trial(study, trial, state, values)


@cache
def distributions(space: SearchSpace) -> Mapping[str, BaseDistribution]:
    """Return every parameter of a space with its distribution."""
    return {
        name: CategoricalDistribution(values) if isinstance(values, list) else FloatDistribution(*values)
        for name, values in space.parameters().items()
    }


@cache
def _points(space: SearchSpace, seed: int) -> list[dict[str, Any]]:
    """Return the parameters of all schemes of a finite space, in the order that a seed decides."""
    points = list(space.points())
    return [points[i] for i in np.random.default_rng(seed).permutation(len(points))]


def _key(params: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(params.items())


def _at(kind: BaseDistribution, x: float) -> Any:
    """Return the value at the part x in [0, 1) of a distribution."""
    if isinstance(kind, CategoricalDistribution):
        return kind.choices[int(x * len(kind.choices))]
    assert isinstance(kind, FloatDistribution)
    return kind.low + x * (kind.high - kind.low)
