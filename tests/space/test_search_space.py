"""The search space: every draw is feasible, encode and suggest undo each other, fields hold, nonsense is refused."""

from __future__ import annotations

import pickle
import re
import tomllib
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odenas.space import Coefficients, OdenasError, Scheme, SearchSpace, Stochasticity, Tableau, scheme
from odenas.space.feasible import reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.integrate import RK4
from odenas.space.order import order
from odenas.space.zero_stability import zero_stable

F = Fraction
ALL = (1, 2, 3, 4, 5)
WIDE = SearchSpace(steps=ALL, order=ALL, reflection=(-0.999, 1.0), slope=(-10.0, 10.0), drop=(0.001, 0.99))
SPACES = {"default": SearchSpace(), "wide": WIDE}
DEEP = Stochasticity("depth", 0.25)

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Uniform:
    """A trial that draws uniformly and notes what it was asked for: Optuna's random sampler without its bookkeeping."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.params[name] = choices[int(self.rng.integers(len(choices)))]
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        self.params[name] = float(self.rng.uniform(low, high))
        return float(self.params[name])


class Chosen:
    """A trial whose answers Hypothesis chooses, with a liking for the ends of the intervals."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices), label=name)

    def suggest_float(self, name: str, low: float, high: float) -> float:
        ends = st.sampled_from([low, high, float(np.nextafter(low, high)), float(np.nextafter(high, low))])
        return float(self.data.draw(st.one_of(ends, st.floats(low, high)), label=name))


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[Scheme]:
    trial = Uniform(seed)
    return [space.suggest(trial) for _ in range(count)]


def check(space: SearchSpace, s: Scheme) -> None:
    """Assert the laws of a draw, with what is proved computed anew from its tableau."""
    steps, stated = s.tableau.steps, s.coefficients.order
    assert s.tableau.exact
    assert s.tableau.is_multistep
    assert zero_stable(s.tableau)
    assert stated <= order(s.tableau) <= steps
    assert steps in space.steps
    assert stated in space.order
    parameters = space.encode(s)
    assert space.suggest(optuna.trial.FixedTrial(parameters)) == s
    assert s in space


# Feasibility.


@pytest.mark.parametrize("name", SPACES)
def test_draws_of_the_random_sampler_are_feasible(name: str) -> None:
    space = SPACES[name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(400):
        check(space, space.suggest(study.ask()))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("multivariate", [False, True])
def test_draws_of_the_tree_structured_parzen_estimator_are_feasible(multivariate: bool) -> None:
    space = SPACES["default"]
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=5, multivariate=multivariate, group=multivariate)
    study = optuna.create_study(sampler=sampler)
    for _ in range(60):
        trial = study.ask()
        s = space.suggest(trial)
        check(space, s)
        study.tell(trial, s.error_constant + s.coefficients.order)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_draws_are_feasible(name: str, seed: int) -> None:
    space = SPACES[name]
    for s in drawn(space, 1500, seed):
        assert zero_stable(s.tableau)
        assert s.coefficients.order <= order(s.tableau) <= s.tableau.steps


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_many_thousands_of_draws_are_feasible(name: str) -> None:
    for s in drawn(SPACES[name], 8_000, 3):
        check(SPACES[name], s)


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(sorted(SPACES)))
def test_the_ends_of_the_intervals_are_feasible(data: st.DataObject, name: str) -> None:
    check(SPACES[name], SPACES[name].suggest(Chosen(data)))


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_every_narrower_space_draws_what_it_allows(data: st.DataObject) -> None:
    """Any subspace that is accepted draws feasible schemes within its own bounds, and knows them again."""
    fields: dict[str, Any] = {}
    for field, valid in SearchSpace.CHOICES.items():
        fields[field] = data.draw(st.lists(st.sampled_from(list(valid)), min_size=1, unique=True), label=field)
    for field, low, high in (("reflection", -999, 1000), ("slope", -10_000, 10_000), ("drop", 1, 990)):
        ends = data.draw(st.lists(st.integers(low, high), min_size=2, max_size=2).map(sorted), label=field)
        fields[field] = [end / 1000 for end in ends]
    steps = fields["steps"]
    barred = min(fields["order"]) > min(steps) or (max(steps) > 2 and fields["reflection"][0] > 0.999)
    if barred or (1 in steps and "fixed" not in fields["learning"]):
        with pytest.raises(OdenasError):
            SearchSpace(**fields)
        return
    space = SearchSpace(**fields)
    for seed in range(3):
        s = space.suggest(Uniform(seed))
        check(space, s)
        kappas = reflections_from_states([F(v) for v in s.tableau.V])
        free = s.tableau.slopes[s.coefficients.order :]
        assert all(space.reflection[0] <= float(kappa) <= space.reflection[1] for kappa in kappas)
        assert not any(free) or all(space.slope[0] <= float(b) <= space.slope[1] for b in free)
        assert s.stochasticity.rate == 0 or space.drop[0] <= s.stochasticity.rate <= space.drop[1]


