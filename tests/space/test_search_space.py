"""The search space: every draw is feasible, encode and suggest undo each other, fields hold, nonsense is refused."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy import linear_multistep_method as lmm
from nodepy import runge_kutta_method as rk

from odenas.space import Blocks, Coefficients, OdenasError, Scheme, SearchSpace, Stochasticity, Tableau, scheme
from odenas.space.ask import field as field_of
from odenas.space.blocks import ACTIVATIONS, OF_ALL_METHODS
from odenas.space.catalogue import CATALOGUE
from odenas.space.feasible import errors_of_slopes, reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.feasible_runge_kutta import RUNGE_KUTTA_FAMILIES
from odenas.space.integrate import RK4
from odenas.space.network_space import WIDEST
from odenas.space.order import order
from odenas.space.scheme import TYINGS
from odenas.space.search_space import FAMILIES, NAMED
from odenas.space.stochasticity import GROWTHS, STOCHASTICITIES
from odenas.space.zero_stability import zero_stable

F = Fraction
NETWORKS: dict[str, Any] = {
    "block": OF_ALL_METHODS,
    "activation": tuple(ACTIVATIONS),
    "per_stage": (5, 6, 18),
    "stochasticity": tuple(STOCHASTICITIES),
    "growth": tuple(GROWTHS),
}
FULL = SearchSpace(**NETWORKS)
WIDE = replace(FULL, reflection=(-0.999, 1.0), slope=(-10.0, 10.0), error=(-10.0, 10.0), rates=WIDEST)
SPACES = {"default": SearchSpace(), "full": FULL, "wide": WIDE}
MULTISTEP = ("multistep",)
RUNGE_KUTTA = ("runge-kutta",)
# To order 4, and with s stages at most s: what the coordinates of explicit Runge–Kutta methods reach.
REACHED = {stages: set(range(1, min(stages, 4) + 1)) for stages in range(1, 7)}
DEEP = Stochasticity("depth", 0.25)

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Uniform:
    """A trial that draws uniformly and notes what it was asked for: Optuna's random sampler without its bookkeeping."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.note(name, choices[int(self.rng.integers(len(choices)))])

    def suggest_float(self, name: str, low: float, high: float) -> float:
        return float(self.note(name, float(self.rng.uniform(low, high))))

    def note(self, name: str, value: Any) -> Any:
        assert name not in self.params  # nothing is asked for again: no draw is rejected
        self.params[name] = value
        return value


