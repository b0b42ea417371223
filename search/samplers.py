"""The samplers: which of Optuna's draw a scheme, what each can do, and how a draw depends on its number alone."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from odenas.search.config import SearchConfig
from odenas.search.own_samplers import (
    GridSampler,
    Maker,
    NumberedCmaEsSampler,
    SobolSampler,
    TakenSampler,
    VisibleTpeSampler,
    distributions,
)
from odenas.space import OdenasError
from odenas.space.errors import unknown

# It says at its first draw that it would be faster with a package that Optuna does not bring.
logging.getLogger("optuna._gp.batched_lbfgsb").setLevel(logging.ERROR)

SET_CONSTRAINT = hasattr(Trial, "set_constraint")
"""Optuna 5 takes constraints by name at the trial; before, samplers read them by a function of the trial."""

POPULATION = 16
"""Trials of a generation. Optuna's 50 would leave a search of 40 trials to chance."""

CONSTRAINTS = "constraints"


class SamplerRow(NamedTuple):
    """A sampler, and what it can do.

    about: what it is, with its source.
    make: returns a new one.
    several: whether it takes several objectives.
    constrained: whether constraints guide it; where not, trials that break one are still marked and ranked so.
    joint: whether it models one fixed set of parameters, and so is asked for all of the space's at once, for those too
        that a scheme does not have. Else coordinates that only some schemes have would be drawn at random.
    replayed: whether it keeps what it knows in attributes of trials and study, so that all past draws are made again
        when a search is resumed; the others need the trials alone.
    needs: packages that odenas does not bring.
    """

    about: str
    make: Callable[[Maker], BaseSampler]
    several: bool = True
    constrained: bool = False
    joint: bool = False
    replayed: bool = False
    needs: tuple[str, ...] = ()


SAMPLERS: dict[str, SamplerRow] = {
    "tpe": SamplerRow(
        "tree-structured Parzen estimators (Bergstra et al. 2011), multivariate, for each group of parameters that "
        "occur together, with a constant liar for trials that run (Watanabe 2023)",
        lambda made: VisibleTpeSampler(
            seed=made.seed, multivariate=True, group=True, constant_liar=True, **made.options
        ),
        constrained=True,
    ),
    "gp": SamplerRow(
        "Gaussian process with log expected improvement (Ament et al. 2023)",
        lambda made: optuna.samplers.GPSampler(seed=made.seed, **made.options),
        constrained=True,
        joint=True,
    ),
    "cmaes": SamplerRow(
        "CMA-ES over the coordinates (Hansen 2016); the choices are drawn at random",
        lambda made: NumberedCmaEsSampler(seed=made.seed, warn_independent_sampling=False, consider_pruned_trials=True),
        several=False,
        joint=True,
        replayed=True,
        needs=("cmaes",),
    ),
    "nsga2": SamplerRow(
        "NSGA-II (Deb et al. 2002), constrained domination included",
        lambda made: optuna.samplers.NSGAIISampler(seed=made.seed, population_size=POPULATION, **made.options),
        constrained=True,
        joint=True,
        replayed=True,
    ),
    "nsga3": SamplerRow(
        "NSGA-III (Deb and Jain 2014)",
        lambda made: optuna.samplers.NSGAIIISampler(seed=made.seed, population_size=POPULATION, **made.options),
        constrained=True,
        joint=True,
        replayed=True,
    ),
    "qmc": SamplerRow("scrambled Sobol' sequence", SobolSampler, joint=True),
    "random": SamplerRow("independent draws", lambda made: RandomSampler(seed=made.seed)),
    "grid": SamplerRow("every scheme of a finite space once, in random order", GridSampler),
}