@pytest.mark.parametrize("name", SPACES)
def test_all_roots_are_in_the_disc_and_the_powers_stay_bounded(name: str) -> None:
    """Companion matrices: their eigenvalues, and for the default space their powers up to 500 and up to 2²⁰.

    There q(1) = Π(1 + κ_i) ≥ 0.0025, so that a constant perturbation leaves at most 2/0.0025 = 800; a double root on
    the circle would leave 10⁶, a root of modulus 1.001 more than 10¹⁰⁰.
    """
    draws = drawn(SPACES[name], 1200, 4)
    matrices = np.zeros((len(draws), 5, 5))
    matrices[:, 1:, :-1] = np.eye(4)
    for matrix, s in zip(matrices, draws, strict=True):
        matrix[0, : s.tableau.steps] = [float(v) for v in s.tableau.V]
    assert abs(np.linalg.eigvals(matrices)).max() <= 1 + 1e-6
    if name == "wide":
        return
    powers, squares, largest = matrices, matrices, 0.0
    for _ in range(500):
        largest = max(largest, float(abs(powers).sum(axis=-1).max()))
        powers = powers @ matrices
    for _ in range(20):
        squares = squares @ squares
        largest = max(largest, float(abs(squares).sum(axis=-1).max()))
    assert largest < 1000


def test_nothing_is_left_out() -> None:
    """Every choice is drawn, alone and in company, and the intervals are filled to their ends."""
    space = SearchSpace()
    draws = drawn(space, 2000, 5)
    several = [s for s in draws if s.tableau.steps > 1]
    assert Counter((s.tableau.steps, s.coefficients.order) for s in draws).keys() == {
        (k, p) for k in space.steps for p in space.order if p <= k
    }
    assert {(s.scale, s.start) for s in several} == {(a, b) for a in space.scale for b in space.start}
    learned = {s.coefficients for s in several if s.coefficients.learning == "learned"}
    assert {(c.sharing, c.constraint) for c in learned} == {(a, b) for a in space.sharing for b in space.constraint}
    assert {s.stochasticity.kind for s in draws} == {"none", "depth"}
    kappas = [float(s.tableau.V[1]) for s in draws if s.tableau.steps == 2]
    assert [min(kappas), max(kappas)] == pytest.approx([-0.95, 1.0], abs=0.02)
    rates = [s.stochasticity.rate for s in draws if s.stochasticity.rate]
    assert [min(rates), max(rates)] == pytest.approx([0.05, 0.5], abs=0.01)
    complex_pairs = [s for s in draws if s.tableau.steps == 3 and np.iscomplex(np.roots(np.r_[1, -floats(s)])).any()]
    assert complex_pairs


def floats(s: Scheme) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(v) for v in s.tableau.V])


def test_one_step_leaves_forward_euler() -> None:
    for s in drawn(SearchSpace(steps=(1,), order=(1,)), 50):
        assert replace(s, stochasticity=Stochasticity()) == scheme("euler")


# Encode and suggest.


@pytest.mark.parametrize("name", SPACES)
def test_encode_returns_what_was_asked_for(name: str) -> None:
    """The parameters of the trial again, to the three decimals that are kept."""
    space = SPACES[name]
    for seed in range(300):
        trial = Uniform(seed)
        s = space.suggest(trial)
        found = space.encode(s)
        asked = trial.params
        if asked.get("free_slopes") and not any(s.tableau.slopes[s.coefficients.order :]):
            continue  # slopes that all round to 0 are none
        assert found.keys() == asked.keys()
        for key, value in asked.items():
            if isinstance(value, float):
                assert found[key] == pytest.approx(value, abs=0.00051)
            else:
                assert found[key] == value


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_encode_of_a_suggested_scheme_suggests_it(data: st.DataObject) -> None:
    s = WIDE.suggest(Chosen(data))
    parameters = WIDE.encode(s)
    again = WIDE.suggest(optuna.trial.FixedTrial(parameters))
    assert again == s
    assert WIDE.encode(again) == parameters