class Chosen(Uniform):
    """A trial whose answers Hypothesis chooses, with a liking for the ends of the intervals."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.params = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.note(name, self.data.draw(st.sampled_from(choices), label=name))

    def suggest_float(self, name: str, low: float, high: float) -> float:
        ends = st.sampled_from([low, high, float(np.nextafter(low, high)), float(np.nextafter(high, low))])
        return float(self.note(name, self.data.draw(st.one_of(ends, st.floats(low, high)), label=name)))


def drawn(space: SearchSpace, count: int, seed: int = 0) -> Iterator[tuple[Scheme, dict[str, Any]]]:
    """Yield schemes, each with what was asked for."""
    trial = Uniform(seed)
    for _ in range(count):
        trial.params = {}
        yield space.suggest(trial), trial.params


def check(space: SearchSpace, s: Scheme, asked: dict[str, Any]) -> None:
    """Assert the laws of a draw, with what is proved computed anew from its tableau."""
    tableau, stated = tableau_of(s), s.coefficients.order
    assert zero_stable(tableau)
    assert order(tableau, stated) == stated
    parameters = space.encode(s)
    assert space.suggest(optuna.trial.FixedTrial(parameters)) == s
    family = asked.get("family", space.family[0])
    {"multistep": check_multistep, "runge-kutta": check_runge_kutta, "named": check_named}[family](space, s, asked)
    check_network(space, s, scheme(asked.get("named", space.named[0])) if family == "named" else None)


def check_multistep(space: SearchSpace, s: Scheme, asked: dict[str, Any]) -> None:
    """Assert that a draw of the family is one, and allowed by each field."""
    tableau, c = tableau_of(s), s.coefficients
    assert tableau.is_multistep
    assert tableau.exact
    steps = tableau.steps
    assert steps in space.steps
    assert c.order in space.order
    assert c.order <= order(tableau, steps + 1) <= steps  # first Dahlquist barrier
    assert within(reflections(s), space.reflection)
    free = [F(b) for b in tableau.slopes[c.order :]]
    kind = asked.get("free_slopes", space.free_slopes[0]) if free else "zero"
    assert kind in space.free_slopes or not free
    assert kind != "zero" or not any(free)
    assert kind != "slopes" or within(free, space.slope)
    assert kind != "errors" or within(errors(s), space.error)
    if steps == 1:
        assert replace(s, tying="none", blocks=Blocks(), stochasticity=Stochasticity()) == scheme("euler")
        return
    assert s.scale in space.scale
    assert s.start in space.start
    assert s.transition in (("restart",) if any(tableau.R) else space.transition)
    assert c.learning in space.learning
    assert len(c.target) == (steps - 1 if c.learning == "scheduled" else 0)
    assert within(c.target, space.reflection)
    for kappas in c.scheduled(tuple(reflections(s)), 4) if c.target else []:
        assert zero_stable(Tableau.multistep(states_from_reflections(kappas), (1,)))
    if c.learning == "learned":
        assert c.sharing in space.sharing
        assert c.constraint in space.constraint
        assert c.spread == space.spread
        assert c.bound == (space.bound if c.constraint == "zero-stable" else 0.999)


def check_runge_kutta(space: SearchSpace, s: Scheme, asked: dict[str, Any]) -> None:
    tableau = tableau_of(s)
    assert tableau.exact
    assert (tableau.steps, s.coefficients.learning) == (1, "fixed")
    assert tableau.stages in space.stages
    assert s.coefficients.order in set(space.order) & REACHED[tableau.stages]


def check_named(space: SearchSpace, s: Scheme, asked: dict[str, Any]) -> None:
    name = asked.get("named", space.named[0])
    assert name in space.named
    known = scheme(name)
    assert replace(s, tying=known.tying, blocks=known.blocks, stochasticity=known.stochasticity) == known


def check_network(space: SearchSpace, s: Scheme, named: Scheme | None) -> None:
    tableau, noise, blocks = tableau_of(s), s.stochasticity, s.blocks
    assert s.tying in space.tying or (named and s.tying == named.tying)
    assert blocks.kind in space.block
    assert blocks.activation in space.activation
    assert len(blocks.per_stage) == (3 if space.per_stage else 0)
    assert set(blocks.per_stage) <= set(space.per_stage)
    if blocks.per_stage and s.start == "euler":
        # The first block of a stage is a plain one, and forward Euler steps gather what history is then missing.
        assert min(blocks.per_stage) >= max(tableau.steps, min(2, tableau.stages))
    if named and named.stochasticity.rate:
        assert noise == named.stochasticity
        return
    assert noise.kind in space.stochasticity or (noise.kind == "none" and space.stochasticity == ("shake",))
    assert noise.kind != "shake" or tableau.B[0] == tableau.B[1] != 0
    if noise.rate:
        assert within([noise.rate], space.rates[noise.kind])
        assert noise.growth in space.growth


def tableau_of(s: Scheme) -> Tableau:
    assert isinstance(s.tableau, Tableau)
    return s.tableau


def reflections(s: Scheme) -> list[Fraction]:
    return reflections_from_states([F(v) for v in tableau_of(s).V])


def errors(s: Scheme) -> list[Fraction]:
    V, slopes = ([F(v) for v in row] for row in (tableau_of(s).V, tableau_of(s).slopes))
    return errors_of_slopes(V, slopes, s.coefficients.order)


def within(values: Any, interval: tuple[float, float]) -> bool:
    return all(interval[0] <= float(value) <= interval[1] for value in values)


def largest_power(schemes: list[Scheme]) -> tuple[float, float]:
    """Return the largest spectral radius of the companion matrices, and the largest norm of their powers.

    Powers to 100, and 2ʲ to 2³⁰, where a double root on the circle would leave 10⁹, and one of modulus 1 + 10⁻⁷ more
    than 10⁴⁶. In still higher ones the rounding of V to floats would be seen.
    """
    matrices = np.zeros((len(schemes), 6, 6))
    matrices[:, 1:, :-1] = np.eye(5)
    for matrix, s in zip(matrices, schemes, strict=True):
        matrix[0, : s.tableau.steps] = [float(v) for v in tableau_of(s).V]
    powers, squares, largest = matrices, matrices, 0.0
    for _ in range(100):
        largest = max(largest, float(abs(powers).sum(axis=-1).max()))
        powers = powers @ matrices
    for _ in range(30):
        squares = squares @ squares
        largest = max(largest, float(abs(squares).sum(axis=-1).max()))
    return float(abs(np.linalg.eigvals(matrices)).max()), largest


def check_powers(schemes: list[Scheme]) -> None:
    radius, largest = largest_power(schemes)
    assert radius <= 1 + 1e-6
    assert largest < 1e6


# Feasibility.


@pytest.mark.parametrize("name", SPACES)
def test_draws_are_feasible_and_encode_undoes_suggest(name: str) -> None:
    for s, asked in drawn(SPACES[name], 1000 if name == "full" else 100):
        check(SPACES[name], s, asked)


@pytest.mark.slow
def test_ten_thousand_draws_are_feasible_and_encode_undoes_suggest() -> None:
    schemes = []
    for s, asked in drawn(FULL, 10_000, seed=1):
        check(FULL, s, asked)
        schemes.append(s)
    check_powers(schemes)


def test_powers_stay_bounded() -> None:
    check_powers([s for s, _ in drawn(FULL, 400, seed=2)])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ends_of_the_intervals_are_feasible(family: str) -> None:
    space = replace(WIDE, family=(family,))

    @settings(deadline=None, max_examples=60, database=None)
    @given(st.data())
    def ends(data: st.DataObject) -> None:
        trial = Chosen(data)
        check(space, space.suggest(trial), trial.params)

    ends()


def narrower(data: st.DataObject) -> dict[str, Any]:
    """Return fields at random: some values of each choice, some interval in each widest one."""

    def interval(low: float, high: float, label: str) -> list[float]:
        ends = st.lists(st.integers(round(1000 * low), round(1000 * high)), min_size=2, max_size=2)
        return [end / 1000 for end in sorted(data.draw(ends, label=label))]

    fields: dict[str, Any] = {}
    for name, valid in {**SearchSpace.CHOICES, "per_stage": range(2, 8), "named": NAMED}.items():
        least = 0 if name in ("per_stage", "named") else 1
        fields[name] = data.draw(st.lists(st.sampled_from(list(valid)), min_size=least, max_size=9, unique=True), name)
    for name, (low, high) in SearchSpace.MULTISTEP_INTERVALS.items():
        fields[name] = interval(low, high, name)
    fields["rates"] = {kind: interval(*WIDEST[kind], kind) for kind in fields["stochasticity"] if kind != "none"}
    fields["spread"] = data.draw(st.floats(0, 1), "spread")
    fields["bound"] = data.draw(st.floats(0.001, 0.999), "bound")
    return fields


def nothing_left(fields: dict[str, Any]) -> bool:
    """Return whether some choice of these fields has no order, coordinate, way to learn, or blocks enough."""
    steps, family, longest = fields["steps"], fields["family"], [1]
    bad = "named" in family and not fields["named"]
    if "multistep" in family:
        longest.append(max(steps) if "euler" in fields["start"] else min(2, max(steps)))
        bad |= min(fields["order"]) > min(steps)
        bad |= fields["reflection"][0] > 0.999 and (
            max(steps) > 2 or (2 in steps and "scheduled" in fields["learning"])
        )
        bad |= 1 in steps and "fixed" not in fields["learning"]
    if "runge-kutta" in family:
        bad |= any(not REACHED[stages] & set(fields["order"]) for stages in fields["stages"])
    if "named" in family:
        known = [scheme(name) for name in fields["named"]]
        longest += [s.tableau.steps if s.start == "euler" else 2 for s in known]
    return bad or bool(fields["per_stage"] and min(fields["per_stage"]) < max(longest))


@settings(deadline=None, max_examples=90, database=None)
@given(st.data())
def test_every_narrower_space_draws_what_it_allows(data: st.DataObject) -> None:
    """Any subspace that is accepted draws feasible schemes within its own bounds, and knows them again."""
    fields = narrower(data)
    if nothing_left(fields):
        with pytest.raises(OdenasError) as caught:
            SearchSpace(**fields)
        assert len(str(caught.value).splitlines()) == 1
        return
    space = SearchSpace(**fields)
    for s, asked in drawn(space, 3):
        check(space, s, asked)


@pytest.mark.parametrize("kind", ["slope", "error"])
@pytest.mark.parametrize("end", [0.001, -0.007, 0.1, -0.3, 0.999])
def test_a_draw_at_the_end_of_a_narrow_interval_is_known_again(kind: str, end: float) -> None:
    """An end is a float, which may lie beside the three decimals that it stands for."""
    fields: dict[str, Any] = {"free_slopes": (f"{kind}s",), kind: (end, end)}
    space = SearchSpace(family=MULTISTEP, steps=(2,), order=(1,), **fields)
    for s, asked in drawn(space, 3):
        check(space, s, asked)


def test_nothing_is_left_out() -> None:
    """Every choice is drawn, alone and in company, and the intervals are filled to their ends."""
    draws = list(drawn(FULL, 2500, 5))
    assert {asked["family"] for _, asked in draws} == set(FAMILIES)
    multistep = [s for s, asked in draws if asked["family"] == "multistep"]
    several = [s for s in multistep if s.tableau.steps > 1]
    assert {(s.tableau.steps, s.coefficients.order) for s in multistep} == {
        (k, p) for k in FULL.steps for p in FULL.order if p <= k
    }
    assert {(s.scale, s.start) for s in several} == {(a, b) for a in FULL.scale for b in FULL.start}
    assert {s.transition for s in several if not any(tableau_of(s).slopes[1:])} == {"restart", "project"}
    assert {s.coefficients.learning for s in several} == {"fixed", "scheduled", "learned"}
    learned = {s.coefficients for s in several if s.coefficients.learning == "learned"}
    assert {(c.sharing, c.constraint) for c in learned} == {(a, b) for a in FULL.sharing for b in FULL.constraint}
    families = {name.partition(":")[0] for _, asked in draws for name in asked if ":" in name}
    assert families == set(RUNGE_KUTTA_FAMILIES) - {"rk11"}
    assert {asked["named"] for _, asked in draws if "named" in asked} == set(NAMED)
    assert {(s.tying, s.blocks.kind, s.blocks.activation) for s, _ in draws} == {
        (a, b, c) for a in TYINGS for b in OF_ALL_METHODS for c in ACTIVATIONS
    }
    assert {(s.stochasticity.kind, s.stochasticity.growth) for s, _ in draws if s.stochasticity.rate} == {
        (a, b) for a in FULL.rates for b in GROWTHS
    }
    assert {s.blocks.per_stage for s, _ in draws} == {
        (a, b, c) for a in (5, 6, 18) for b in (5, 6, 18) for c in (5, 6, 18)
    }
    for kind, ends in FULL.rates.items():
        rates = [s.stochasticity.rate for s, _ in draws if s.stochasticity.kind == kind]
        assert [min(rates), max(rates)] == pytest.approx(ends, abs=0.15 * ends[1])
    kappas = [float(tableau_of(s).V[1]) for s in multistep if s.tableau.steps == 2]
    assert [min(kappas), max(kappas)] == pytest.approx([-0.95, 1.0], abs=0.03)
    third = [s for s in multistep if s.tableau.steps == 3]
    assert any(np.iscomplex(np.roots([1.0, *(-float(v) for v in tableau_of(s).V)])).any() for s in third)


def test_a_generator_draws_the_same_again() -> None:
    first, second = ([FULL.draw(rng) for _ in range(30)] for rng in map(np.random.default_rng, (3, 3)))
    assert first == second
    assert first != [FULL.draw(np.random.default_rng(4)) for _ in range(30)]


# Other oracles.


def test_multistep_draws_as_nodepy_sees_them() -> None:
    for s, _ in drawn(replace(FULL, family=MULTISTEP, reflection=(-0.9, 1.0)), 60, 9):
        tableau = tableau_of(s)
        alpha = np.array([-float(v) for v in reversed(tableau.V)] + [1.0])
        other = lmm.LinearMultistepMethod(alpha, np.array([float(b) for b in reversed(tableau.slopes)] + [0.0]))
        assert other.order(tol=1e-9) == s.order >= s.coefficients.order
        assert other.is_zero_stable(tol=1e-5)


def test_runge_kutta_draws_as_nodepy_sees_them() -> None:
    for s, _ in drawn(replace(FULL, family=RUNGE_KUTTA), 60, 10):
        A, b = np.array(tableau_of(s).A, dtype=float), np.array(tableau_of(s).B, dtype=float)
        assert rk.ExplicitRungeKuttaMethod(A, b).order(tol=1e-10) == s.order >= s.coefficients.order


# Optuna.


def samplers() -> dict[str, Any]:
    parzen = optuna.samplers.TPESampler
    return {
        "random": lambda: optuna.samplers.RandomSampler(seed=0),
        "tpe": lambda: parzen(seed=0, n_startup_trials=10),
        "tpe, all together": lambda: parzen(seed=0, n_startup_trials=10, multivariate=True, group=True),
    }


@pytest.mark.filterwarnings("error", "ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("name", "trials"), [("random", 300), ("tpe", 60), ("tpe, all together", 25)])
def test_studies_draw_feasible_schemes_from_distributions_that_never_change(name: str, trials: int) -> None:
    study = optuna.create_study(sampler=samplers()[name]())
    known: dict[str, Any] = {}
    for _ in range(trials):
        trial = study.ask()
        s = FULL.suggest(trial)
        for parameter, distribution in trial.distributions.items():
            assert known.setdefault(parameter, distribution) == distribution, parameter
        check(FULL, s, trial.params)
        study.tell(trial, s.coefficients.order + s.tableau.stages + 10 * s.stochasticity.rate)


def test_encoded_parameters_can_be_enqueued() -> None:
    space = SearchSpace()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    known = [scheme(name) for name in ("lm", "ab3", "momentum", "midpoint", "rk4", "dormand_prince5", "poly2")]
    for s in known:
        study.enqueue_trial(space.encode(s))
    assert [space.suggest(study.ask()) for _ in known] == known


# Encode and suggest.


@pytest.mark.parametrize("family", FAMILIES)
def test_encode_returns_what_was_asked_for(family: str) -> None:
    """The parameters of the trial again, to the three decimals that are kept."""
    space = replace(FULL, family=(family,))
    for s, asked in drawn(space, 200, 12):
        found = space.encode(s)
        assert json.loads(json.dumps(found)) == found
        if found.get("free_slopes") != asked.get("free_slopes"):
            # Slopes that all round to 0 are none; defects may be those of slopes of three decimals.
            assert (asked["free_slopes"], found["free_slopes"]) in (("slopes", "zero"), ("errors", "slopes"))
            continue
        if found.get("named") != asked.get("named"):
            # One method under two names, or with its stages tied by name and by draw.
            assert scheme(found["named"]).tableau == scheme(asked["named"]).tableau
            continue
        assert found.keys() == asked.keys()
        for key, value in asked.items():
            if isinstance(value, float):
                assert found[key] == pytest.approx(value, abs=0.0011 if key.startswith("reflection") else 0.00051)
            else:
                assert found[key] == value


def test_encode_goes_on_to_other_coordinates_where_the_first_do_not_hold() -> None:
    """AB2's older slope −1/2 is on the grid of the slopes, but there `narrowed` leaves it out; its defect 0 it does."""
    space = SearchSpace(family=MULTISTEP, order=(1,), steps=(2,), free_slopes=("slopes", "errors"))
    free = Scheme(scheme("ab2").tableau)
    assert space.encode(free)["free_slopes"] == "slopes"
    narrow = replace(space, narrowed={"slope_1": (0.0, 0.5)})
    assert narrow.encode(free)["free_slopes"] == "errors"
    assert narrow.encode(free)["error_2"] == 0
    assert narrow.suggest(optuna.trial.FixedTrial(narrow.encode(free))) == free
    assert free not in replace(narrow, free_slopes=("slopes",))


