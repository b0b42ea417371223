"""How a space asks: what is settled is not asked for, single coordinates are narrowed, and its size is counted."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from odenas.space import OdenasError, SearchSpace, Tableau
from odenas.space.ask import Ask, Enumerator, Recorder, Uniform, field
from odenas.space.blocks import ACTIVATIONS, OF_ALL_METHODS
from odenas.space.catalogue import scheme
from odenas.space.feasible import reflections_from_states
from odenas.space.feasible_runge_kutta import RUNGE_KUTTA_FAMILIES
from odenas.space.intervals import interval
from odenas.space.search_space import NAMED
from odenas.space.stochasticity import GROWTHS, STOCHASTICITIES

F = Fraction
FULL = SearchSpace(
    stochasticity=tuple(STOCHASTICITIES),
    growth=tuple(GROWTHS),
    block=OF_ALL_METHODS,
    activation=tuple(ACTIVATIONS),
    per_stage=(5, 6, 18),
)


class Asked(Exception):
    """A choice that nobody has made yet."""

    def __init__(self, name: str, choices: list[Any]) -> None:
        self.name, self.choices = name, choices


class Given:
    """A trial with some choices made, that stops at the first other; coordinates are random."""

    def __init__(self, choices: dict[str, Any]) -> None:
        self.choices = choices
        self.coordinates: dict[str, float] = {}
        self.rng = np.random.default_rng(0)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if name not in self.choices:
            raise Asked(name, choices)
        return self.choices[name]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        self.coordinates[name] = float(self.rng.uniform(low, high))
        return self.coordinates[name]


def leaves(space: SearchSpace) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield every combination of choices, found by asking for one more at a time, and its coordinates' names."""
    waiting: list[dict[str, Any]] = [{}]
    while waiting:
        trial = Given(waiting.pop())
        try:
            space.suggest(trial)
        except Asked as asked:
            waiting += [{**trial.choices, asked.name: choice} for choice in asked.choices]
        else:
            yield trial.choices, list(trial.coordinates)


# Size.