def test_encoded_parameters_can_be_enqueued() -> None:
    space = SearchSpace()
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    known = [scheme(name) for name in ("lm", "ab3", "momentum", "midpoint")]
    for s in known:
        study.enqueue_trial(space.encode(s))
    assert [space.suggest(study.ask()) for _ in known] == known


def test_slopes_of_zero_are_known_where_free_slopes_are_a_must() -> None:
    space = SearchSpace(steps=(2,), order=(1,), free_slopes=(True,))
    states = states_from_reflections([F(1, 4)])
    s = Scheme(Tableau.multistep(states, slopes_of_order(states, [F(0)], 1)))
    assert space.suggest(optuna.trial.FixedTrial(space.encode(s))) == s


# Fields.


def holds(field: str, value: Any, s: Scheme) -> bool:
    """Whether a drawn scheme has this value, where the field means something for it."""
    c, steps = s.coefficients, s.tableau.steps
    found: dict[str, Any] = {
        "steps": steps,
        "order": c.order,
        "free_slopes": any(s.tableau.slopes[c.order :]) if c.order < steps else value,
        "scale": s.scale if steps > 1 else value,
        "start": s.start if steps > 1 else value,
        "learning": c.learning if steps > 1 else value,
        "sharing": c.sharing if c.learning == "learned" else value,
        "constraint": c.constraint if c.learning == "learned" else value,
        "stochastic_depth": s.stochasticity.kind == "depth",
    }
    return bool(found[field] == value)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, valid in SearchSpace.CHOICES.items() for value in valid]
)
def test_a_field_of_one_value_holds_in_every_draw(field: str, value: Any) -> None:
    fields: dict[str, Any] = {field: (value,)}
    if field == "steps":
        fields["order"] = tuple(range(1, value + 1))
    if field == "order":
        fields["steps"] = tuple(range(value, 6))
    if field == "learning":
        fields["steps"] = (2, 3)
    space = SearchSpace(**fields)
    trial = Uniform(6)
    draws = [space.suggest(trial) for _ in range(60)]
    assert all(holds(field, value, s) for s in draws)
    assert field not in trial.params
    for s in draws[:10]:
        assert space.suggest(optuna.trial.FixedTrial(space.encode(s))) == s


@pytest.mark.parametrize("value", [-0.95, -0.001, 0.0, 0.5, 0.999])
def test_a_reflection_of_one_value_holds_in_every_draw(value: float) -> None:
    space = SearchSpace(steps=(2, 3, 4), reflection=(value, value))
    for s in drawn(space, 60):
        assert set(reflections_from_states([F(v) for v in s.tableau.V])) == {F(round(1000 * value), 1000)}
        assert not any(key.startswith("reflection") for key in space.encode(s))


def test_other_intervals_of_one_value() -> None:
    space = SearchSpace(steps=(3,), order=(1,), free_slopes=(True,), slope=(-2.5, -2.5), drop=(0.3, 0.3), spread=0.25)
    for s in drawn(space, 60):
        assert s.tableau.slopes[1:] == (F(-5, 2), F(-5, 2))
        assert s.stochasticity.rate in (0, 0.3)
        assert s.coefficients.spread == (0.25 if s.coefficients.learning == "learned" else 0)


def test_the_midpoint_is_the_end_of_the_interval() -> None:
    space = SearchSpace(steps=(2,), order=(2,), reflection=(1, 1), learning=("fixed",), stochastic_depth=(False,))
    assert {s.tableau for s in drawn(space, 20)} == {scheme("midpoint").tableau}
    assert space.encode(scheme("midpoint")) == {"scale": "consistent", "start": "euler"}


def test_one_as_the_last_coefficient_is_for_up_to_three_steps() -> None:
    """With more, other coefficients before it make the same scheme, and `encode` would not find those drawn."""
    space = SearchSpace(steps=(2, 3, 4, 5), order=(1,), reflection=(0.998, 1.0))
    last: dict[int, set[Fraction]] = {k: set() for k in space.steps}
    for s in drawn(space, 250, 7):
        check(space, s)
        last[s.tableau.steps].add(reflections_from_states([F(v) for v in s.tableau.V])[-1])
    assert {k: max(kappas) for k, kappas in last.items()} == {2: 1, 3: 1, 4: F(999, 1000), 5: F(999, 1000)}