def test_slopes_of_zero_are_known_where_they_are_coordinates() -> None:
    space = SearchSpace(family=MULTISTEP, steps=(2,), order=(1,), free_slopes=("slopes",))
    states = states_from_reflections([F(1, 4)])
    s = Scheme(Tableau.multistep(states, slopes_of_order(states, [F(0)], 1)))
    assert space.suggest(optuna.trial.FixedTrial(space.encode(s))) == s


def test_draws_of_one_family_may_be_known_in_another() -> None:
    assert SearchSpace().encode(scheme("euler"))["family"] == "multistep"
    assert replace(SearchSpace(), family=("named", "multistep")).encode(scheme("euler"))["family"] == "named"
    assert SearchSpace(family=("runge-kutta", "named")).encode(scheme("kutta3"))["family"] == "runge-kutta"
    assert SearchSpace(family=("runge-kutta", "named")).encode(scheme("rk4"))["family"] == "named"  # b_3 is 1/3


# Fields.


def space_of_one(field: str, value: Any) -> SearchSpace:
    """Return the space with one value in a field, and in others what that needs."""
    fields: dict[str, Any] = {field: (value,)}
    if field == "steps":
        fields |= {"order": range(1, value + 1), "family": MULTISTEP}
    if field == "order":
        fields |= {"steps": range(value, 6), "stages": range(min(value, 4), 7)}
        fields |= {"family": MULTISTEP} if value == 5 else {}
    if field == "learning":
        fields |= {"steps": (2, 3)}
    if field == "stochasticity" and value == "shake":
        fields |= {"family": ("named",), "named": ("heun2", "rk4", "euler")}
    if field == "per_stage":
        fields |= {"family": ("multistep", "runge-kutta"), "steps": (1, 2), "order": (1, 2)}
    return SearchSpace(**fields)