SMALL: dict[str, SearchSpace] = {
    "two steps": SearchSpace(family=("multistep",), steps=(1, 2), order=(1, 2), sharing=("step",)),
    "three steps, narrowed": SearchSpace(
        family=("multistep",),
        steps=(3,),
        order=(1, 3),
        learning=("fixed", "scheduled"),
        stochasticity=("none",),
        tying=("none",),
        narrowed={"slope_2": (0.5, 0.5), "target_1": (0.0, 0.0), "error_3": (-0.1, 0.1)},
    ),
    "midpoint": SearchSpace(
        family=("multistep",), steps=(2,), order=(2,), reflection=(1, 1), learning=("fixed",), tying=("none", "stages")
    ),
    "slopes from 0 on": SearchSpace(
        family=("multistep",), steps=(2,), order=(1,), free_slopes=("slopes",), slope=(0, 0.5), learning=("fixed",)
    ),
    "Runge–Kutta": SearchSpace(family=("runge-kutta",), stages=(1, 2, 3, 4), order=(2, 3, 1)),
    "Heun 2 alone": SearchSpace(
        family=("runge-kutta",),
        stages=(2,),
        order=(2,),
        narrowed={"rk22:c2": (1, 1)},
        stochasticity=("none", "shake", "depth"),
    ),
    "named": SearchSpace(
        family=("named",),
        named=("euler", "heun2", "lm", "euler_maruyama_additive", "backward_euler_fixed_point"),
        stochasticity=("shake", "additive"),
        growth=("linear", "constant"),
        rates={"additive": (0.5, 0.5)},
    ),
    "blocks": SearchSpace(
        family=("named",), named=("euler",), block=OF_ALL_METHODS, activation=("relu", "tanh"), per_stage=(1, 2, 9)
    ),
    "all families": SearchSpace(
        steps=(2,), stages=(4,), order=(1, 2), named=("ab2", "rk4"), sharing=("step",), scale=("absorbed",)
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_size_is_what_going_through_all_choices_finds(name: str) -> None:
    found = list(leaves(SMALL[name]))
    kinds = [[field(key).partition(":")[0] for key in names] for _, names in found]
    size = SMALL[name].size()
    assert size.configurations == len(found) == len({tuple(sorted(map(repr, c.items()))) for c, _ in found})
    assert size.largest == max(map(len, kinds))
    assert size.dimensions == {kind: max(row.count(kind) for row in kinds) for row in kinds for kind in row}


def test_the_size_of_the_default_space_is_the_sum_over_its_families() -> None:
    """With tying and noise 2 · 2, or where a step has several stages 3 · 2."""
    learning = 1 + 1 + 3 * 3
    pairs = [(k, p) for k in range(2, 6) for p in range(1, k + 1)]
    # Of order 1 with slopes of weight 0, history may be projected: one choice more.
    multistep = 1 + sum((3 if p < k else 1) + (p == 1) for k, p in pairs) * learning * 2 * 2
    runge_kutta = sum(family.stages > 1 for family in RUNGE_KUTTA_FAMILIES.values())
    named = [scheme(name) for name in NAMED]
    tyings = sum(1 if s.tying != "none" else 2 if s.tableau.stages == 1 else 3 for s in named)
    size = SearchSpace().size()
    assert size.configurations == multistep * 2 * 2 + runge_kutta * 3 * 2 + tyings * 2
    assert size.dimensions["reflection"] == size.dimensions["target"] == 4
    assert size.dimensions["slope"] == size.dimensions["error"] == 4
    assert {name: size.dimensions[name] for name in RUNGE_KUTTA_FAMILIES if name != "rk11"} == {
        name: family.free for name, family in RUNGE_KUTTA_FAMILIES.items() if name != "rk11"
    }
    assert size.largest == RUNGE_KUTTA_FAMILIES["rk61"].free + 1  # and a rate


def test_the_size_is_found_at_once() -> None:
    started = time.perf_counter()
    assert FULL.size().configurations > 10**6
    assert time.perf_counter() - started < 5  # a twentieth of a second, where nothing else runs


def test_a_space_of_one_scheme_asks_for_nothing() -> None:
    space = SearchSpace(family=("named",), named=("ab2",), tying=("none",), stochasticity=("none",))
    assert space.size() == (1, {}, 0)
    assert space.suggest(Given({})) == scheme("ab2")
    assert space.encode(scheme("ab2")) == {}


# Narrowed coordinates.


def test_narrowed_coordinates_stay_inside_and_others_do_not_change() -> None:
    narrowed = {
        "reflection_2": (0.5, 0.75),
        "slope_1": (0.25, 0.25),
        "rate_depth": (0.2, 0.25),
        "rk22:c2": (0.5, 0.625),
    }
    space = replace(FULL, family=("multistep", "runge-kutta"), narrowed=narrowed)
    rng = np.random.default_rng(0)
    seen: dict[str, set[Fraction]] = {"reflection_1": set(), "reflection_2": set(), "c2": set(), "slope_1": set()}
    rates = set()
    for s in (space.draw(rng) for _ in range(300)):
        tableau = s.tableau
        assert isinstance(tableau, Tableau)
        if tableau.is_multistep:
            kappas = reflections_from_states([F(v) for v in tableau.V])
            for i, kappa in enumerate(kappas[:2], start=1):
                seen[f"reflection_{i}"].add(kappa)
        elif (tableau.stages, s.coefficients.order) == (2, 2):
            seen["c2"].add(F(tableau.abscissae[1]))
        if s.stochasticity.kind == "depth":
            rates.add(s.stochasticity.rate)
        assert s in space
    assert F(1, 2) <= min(seen["reflection_2"]) < max(seen["reflection_2"]) <= F(3, 4)
    assert min(seen["reflection_1"]) < F(-1, 2) < F(9, 10) < max(seen["reflection_1"])
    assert F(1, 2) <= min(seen["c2"]) < max(seen["c2"]) <= F(5, 8)
    assert 0.2 <= min(rates) < max(rates) <= 0.25


def test_a_coordinate_narrowed_to_a_point_is_settled() -> None:
    space = SearchSpace(family=("multistep",), steps=(2,), narrowed={"reflection_1": (-0.05, -0.05)})
    for s in (space.draw(np.random.default_rng(seed)) for seed in range(20)):
        assert isinstance(s.tableau, Tableau)
        assert list(s.tableau.V) == [F(21, 20), F(-1, 20)]
        assert "reflection_1" not in space.encode(s)
    assert "reflection" not in space.size().dimensions
    assert scheme("lm") in space
    assert scheme("momentum") not in space


def test_an_interval_may_reach_beyond_the_coordinates_own() -> None:
    assert SearchSpace(narrowed={"reflection_1": (-5, 0.5)}).encode(scheme("lm"))["reflection_1"] == -0.05
    assert SearchSpace(narrowed={"reflection_1": (0.5, 1.0)}).narrowed == {"reflection_1": (0.5, 1.0)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"narrowed": {"reflection_7": (0, 1)}},
            "`narrowed` has the key 'reflection_7', but needs names of this space's coordinates, such as reflection_",
        ),
        ({"narrowed": {"reflection": (0, 1)}}, "`narrowed` has the key 'reflection', but needs names of"),
        ({"narrowed": {"steps": (1, 2)}}, "`narrowed` has the key 'steps', but needs names of"),
        # Coordinates that only other choices have.
        (
            {"steps": (1, 2), "order": (1,), "narrowed": {"slope_2": (0, 1)}},
            "`narrowed` has the key 'slope_2', but needs",
        ),
        ({"free_slopes": ("zero",), "narrowed": {"error_2": (0, 1)}}, "`narrowed` has the key 'error_2', but needs"),
        ({"learning": ("fixed",), "narrowed": {"target_1": (0, 1)}}, "`narrowed` has the key 'target_1', but needs"),
        ({"family": ("named",), "narrowed": {"rk22:c2": (0, 1)}}, "`narrowed` has the key 'rk22:c2', but needs names"),
        ({"stochasticity": ("none",), "narrowed": {"rate_depth": (0.1, 0.2)}}, "`narrowed` has the key 'rate_depth'"),
        # Nothing in common with their own interval.
        (
            {"reflection": (-0.5, 0.5), "narrowed": {"reflection_1": (0.75, 1)}},
            "`narrowed.reflection_1` is [0.75, 1], but must meet [-0.5, 0.5]: nothing is left",
        ),
        (
            {"narrowed": {"rk44:c2": (0.5, 1)}},
            "`narrowed.rk44:c2` is [0.5, 1], but must meet [0.2, 0.4]: nothing is left",
        ),
        ({"narrowed": {"rate_depth": (0.75, 1)}}, "`narrowed.rate_depth` is [0.75, 1], but must meet [0.05, 0.5]"),
        (
            {
                "stochasticity": ("shake",),
                "family": ("named",),
                "named": ("euler", "heun2"),
                "narrowed": {"rate_shake": (2, 3)},
            },
            "`narrowed.rate_shake` is [2, 3], but must meet [0.1, 1.0]: nothing is left",
        ),
        (
            {"steps": (2, 4), "order": (1,), "narrowed": {"reflection_1": (1, 1)}},
            "`narrowed.reflection_1` is [1, 1], but must start at 0.999 or below",
        ),
    ],
)
def test_what_cannot_be_narrowed_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        SearchSpace(**fields)
    assert "\n" not in str(caught.value)


