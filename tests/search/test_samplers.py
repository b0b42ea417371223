"""The samplers: a draw depends on seed, number and what is known; a resumed search draws what an unbroken one does."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from odenas.search import samplers
from odenas.search.config import SearchConfig
from odenas.search.own_samplers import distributions
from odenas.search.presets import TWO_STEP
from odenas.search.samplers import (
    SAMPLERS,
    ask,
    check_sampler,
    constraints_of,
    set_constraints,
)
from odenas.space import OdenasError, Scheme, SearchSpace, scheme

optuna.logging.set_verbosity(optuna.logging.WARNING)

FINITE = SearchSpace(**TWO_STEP | {"reflection": (0.0, 0.0), "slope": (0.0, 0.0), "stochasticity": ("none",)})
LAG = 3
KNOWN = tuple(scheme(name) for name in ("euler", "lm", "ab2"))


def config(sampler: str, **changes: Any) -> SearchConfig:
    space = FINITE if sampler == "grid" else SearchSpace(**TWO_STEP)
    return SearchConfig(**{"sampler": sampler, "space": space, "epochs": 3, **changes})


@dataclass
class Toy:
    """A search whose trials train nothing: what a ledger does with samplers, and no more.

    Draw k knows exactly the trials ≤ k − LAG. Trials fail, stop early or complete as their number says.
    """

    config: SearchConfig
    study: optuna.Study = field(init=False)
    draws: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    tried: list[Scheme] = field(default_factory=list)
    open: dict[int, optuna.Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.study = optuna.create_study(directions=["minimize"] * len(self.config.objectives))

    def go(self, trials: int) -> Toy:
        for number in range(len(self.draws), trials):
            self.tell_before(number)
            known = [self.config.space.encode(value) for value in KNOWN if value in self.config.space]
            for attempt in range(21):
                given = known[number] if number < len(known) else None
                trial = ask(self.study, self.config, number, attempt=attempt, given=given)
                value = self.config.space.suggest(trial)
                if value not in self.tried or attempt == 20:
                    break
                self.study.tell(trial, state=TrialState.FAIL)
            self.note(number, attempt, value, trial)
        return self

    def again(self) -> Toy:
        """Return what a new process makes of the draws, as a run folder keeps them."""
        toy = Toy(self.config)
        for number, (draw, attempt) in enumerate(zip(self.draws, self.attempts, strict=True)):
            toy.tell_before(number)
            trial = ask(toy.study, self.config, number, attempt=attempt, given=draw)
            toy.note(number, attempt, self.config.space.suggest(trial), trial)
        assert toy.draws == self.draws
        assert toy.tried == self.tried
        return toy

    def note(self, number: int, attempt: int, value: Scheme, trial: optuna.Trial) -> None:
        self.draws.append(dict(trial.params))
        self.attempts.append(attempt)
        self.tried.append(value)
        self.open[number] = trial

    def tell_before(self, number: int) -> None:
        for old in [old for old in self.open if old <= number - LAG]:
            trial, value = self.open.pop(old), self.tried[old]
            end = ("complete", "complete", "pruned", "complete", "fail")[old % 5]
            several = len(self.config.objectives) > 1
            if end != "fail" and not several:
                trial.report(self.error(value, old), 1)
            if self.config.constraints and end != "fail":
                set_constraints(trial, {"steps": value.tableau.steps - 1.5})
            values = [self.error(value, old), float(value.tableau.steps)][: len(self.config.objectives)]
            state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "fail": TrialState.FAIL}[end]
            self.study.tell(trial, values if end == "complete" else None, state=state)

    @staticmethod
    def error(value: Scheme, number: int) -> float:
        """Return the distance from one scheme of the space, in its coefficients, and a little noise."""
        tableau = value.tableau
        weights = np.array([*map(float, getattr(tableau, "V", ())), 0.0])[:2]
        distance = float(np.abs(weights - (0.6, 0.4)).sum()) + 0.1 * (value.coefficients.learning == "fixed")
        return distance + 0.01 * random.Random(number).random()


CASES = [(name, several) for name, row in SAMPLERS.items() for several in ((False, True) if row.several else (False,))]


def whole_and_resumed(name: str, several: bool, trials: int, stops: Sequence[int]) -> None:
    objectives = ("validation_error", "params")[: 1 + several]
    settings = config(name, seed=3, objectives=objectives)
    check_sampler(settings)
    whole = Toy(settings).go(trials)
    assert Toy(config(name, seed=4, objectives=objectives)).go(8).draws != whole.draws[:8]
    for stop in stops:
        resumed = Toy(settings).go(stop).again().go(trials)
        assert resumed.draws == whole.draws
        assert resumed.attempts == whole.attempts


@pytest.mark.parametrize(("name", "several"), [case for case in CASES if case[0] != "gp"])
def test_draws_hang_on_the_seed_alone_and_go_on_after_a_stop(name: str, several: bool) -> None:
    """Some trials fail and some stop early, with several objectives too (Optuna's TPE once broke on these)."""
    slow = {"tpe": 20}
    whole_and_resumed(name, several, slow.get(name, 40), (slow[name] - 1,) if name in slow else (2, 19, 33))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "several"), [case for case in CASES if case[0] in ("tpe", "gp")])
def test_many_draws_of_the_slow_samplers_too(name: str, several: bool) -> None:
    whole_and_resumed(name, several, {"tpe": 60, "gp": 23}[name], (19,))


def test_each_draw_is_another() -> None:
    for name in SAMPLERS:
        settings = config(name)
        study = optuna.create_study()
        drawn = []
        for number, attempt in ((0, 0), (0, 1), (1, 0), (7, 0)):
            trial = ask(study, settings, number, attempt=attempt)
            settings.space.suggest(trial)
            drawn.append(trial.params)
            study.tell(trial, state=TrialState.FAIL)
        assert len({tuple(params.values()) for params in drawn}) == 4, name