FIELDS = {**SearchSpace.CHOICES, "per_stage": (2, 9, 1000), "named": NAMED[::6]}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, valid in FIELDS.items() for value in valid])
def test_a_field_of_one_value_holds_in_every_draw(field: str, value: Any) -> None:
    space = space_of_one(field, value)
    for s, asked in drawn(space, 10, 6):
        check(space, s, asked)
        assert field not in map(field_of, asked)
        assert field not in map(field_of, space.encode(s))


def test_the_order_is_that_of_both_families() -> None:
    space = SearchSpace(family=("multistep", "runge-kutta"), steps=(3, 4), stages=(3, 4), order=(3,))
    assert {s.coefficients.order for s, _ in drawn(space, 60)} == {3}


def test_shake_is_for_two_stages_of_equal_weight() -> None:
    """With nothing else allowed, other schemes are without noise."""
    space = SearchSpace(family=("named",), stochasticity=("shake",))
    kinds = {asked["named"]: s.stochasticity.kind for s, asked in drawn(space, 800)}
    weights = {name: tableau_of(scheme(name)).B for name in NAMED}
    pairs = {name for name, B in weights.items() if B[:1] == B[1:2] != (0,)}
    assert {"heun2", "ssp33"} <= pairs
    assert kinds == {name: "shake" if name in pairs else "none" for name in NAMED}