# Who is asked, and who answers.


def test_draws_are_uniform() -> None:
    """Within 5 standard deviations."""
    space = SearchSpace(family=("multistep", "named"), steps=(2,), learning=("fixed",), named=("rk4", "heun2"))
    rng = np.random.default_rng(1)
    draws = [space.draw(rng) for _ in range(1000)]
    for stages, share in ((1, 0.5), (2, 0.25), (4, 0.25)):
        count = sum(s.tableau.stages == stages for s in draws)
        assert abs(count - 1000 * share) < 5 * math.sqrt(1000 * share * (1 - share))
    kappas = np.sort([float(s.tableau.V[1]) for s in draws if isinstance(s.tableau, Tableau) and s.tableau.steps == 2])
    uniform = -0.95 + 1.95 * (np.arange(len(kappas)) + 0.5) / len(kappas)
    assert abs(kappas - uniform).max() < 1.95 * 2.2 / math.sqrt(len(kappas))  # Kolmogorov and Smirnov: 10⁻⁴ exceed 2.2


def test_what_is_settled_is_not_asked_for() -> None:
    nobody = Ask(Given({}), {"c": (0.25, 0.25), "d": (-9.0, 9.0)})
    assert nobody.choose("a", ("one",)) == "one"
    assert nobody.draw("b", (0.5, 0.5)) == F(1, 2)
    assert nobody.draw("c", (0.0, 1.0)) == F(1, 4)
    assert nobody.drawn == {"b", "c"}
    with pytest.raises(Asked):
        nobody.choose("a", ("one", "two"))