def test_a_table_of_a_toml_file() -> None:
    text = """
        steps = [2, 3]
        order = [2]
        reflection = [-0.5, 1]
        learning = ["learned"]
        sharing = ["step", "channel"]
        stochastic_depth = [true]
        drop = [0.1, 0.2]
        spread = 0
    """
    space = SearchSpace(**tomllib.loads(text))
    same = SearchSpace(
        steps=(2, 3),
        order=(2,),
        reflection=(-0.5, 1.0),
        learning=("learned",),
        sharing=("step", "channel"),
        stochastic_depth=(True,),
        drop=(0.1, 0.2),
        spread=0.0,
    )
    assert space == same
    assert hash(space) == hash(same)
    assert pickle.loads(pickle.dumps(space)) == space
    for s in drawn(space, 50):
        check(space, s)
        assert s.coefficients.learning == "learned"
        assert s.coefficients.sharing in ("step", "channel")
        assert 0.1 <= s.stochasticity.rate <= 0.2


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
        ({"free_slopes": (True,), "slope": (1, 2)}, "momentum", "`slope` is 0, but must be from 1 to 2"),
        ({"learning": ("fixed",)}, "lm", "`learning` is 'learned', but must be one of fixed"),
        ({"steps": (2,), "learning": ("learned",)}, "ab2", "`learning` is 'fixed', but must be one of learned"),
        ({"sharing": ("channel",)}, "lm", "`sharing` is 'step', but must be one of channel"),
        ({"constraint": ("zero-stable",)}, "lm", "`constraint` is 'none', but must be one of zero-stable"),
        ({"scale": ("consistent",)}, "lm", "`scale` is 'absorbed', but must be one of consistent"),
        ({"start": ("euler",)}, "momentum", "`start` is 'copy', but must be one of euler"),
        ({"stochastic_depth": (True,)}, "euler", "`stochastic_depth` is False, but must be one of True"),
        ({"spread": 0.0}, "lm", "`coefficients` is Coefficients(learning='learned'"),
    ],
)
def test_known_schemes_outside_a_narrower_space_are_refused(fields: Any, outside: str, message: str) -> None:
    space = SearchSpace(**fields)
    with pytest.raises(OdenasError, match=re.escape(f"the scheme lies outside the space: {message}")) as caught:
        space.encode(scheme(outside))
    assert "\n" not in str(caught.value)
    assert scheme(outside) not in space
    assert scheme(outside) in SearchSpace()


STATES = states_from_reflections([F(1, 3)])
NYSTROM3 = Tableau.multistep((0, 1), ("7/3", "-2/3", "1/3"))