def test_what_a_named_scheme_brings_stays() -> None:
    """The noise and the tying of the catalogue's own entry, whatever the fields say."""
    names = tuple(name for name, entry in CATALOGUE.items() if entry.family == "stochastic")
    space = SearchSpace(family=("named",), named=names, stochasticity=("none",), tying=("steps",))
    for s, asked in drawn(space, 60):
        own = scheme(asked["named"])
        assert s.stochasticity == own.stochasticity
        assert s.tying == (own.tying if own.tying != "none" else "steps")
        assert s in space


@pytest.mark.parametrize("value", [-0.95, -0.001, 0.0, 0.5, 0.999])
def test_a_reflection_of_one_value_holds_in_every_draw(value: float) -> None:
    space = SearchSpace(family=MULTISTEP, steps=(2, 3, 4), reflection=(value, value))
    for s, _ in drawn(space, 60):
        assert {*reflections(s), *s.coefficients.target} == {F(round(1000 * value), 1000)}
        assert not any(key.startswith(("reflection", "target")) for key in space.encode(s))


def test_other_intervals_of_one_value() -> None:
    kind: dict[str, Any] = {"family": MULTISTEP, "steps": (3,), "order": (1,), "spread": 0.25, "bound": 0.5}
    space = SearchSpace(**kind, free_slopes=("slopes",), slope=(-2.5, -2.5), rates={"depth": (0.3, 0.3)})
    for s, _ in drawn(space, 60):
        assert tableau_of(s).slopes[1:] == (F(-5, 2), F(-5, 2))
        assert s.stochasticity.rate in (0, 0.3)
        assert s.coefficients.spread == (0.25 if s.coefficients.learning == "learned" else 0)
        assert s.coefficients.bound == (
            0.5 if s.coefficients.constraint == "zero-stable" and s.coefficients.spread else 0.999
        )
    for s, _ in drawn(SearchSpace(**kind, free_slopes=("errors",), error=(0.125, 0.125)), 60):
        assert errors(s) == [F(1, 8), F(1, 8)]


def test_errors_of_zero_are_order_k() -> None:
    for s, _ in drawn(SearchSpace(family=MULTISTEP, free_slopes=("errors",), error=(0, 0)), 60):
        assert s.order == s.tableau.steps


def test_the_midpoint_is_the_end_of_the_interval() -> None:
    plain: dict[str, Any] = {
        "learning": ("fixed",),
        "stochasticity": ("none",),
        "transition": ("restart",),
        "tying": ("none",),
    }
    space = SearchSpace(family=MULTISTEP, steps=(2,), order=(2,), reflection=(1, 1), **plain)
    assert {s.tableau for s, _ in drawn(space, 20)} == {scheme("midpoint").tableau}
    assert space.encode(scheme("midpoint")) == {"scale": "consistent", "start": "euler"}


def test_one_as_the_last_coefficient_is_for_up_to_three_steps() -> None:
    """With more, other coefficients before it make the same scheme, and `encode` would not find those drawn."""
    space = SearchSpace(family=MULTISTEP, steps=(2, 3, 4, 5), order=(1,), reflection=(0.998, 1.0))
    last: dict[int, set[Fraction]] = {k: set() for k in space.steps}
    for s, asked in drawn(space, 250, 7):
        check(space, s, asked)
        last[s.tableau.steps].add(reflections(s)[-1])
    assert {k: max(kappas) for k, kappas in last.items()} == {2: 1, 3: 1, 4: F(999, 1000), 5: F(999, 1000)}


def test_a_table_of_a_toml_file() -> None:
    text = """
        family = ["multistep", "runge-kutta"]
        steps = [2, 3]
        stages = [4]
        order = [2]
        reflection = [-0.5, 1]
        learning = ["learned", "scheduled"]
        sharing = ["step", "channel"]
        stochasticity = ["depth", "additive"]
        per_stage = [4, 6]
        spread = 0
        [rates]
        depth = [0.1, 0.2]
        [narrowed]
        reflection_1 = [0, 0.25]
        "rk42:c4" = [1, 1]
    """
    space = SearchSpace(**tomllib.loads(text))
    same = SearchSpace(
        family=("multistep", "runge-kutta"),
        steps=(2, 3),
        stages=(4,),
        order=(2,),
        reflection=(-0.5, 1.0),
        learning=("learned", "scheduled"),
        sharing=("step", "channel"),
        stochasticity=("depth", "additive"),
        per_stage=(4, 6),
        spread=0.0,
        rates={"depth": (0.1, 0.2)},
        narrowed={"reflection_1": (0.0, 0.25), "rk42:c4": (1.0, 1.0)},
    )
    assert space == same
    assert hash(space) == hash(same)
    assert space != replace(space, narrowed={})
    assert space != replace(space, rates={"depth": (0.1, 0.3)})
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert hash(again) == hash(space)
    for s, asked in drawn(space, 80):
        check(space, s, asked)
        assert s.stochasticity.rate <= 0.2
        if asked["family"] == "multistep":
            assert 0 <= reflections(s)[0] <= F(1, 4)
            assert s.coefficients.learning != "fixed"
        else:
            assert tableau_of(s).abscissae[3] == 1