def test_coordinates_have_three_decimals_and_stay_inside() -> None:
    ask = Ask(Uniform(np.random.default_rng(0)), {})
    values = {ask.draw("x", (-0.003, 0.007)) for _ in range(400)}
    assert values == {F(n, 1000) for n in range(-3, 8)}
    capped = {ask.draw("x", (0.995, 1.0), below=0.999) for _ in range(400)}
    assert capped == {F(n, 1000) for n in range(995, 1000)}


def test_a_recorder_answers_and_remembers_what_others_would_be_asked_for() -> None:
    recorder = Recorder({"a": "one", "b": "one", "x_1": 0.25, "y": 0.5})
    ask = Ask(recorder, {})
    assert [ask.choose("a", ("one", "two")), ask.choose("b", ("one",))] == ["one", "one"]
    assert [ask.draw("x_1", (0.0, 1.0)), ask.draw("y", (0.5, 0.5))] == [F(1, 4), F(1, 2)]
    assert recorder.asked == {"a": "one", "x_1": 0.25}
    for refused, message in (
        (lambda: ask.choose("b", ("two", "three")), "`b` is 'one', but must be one of two, three"),
        (lambda: ask.draw("x_1", (0.5, 1.0)), "`x` is 0.25, but must be from 0.5 to 1"),
        (lambda: ask.draw("x_1", (0.0, 1.0), below=0.2), "`x` is 0.25, but must be from 0 to 0.2"),
        (lambda: ask.choose("z_3", ("one",)), "`z` has no value"),
    ):
        with pytest.raises(OdenasError, match=f"^{re.escape(message)}"):
            refused()


def test_an_enumerator_goes_through_all_combinations() -> None:
    """Two values of `a`; with the second a coordinate and three of `b`; beside all of it five values of `last`."""
    trial = Enumerator(("last",))
    rounds = []
    while True:
        ask = Ask(trial, {})
        a = ask.choose("a", (1, 2))
        b = ask.choose("b", (1, 2, 3)) if a == 2 else 0
        x = ask.draw("x", (0.0, 1.0)) if a == 2 else None
        rounds.append((a, b, ask.choose("last", range(5))))
        assert trial.count == 5
        assert trial.coordinates == (["x"] if a == 2 else [])
        # A general point: of no few decimals.
        assert x is None or (0 < x < 1 and x.denominator > 10**6 and math.gcd(x.denominator, 10) == 1)
        if not trial.advance():
            break
    assert rounds == [(1, 0, 0), (2, 1, 0), (2, 2, 0), (2, 3, 0)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("order_2", "order"),
        ("runge_kutta_order_4", "order"),
        ("slope_1", "slope"),
        ("per_stage_3", "per_stage"),
        ("tying_of_one", "tying"),
        ("noise_of_pair", "noise"),
        ("rk33-equal:b3", "rk33-equal:b3"),
        ("free_slopes", "free_slopes"),
    ],
)
def test_parameters_belong_to_fields(name: str, expected: str) -> None:
    assert field(name) == expected


@pytest.mark.parametrize("given", [(0, 1), [0.25, 0.5], (-10.0, 10), (0.001, 0.001), np.array([0.5, 0.75])])
def test_intervals_are_two_rising_numbers(given: Any) -> None:
    low, high = interval("x", given)
    assert (low, high) == tuple(given)