def test_a_grid_goes_through_all_schemes_once() -> None:
    settings = config("grid", seed=1)
    points = list(settings.space.points())
    schemes = [settings.space.suggest(optuna.trial.FixedTrial(point)) for point in points]
    assert len(set(schemes)) == len(schemes) <= settings.space.size().configurations
    study, drawn = optuna.create_study(), []
    for number in range(len(points)):
        trial = ask(study, settings, number)
        drawn.append(settings.space.suggest(trial))
    assert set(drawn) == set(schemes)
    assert drawn != schemes  # in an order of the seed's
    assert settings.space.suggest(ask(study, settings, len(points))) in schemes  # one of them again


def test_the_points_of_sobol_fill_the_space_evenly() -> None:
    """Of 32 points, 16 lie in each half of each coordinate: every one-dimensional projection is a (0, 5, 1)-net."""
    settings = config("qmc")
    study = optuna.create_study()
    trials = [ask(study, settings, number).params for number in range(32)]
    for name, kind in distributions(settings.space).items():
        if isinstance(kind, optuna.distributions.FloatDistribution):
            middle = (kind.low + kind.high) / 2
            assert sum(params[name] < middle for params in trials) == 16
        elif isinstance(kind, optuna.distributions.CategoricalDistribution) and len(kind.choices) == 2:
            assert sum(params[name] == kind.choices[0] for params in trials) == 16


@pytest.mark.parametrize("name", [name for name, row in SAMPLERS.items() if row.joint])
def test_samplers_of_fixed_parameters_are_asked_for_all_of_them(name: str) -> None:
    """Euler has no coordinate: a sampler that models what all trials share would be left without any."""
    settings = config(name)
    study = optuna.create_study()
    trial = ask(study, settings, 0, given=settings.space.encode(scheme("euler")))
    assert settings.space.suggest(trial) == scheme("euler")
    assert trial.params.keys() == distributions(settings.space).keys()


def test_cmaes_learns_the_coordinates() -> None:
    """On a bowl in two coordinates, CMA-ES comes much nearer in 60 trials than random draws."""
    fields = TWO_STEP | {"steps": (2,), "order": (1,), "free_slopes": ("slopes",), "stochasticity": ("none",)}
    best = {}
    for name in ("cmaes", "random"):
        errors = []
        for seed in range(3):
            settings = config(name, seed=seed, space=SearchSpace(**fields))
            study = optuna.create_study()
            for number in range(60):
                trial = ask(study, settings, number)
                settings.space.suggest(trial)
                study.tell(trial, (trial.params["reflection_1"] - 0.3) ** 2 + (trial.params["slope_1"] + 0.4) ** 2)
            errors.append(study.best_value)
        best[name] = float(np.mean(errors))
    assert best["cmaes"] < best["random"] / 3


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("name", ["tpe", "nsga2", "nsga3"])
def test_constraints_guide(name: str, by_name: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More draws keep the constraint than where none is told, by Optuna 5's way and by that of the versions before."""
    if by_name and not samplers.SET_CONSTRAINT:
        pytest.skip("this Optuna knows no constraints by name")
    monkeypatch.setattr(samplers, "SET_CONSTRAINT", by_name)
    space = SearchSpace(**TWO_STEP | {"steps": (2,), "order": (1,), "stochasticity": ("none",)})

    def kept(constraints: tuple[str, ...]) -> int:
        settings = config(name, space=space, constraints=constraints)
        study, count = optuna.create_study(), 0
        for number in range(70):
            trial = ask(study, settings, number)
            settings.space.suggest(trial)
            excess = {"reflection": trial.params["reflection_1"] + 0.4, "scale": -1.0}  # 0.55 of 1.95 is feasible
            if constraints:
                set_constraints(trial, excess)
            # The objective lures away from what is feasible.
            study.tell(trial, 1.0 - trial.params["reflection_1"])
            assert constraints_of(study.trials[-1]) == (excess if constraints else {})
            count += number >= 40 and excess["reflection"] <= 0
        return count

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*constraints_func", category=FutureWarning)
        assert kept(("params <= 1",)) >= 8 + 2 * kept(())


def test_what_could_not_be_measured_keeps_no_constraint() -> None:
    study = optuna.create_study()
    trial = study.ask()
    set_constraints(trial, {"latency": float("nan"), "params": -1})
    assert constraints_of(study.tell(trial, 1.0)) == {"latency": float("inf"), "params": -1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler": "cmaes", "objectives": ("validation_error", "params")},
            "takes one objective and there are 2; these take",
        ),
        (
            {"sampler": "grid", "space": SearchSpace(**TWO_STEP)},
            "draws real numbers: rate_depth, reflection_1, slope_1",
        ),
        ({"sampler": "cmaes", "space": FINITE}, "adapts two or more real coordinates and the space has 0"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        check_sampler(config(**changes))
    assert str(caught.value).startswith("`sampler` is ")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "find_spec", lambda name: None)
    with pytest.raises(OdenasError, match="needs the package 'cmaes': pip install cmaes"):
        check_sampler(config("cmaes"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_is_said_or_warned_of(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Toy(config(name, constraints=("params <= 1",))).go(12)
    assert "sampl" not in "".join(capfd.readouterr()).lower()


def test_a_sampler_object_draws_in_place_of_the_named_one() -> None:
    study, settings = optuna.create_study(), config("qmc")
    own = optuna.samplers.RandomSampler(seed=5)
    first = ask(study, settings, 0, own=own)
    settings.space.suggest(first)
    assert study.sampler is own
    other = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5)).ask()
    settings.space.suggest(other)
    assert first.params == other.params