def test_rates_not_given_are_the_usual_ones() -> None:
    assert SearchSpace(rates={"depth": (0.2, 0.3)}).rates == {**SearchSpace().rates, "depth": (0.2, 0.3)}


# Refusals.


@pytest.mark.parametrize(
    ("fields", "outside", "message"),
    [
        ({"steps": (2,)}, "euler", "`steps` is 1, but must be one of 2"),
        ({"steps": (2,), "order": (1,)}, "euler", "`steps` is 1, but must be one of 2"),
        ({"steps": (1,), "order": (1,)}, "ab2", "`steps` is 2, but must be one of 1"),
        ({"steps": (1, 2)}, "ab3", "`steps` is 3, but must be one of 1, 2"),
        ({"steps": (2,), "order": (1,)}, "ab2", "`order` is 2, but must be one of 1"),
        ({"steps": (2, 3), "order": (2,)}, "momentum", "`order` is 1, but must be one of 2"),
        ({"reflection": (-0.5, 0.5)}, "momentum", "`reflection` is -0.9, but must be from -0.5 to 0.5"),
        ({"reflection": (-0.5, 0.5)}, "midpoint", "`reflection` is 1, but must be from -0.5 to 0.5"),
        ({"reflection": (0.25, 0.25)}, "ab2", "`reflection` is 0, but must be from 0.25 to 0.25"),
        ({"narrowed": {"reflection_1": (0.25, 0.5)}}, "lm", "`reflection` is -0.05, but must be from 0.25 to 0.5"),
        (
            {"free_slopes": ("slopes",), "slope": (1, 2)},
            "momentum",
            "`free_slopes` is 'zero', but must be one of slopes",
        ),
        ({"learning": ("fixed",)}, "lm", "`learning` is 'learned', but must be one of fixed"),
        ({"steps": (2,), "learning": ("learned",)}, "ab2", "`learning` is 'fixed', but must be one of learned"),
        ({"sharing": ("channel",)}, "lm", "`sharing` is 'step', but must be one of channel"),
        ({"constraint": ("zero-stable",)}, "lm", "`constraint` is 'none', but must be one of zero-stable"),
        ({"scale": ("consistent",)}, "lm", "`scale` is 'absorbed', but must be one of consistent"),
        ({"start": ("euler",)}, "momentum", "`start` is 'copy', but must be one of euler"),
        ({"transition": ("project",)}, "lm", "`transition` is 'restart', but must be one of project"),
        ({"stochasticity": ("depth",)}, "euler", "`noise` is 'none', but must be one of depth"),
        ({"tying": ("steps",)}, "euler", "`tying` is 'none', but must be one of steps"),
        ({"tying": ("steps", "stages")}, "euler", "`tying` is 'none', but must be one of steps, stages"),
        ({"block": ("bottleneck",)}, "euler", "`block` is 'basic', but must be one of bottleneck"),
        ({"activation": ("gelu", "tanh")}, "euler", "`activation` is 'relu', but must be one of gelu, tanh"),
        ({"per_stage": (9,)}, "euler", "`per_stage` has no value"),
        ({"spread": 0.0}, "lm", "`coefficients` is Coefficients(learning='learned'"),
        ({"family": RUNGE_KUTTA}, "ab2", "its `tableau` is no Runge–Kutta method in Fractions"),
        (
            {},
            "nystrom3",
            "its `tableau` is not zero-stable, or has roots of ρ other than 1 both on the unit circle and",
        ),
        ({"family": RUNGE_KUTTA}, "rk4", "its coordinates have more than three decimals"),
        ({"family": RUNGE_KUTTA, "stages": (2, 4)}, "kutta3", "`stages` is 3, but must be one of 2, 4"),
        ({"family": RUNGE_KUTTA, "order": (1, 2)}, "kutta3", "`order` is 3, but must be one of 1, 2"),
        (
            {"family": RUNGE_KUTTA, "narrowed": {"rk22:c2": (0.5, 0.75)}},
            "heun2",
            "`rk22:c2` is 1, but must be from 0.5 to",
        ),
        ({"family": ("named",), "named": ("rk4", "ab2")}, "euler", "it has no name among those of the space"),
    ],
)
def test_known_schemes_outside_a_narrower_space_are_refused(fields: Any, outside: str, message: str) -> None:
    space = SearchSpace(**{"family": MULTISTEP, **fields})
    with pytest.raises(OdenasError, match=re.escape(f"the scheme lies outside the space: {message}")) as caught:
        space.encode(scheme(outside))
    assert "\n" not in str(caught.value)
    assert scheme(outside) not in space
    assert scheme(outside) in SearchSpace()


STATES = states_from_reflections([F(1, 3)])
CIRCLE4 = states_from_reflections([F(1, 2), F(1, 4), F(1)])