@pytest.mark.parametrize(
    ("outside", "field"),
    [
        (Scheme(RK4, Coefficients(order=4)), "tableau"),
        (Scheme(Tableau(V=(1, 0), B=(1,), U=((F(3, 2), F(-1, 2)),))), "tableau"),
        (Scheme(Tableau.multistep((1.0, 0.0), (1.5, -0.5))), "tableau"),
        (Scheme(NYSTROM3, Coefficients(order=3)), "tableau"),
        (Scheme(Tableau.multistep((2, -1), (F(1, 2), F(-1, 2))), Coefficients(constraint="none")), "tableau"),
        (Scheme(Tableau.multistep((-1, 2), (3,)), Coefficients(constraint="none")), "reflection"),
        (Scheme(Tableau.multistep((-4, 5), (4, 2)), Coefficients(order=3, constraint="none")), "order"),
        (Scheme(Tableau.multistep(STATES, slopes_of_order(STATES, [], 2)), Coefficients(order=2)), "tableau"),
        (Scheme(Tableau.multistep((1, 0), (4, -3))), "slope"),
        (Scheme(Tableau.multistep((1,), (1,)), start="copy"), "start"),
        (Scheme(Tableau.multistep((1,), (1,)), scale="absorbed"), "scale"),
        (Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.9)), "drop"),
        (Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.1234)), "stochasticity"),
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
    calm = SearchSpace(stochastic_depth=(False,))
    assert scheme("ab2") in calm
    assert replace(scheme("ab2"), stochasticity=DEEP) not in calm
    assert SearchSpace().encode(replace(scheme("ab2"), stochasticity=DEEP))["drop"] == 0.25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # Nothing left.
        ({"order": (2,)}, "`order` starts at 2, but a zero-stable explicit method of 1 step(s) has at most order 1"),
        ({"steps": (1, 2), "order": (3,)}, "(first Dahlquist barrier)"),
        ({"steps": (4,), "order": (5,)}, "`order` starts at 5, but a zero-stable explicit method of 4 step(s)"),
        ({"steps": (3,), "reflection": (1.0, 1.0)}, "`reflection` is [1.0, 1.0], but must start at 0.999 or below"),
        ({"learning": ("learned",)}, "`learning` is ['learned'], but with one step nothing can learn"),
        # Empty, twice.
        ({"steps": ()}, "`steps` is [], but needs one or more different values"),
        ({"learning": []}, "`learning` is [], but needs one or more different values"),
        ({"order": (1, 1)}, "`order` is [1, 1], but needs one or more different values"),
        # Of another kind.
        ({"steps": (True,)}, "`steps` is True, but must be one of 1, 2, 3, 4, 5"),
        ({"steps": (1, True)}, "`steps` is True"),
        ({"steps": (2.0,)}, "`steps` is 2.0"),
        ({"steps": ("2",)}, "`steps` is '2'"),
        ({"steps": 2}, "`steps` is 2, but must be a list"),
        ({"steps": None}, "`steps` is None, but must be a list"),
        ({"steps": ([1],)}, "`steps` is [1]"),
        ({"order": (np.int64(1),)}, "`order` is np.int64(1)"),
        ({"free_slopes": (1,)}, "`free_slopes` is 1, but must be one of False, True"),
        ({"stochastic_depth": True}, "`stochastic_depth` is True, but must be a list"),
        ({"stochastic_depth": ("yes",)}, "`stochastic_depth` is 'yes'"),
        ({"scale": "absorbed"}, "`scale` is 'absorbed', but must be a list"),
        ({"reflection": 0.5}, "`reflection` is 0.5, but must be a list"),
        ({"reflection": ("-1/2", "1/2")}, "`reflection` is ['-1/2', '1/2'], but must be two rising numbers"),
        ({"reflection": (False, True)}, "`reflection` is [False, True], but must be two rising numbers"),
        ({"slope": (None, 1)}, "`slope` is [None, 1], but must be two rising numbers from -10.0 to 10.0"),
        ({"spread": True}, "`spread` is True, but must be a number from 0 to 1"),
        ({"spread": "much"}, "`spread` is 'much', but must be a number from 0 to 1"),
        ({"spread": None}, "`spread` is None"),
        # Out of range.
        ({"steps": (0,)}, "`steps` is 0"),
        ({"steps": (6,)}, "`steps` is 6, but must be one of 1, 2, 3, 4, 5"),
        ({"order": (1, 9)}, "`order` is 9"),
        ({"reflection": (-1, 1)}, "`reflection` is [-1, 1], but must be two rising numbers from -0.999 to 1.0"),
        ({"reflection": (0, 1.5)}, "`reflection` is [0, 1.5]"),
        ({"reflection": (0.5, -0.5)}, "but must be two rising numbers"),
        ({"reflection": (0.5,)}, "`reflection` is [0.5], but must be two rising numbers"),
        ({"reflection": (0, 0.5, 1)}, "`reflection` is [0, 0.5, 1]"),
        ({"reflection": (float("nan"), 1)}, "`reflection` is [nan, 1]"),
        ({"reflection": (0.0001, 0.5)}, "`reflection` is [0.0001, 0.5], but its ends must have at most three decimals"),
        ({"slope": (0, float("inf"))}, "`slope` is [0, inf]"),
        ({"drop": (0, 0.5)}, "`drop` is [0, 0.5], but must be two rising numbers from 0.001 to 0.99"),
        ({"drop": (0.1, 1.0)}, "`drop` is [0.1, 1.0]"),
        ({"spread": 1.5}, "`spread` is 1.5, but must be a number from 0 to 1"),
        ({"spread": float("nan")}, "`spread` is nan"),
        # Unknown, with the nearest name.
        (
            {"learning": ("learnt",)},
            "`learning` is 'learnt', but must be one of fixed, learned; did you mean 'learned'",
        ),
        ({"sharing": ("chanel",)}, "did you mean 'channel'?"),
        ({"constraint": ("zero_stable",)}, "did you mean 'zero-stable'?"),
        ({"scale": ("absorb",)}, "did you mean 'absorbed'?"),
        ({"start": ("copied",)}, "`start` is 'copied', but must be one of euler, copy; did you mean 'copy'?"),
        ({"start": ("one\ntwo",)}, r"`start` is 'one\ntwo'"),
    ],
)
def test_spaces_that_cannot_be_are_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        SearchSpace(**fields)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(
    st.sampled_from([*SearchSpace.CHOICES, "reflection", "slope", "drop", "spread"]),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-2, 7), st.floats(), st.text(max_size=4)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
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
        assert f"`{field}`" in message or "Dahlquist" in message
        return
    for s in drawn(space, 3):
        check(space, s)