def check_sampler(config: SearchConfig) -> None:
    """Check that the sampler can do what the configuration asks.

    Raises:
        OdenasError: it takes one objective only, a package is missing, or the space is not what it draws from.
    """
    if config.sampler not in SAMPLERS:
        raise unknown("sampler", config.sampler, SAMPLERS)
    row = SAMPLERS[config.sampler]
    if len(config.objectives) > 1 and not row.several:
        able = ", ".join(name for name, other in SAMPLERS.items() if other.several and name != "grid")
        raise OdenasError(
            f"`sampler` is {config.sampler!r}, but takes one objective and there are {len(config.objectives)}; "
            f"these take several: {able}"
        )
    for package in row.needs:
        if find_spec(package) is None:
            raise OdenasError(
                f"`sampler` is {config.sampler!r}, but needs the package {package!r}: pip install {package}"
            )
    parameters = config.space.parameters()
    coordinates = [name for name, values in parameters.items() if not isinstance(values, list)]
    if config.sampler == "grid" and coordinates:
        shown = ", ".join(coordinates[:4]) + (f" and {len(coordinates) - 4} more" if len(coordinates) > 4 else "")
        raise OdenasError(
            f"`sampler` is 'grid', but the space draws real numbers: {shown}; make each interval a point, or take 'qmc'"
        )
    if config.sampler == "cmaes" and len(coordinates) < 2:
        raise OdenasError(
            f"`sampler` is 'cmaes', but adapts two or more real coordinates and the space has {len(coordinates)}; "
            "take 'tpe'"
        )


def make_sampler(config: SearchConfig, number: int, attempt: int = 0) -> BaseSampler:
    """Return the sampler that draws trial `number`, after `attempt` draws of it were rejected.

    Each draw has a new one, whose seed follows from the search's seed, the number and the attempt. So a draw depends
    on these and on what the study holds, and a search that is resumed draws what one that was not stopped would.
    """
    seed = int(np.random.SeedSequence([config.seed, number, attempt]).generate_state(1)[0])
    options: dict[str, Any] = {}
    if config.constraints and not SET_CONSTRAINT:
        options["constraints_func"] = _violations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = Maker(seed, config.seed, number, attempt, config.space, options)
        return SAMPLERS[config.sampler].make(made)


def ask(
    study: Study,
    config: SearchConfig,
    number: int,
    *,
    attempt: int = 0,
    given: Mapping[str, Any] | None = None,
    own: BaseSampler | None = None,
) -> Trial:
    """Return the study's trial `number`; `config.space.suggest` then makes a scheme of it.

    Args:
        study: what is known so far: told, or asked and not told yet.
        config: names the sampler, seed and space.
        number: of the trial in the search.
        attempt: how many draws of this number were rejected (told FAIL, which no sampler looks at).
        given: the parameters that it must have, where it is a named scheme, or was drawn before the search stopped.
        own: a sampler to ask instead.
    """
    sampler = own or make_sampler(config, number, attempt)
    row = None if own else SAMPLERS[config.sampler]
    study.sampler = TakenSampler(sampler) if row and given is not None and not row.replayed else sampler
    if given is not None:
        study.enqueue_trial(dict(given))
    trial = study.ask(dict(distributions(config.space)) if row and row.joint else None)
    # Optuna 5 asks the sampler only for what is not given; this asks it always, so that it notes what it would have.
    if row and row.replayed:
        _ = trial.relative_params
    return trial


def set_constraints(trial: Trial, violations: Mapping[str, float]) -> None:
    """Note at a trial, once and before it is told, by how much it breaks each constraint; ≤ 0 keeps it.

    What could not be measured (NaN) counts as broken without bound.
    """
    known = {name: math.inf if math.isnan(value) else float(value) for name, value in violations.items()}
    if not SET_CONSTRAINT:
        trial.set_user_attr(CONSTRAINTS, known)
        return
    for name, value in known.items():
        trial.set_constraint(name, value)


def constraints_of(trial: FrozenTrial) -> dict[str, float]:
    """Return what `set_constraints` noted."""
    return dict(trial.constraints if SET_CONSTRAINT else trial.user_attrs.get(CONSTRAINTS, {}))


def _violations(trial: FrozenTrial) -> tuple[float, ...]:
    return tuple(constraints_of(trial).values())