@pytest.mark.parametrize(
    ("outside", "field"),
    [
        (Scheme(Tableau.runge_kutta([[0, 0], [F(1, 8), 0]], [-3, 4]), Coefficients(order=2)), "c2"),
        (Scheme(RK4, Coefficients(order=4), tying="stages", blocks=Blocks(activation="tanh")), "activation"),
        (Scheme(Tableau(V=(1, 0), B=(1,), U=((F(3, 2), F(-1, 2)),))), "tableau"),
        (Scheme(Tableau.multistep((1.0, 0.0), (1.5, -0.5))), "tableau"),
        (Scheme(Tableau.multistep((2, -1), (F(1, 2), F(-1, 2))), Coefficients(constraint="none")), "tableau"),
        (Scheme(Tableau.multistep((-1, 2), (3,)), Coefficients(constraint="none")), "reflection"),
        (Scheme(Tableau.multistep((-4, 5), (4, 2)), Coefficients(order=3, constraint="none")), "order"),
        (Scheme(Tableau.multistep(STATES, slopes_of_order(STATES, [], 2)), Coefficients(order=2)), "tableau"),
        (Scheme(Tableau.multistep(CIRCLE4, slopes_of_order(CIRCLE4, [], 4)), Coefficients(order=4)), "reflection"),
        (Scheme(Tableau.multistep((1, 0), (4, -3))), "slope"),
        (Scheme(Tableau.multistep((1,), (1,)), start="copy"), "start"),
        (Scheme(Tableau.multistep((1,), (1,)), scale="absorbed"), "scale"),
        (Scheme(Tableau.multistep((1,), (1,)), transition="project"), "transition"),
        (Scheme(Tableau.multistep((1,), (1,)), blocks=Blocks("bottleneck")), "block"),
        (Scheme(Tableau.multistep((1,), (1,)), blocks=Blocks(per_stage=(3, 3, 3))), "blocks"),
        (Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.9)), "rate_depth"),
        (Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.1234)), "stochasticity"),
        (
            Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.25, "constant")),
            "growth",
        ),
        (Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("additive", 0.01)), "noise"),
        (Scheme(Tableau.multistep((1,), (1,)), Coefficients(sharing="shared")), "coefficients"),
        (Scheme(Tableau.multistep((1, *[0] * 5), (1,))), "steps"),
    ],
)
def test_other_schemes_are_refused_in_one_line(outside: Scheme, field: str) -> None:
    with pytest.raises(OdenasError, match=f"outside the space: .*`{field}`") as caught:
        SearchSpace().encode(outside)
    assert "\n" not in str(caught.value)
    assert outside not in SearchSpace()


def test_the_noise_is_part_of_what_lies_inside() -> None:
    calm = SearchSpace(stochasticity=("none",))
    assert scheme("ab2") in calm
    assert replace(scheme("ab2"), stochasticity=DEEP) not in calm
    assert SearchSpace().encode(replace(scheme("ab2"), stochasticity=DEEP))["rate_depth"] == 0.25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # Nothing left.
        ({"order": (2,)}, "`order` starts at 2, but a zero-stable explicit method of 1 step(s) has at most order 1"),
        ({"steps": (1, 2), "order": (3,)}, "(first Dahlquist barrier)"),
        ({"steps": (4,), "order": (5,)}, "`order` starts at 5, but a zero-stable explicit method of 4 step(s)"),
        (
            {"family": RUNGE_KUTTA, "stages": (2, 4), "order": (3, 4)},
            "`order` is [3, 4], but the coordinates of 2 stage(s) reach the orders 1, 2 (Butcher barrier: at most",
        ),
        ({"family": RUNGE_KUTTA, "stages": (6,), "order": (5,)}, "6 stage(s) reach the orders 1, 2, 3, 4"),
        ({"steps": (3,), "reflection": (1.0, 1.0)}, "`reflection` is [1.0, 1.0], but must start at 0.999 or below"),
        (
            {"steps": (2,), "reflection": (1.0, 1.0), "learning": ("fixed", "scheduled")},
            "`reflection` is [1.0, 1.0], but must start at 0.999 or below for a schedule's target",
        ),
        ({"learning": ("learned",)}, "`learning` is ['learned'], but with one step nothing can learn"),
        ({"named": ()}, "`named` is empty, but the family 'named' needs names of the catalogue"),
        ({"per_stage": (4, 9)}, "`per_stage` starts at 4, but must start at 5 or above"),
        ({"family": RUNGE_KUTTA, "per_stage": (1,)}, "`per_stage` starts at 1, but must start at 2 or above"),
        ({"family": ("named",), "named": ("ab4",), "per_stage": (3,)}, "`per_stage` starts at 3, but must start at 4"),
        # Empty, twice.
        ({"family": ()}, "`family` is [], but needs one or more different values"),
        ({"steps": ()}, "`steps` is [], but needs one or more different values"),
        ({"learning": []}, "`learning` is [], but needs one or more different values"),
        ({"order": (1, 1)}, "`order` is [1, 1], but needs one or more different values"),
        ({"named": ("rk4", "rk4")}, "`named` is ['rk4', 'rk4'], but needs one or more different values"),
        # Of another kind.
        ({"steps": (True,)}, "`steps` is True, but must be one of 1, 2, 3, 4, 5"),
        ({"steps": (1, True)}, "`steps` is True"),
        ({"steps": (2.0,)}, "`steps` is 2.0"),
        ({"steps": ("2",)}, "`steps` is '2'"),
        ({"steps": 2}, "`steps` is 2, but must be a list"),
        ({"steps": {1, 2}}, "`steps` is {1, 2}, but must be a list"),
        ({"steps": {1: 2}}, "`steps` is {1: 2}, but must be a list"),
        ({"steps": b"12"}, "`steps` is b'12', but must be a list"),
        ({"steps": None}, "`steps` is None, but must be a list"),
        ({"steps": ([1],)}, "`steps` is [1]"),
        ({"order": (np.int64(1),)}, "`order` is np.int64(1)"),
        ({"free_slopes": (True,)}, "`free_slopes` is True, but must be one of zero, slopes, errors"),
        ({"stochasticity": "depth"}, "`stochasticity` is 'depth', but must be a list"),
        ({"scale": "absorbed"}, "`scale` is 'absorbed', but must be a list"),
        ({"per_stage": 3}, "`per_stage` is 3, but must be a list"),
        ({"reflection": 0.5}, "`reflection` is [0.5], but must be two rising numbers"),
        ({"reflection": {0.1, 0.5}}, "but must be two rising numbers"),
        ({"reflection": b"\x00\x01"}, "but must be two rising numbers"),
        ({"reflection": ("-1/2", "1/2")}, "`reflection` is ['-1/2', '1/2'], but must be two rising numbers"),
        ({"reflection": (False, True)}, "`reflection` is [False, True], but must be two rising numbers"),
        ({"slope": (None, 1)}, "`slope` is [None, 1], but must be two rising numbers from -10.0 to 10.0"),
        ({"spread": True}, "`spread` is True, but must be a number from 0 to 1"),
        ({"spread": "much"}, "`spread` is 'much', but must be a number from 0 to 1"),
        ({"spread": None}, "`spread` is None"),
        ({"family": RUNGE_KUTTA, "spread": [0]}, "`spread` is [0], but must be a number from 0 to 1"),
        ({"bound": "all"}, "`bound` is 'all', but must be a number from 0.001 to 0.999"),
        ({"rates": 0.5}, "`rates` is 0.5, but must be a table of intervals by name"),
        ({"rates": {"depth": 0.5}}, "`rates.depth` is [0.5], but must be two rising numbers from 0.001 to 0.99"),
        ({"narrowed": [0, 1]}, "`narrowed` is [0, 1], but must be a table of intervals by name"),
        ({"narrowed": {5: (0, 1)}}, "`narrowed` has the key 5, but needs names of coordinates"),
        ({"narrowed": {"a\nb": (1, 0)}}, r"`narrowed` has the key 'a\nb', but needs names of coordinates"),
        ({"narrowed": {"slope_1": 1}}, "`narrowed.slope_1` is [1], but must be two rising numbers"),
        # Out of range.
        ({"steps": (0,)}, "`steps` is 0"),
        ({"steps": (6,)}, "`steps` is 6, but must be one of 1, 2, 3, 4, 5"),
        ({"stages": (7,)}, "`stages` is 7, but must be one of 1, 2, 3, 4, 5, 6"),
        ({"order": (1, 9)}, "`order` is 9"),
        ({"per_stage": (0,)}, "`per_stage` is 0"),
        ({"reflection": (-1, 1)}, "`reflection` is [-1, 1], but must be two rising numbers from -0.999 to 1.0"),
        ({"reflection": (0, 1.5)}, "`reflection` is [0, 1.5]"),
        ({"reflection": (0.5, -0.5)}, "but must be two rising numbers"),
        ({"reflection": (0.5,)}, "`reflection` is [0.5], but must be two rising numbers"),
        ({"reflection": (0, 0.5, 1)}, "`reflection` is [0, 0.5, 1]"),
        ({"reflection": (float("nan"), 1)}, "`reflection` is [nan, 1]"),
        ({"reflection": (0.0001, 0.5)}, "`reflection` is [0.0001, 0.5], but its ends must have at most three decimals"),
        ({"slope": (0, float("inf"))}, "`slope` is [0, inf]"),
        ({"error": (-11, 0)}, "`error` is [-11, 0], but must be two rising numbers from -10.0 to 10.0"),
        (
            {"rates": {"depth": (0, 0.5)}},
            "`rates.depth` is [0, 0.5], but must be two rising numbers from 0.001 to 0.99",
        ),
        ({"rates": {"shake": (0.1, 1.5)}}, "`rates.shake` is [0.1, 1.5]"),
        ({"spread": 1.5}, "`spread` is 1.5, but must be a number from 0 to 1"),
        ({"spread": float("nan")}, "`spread` is nan"),
        ({"bound": 1.0}, "`bound` is 1.0, but must be a number from 0.001 to 0.999"),
        # Unknown, with the nearest name.
        (
            {"family": ("runge_kutta",)},
            "`family` is 'runge_kutta', but must be one of multistep, runge-kutta, named; did",
        ),
        ({"named": ("rk5",)}, "did you mean 'rk4'?"),
        (
            {"learning": ("learnt",)},
            "`learning` is 'learnt', but must be one of fixed, scheduled, learned; did you mean",
        ),
        ({"sharing": ("chanel",)}, "did you mean 'channel'?"),
        ({"constraint": ("zero_stable",)}, "did you mean 'zero-stable'?"),
        ({"scale": ("absorb",)}, "did you mean 'absorbed'?"),
        ({"start": ("copied",)}, "`start` is 'copied', but must be one of euler, copy; did you mean 'copy'?"),
        ({"start": ("one\ntwo",)}, r"`start` is 'one\ntwo'"),
        ({"block": ("bottle",)}, "did you mean 'bottleneck'?"),
        ({"rates": {"deep": (0.1, 0.2)}}, "`key of rates` is 'deep', but must be one of depth, shake"),
    ],
)
def test_spaces_that_cannot_be_are_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        SearchSpace(**fields)
    assert "\n" not in str(caught.value)


@settings(deadline=None, database=None)
@given(
    st.sampled_from([*SearchSpace.CHOICES, "reflection", "slope", "error", "spread", "bound", "rates", "narrowed"]),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-2, 7), st.floats(), st.text(max_size=4)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["depth", "slope_1", "rk22:c2"]) | st.text(max_size=3), inner, max_size=2)
        ),
        max_leaves=5,
    ),
)
def test_arbitrary_values_of_a_field_are_taken_or_refused_in_one_line(field: str, value: Any) -> None:
    message, space = "", None
    try:
        space = SearchSpace(**{field: value})
    except OdenasError as error:
        message = str(error)
    if space is None:
        assert len(message.splitlines()) == 1
        assert f"`{field}" in message or f"key of {field}" in message or "Dahlquist" in message
        return
    for s, asked in drawn(space, 3):
        check(space, s, asked)
