"""A scheme as a value: what it refuses when made, what it reads, what a network applies."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odenas.space import Blocks, Coefficients, OdenasError, Scheme, Stochasticity, Tableau, describe, scheme
from odenas.space.integrate import RK4, integrate

F = Fraction
AB2 = Tableau.multistep((1,), ("3/2", "-1/2"))
VERLET = Tableau.multistep((2, -1), ("1/2", "-1/2"))
NYSTROM3 = Tableau.multistep((0, 1), ("7/3", "-2/3", "1/3"))
LATE = Tableau(V=(1, 0), B=(1,), U=((F(3, 2), F(-1, 2)),))
# A predictor–corrector pair over x_{n−1} with Σ of its slopes' weights 2: both stages stand for x' = f.
PAIR = Tableau(V=(0, 1), B=(1, F(1, 3)), R=(F(2, 3),), A=((0, 0), (2, 0)), U=((1, 0), (0, 1)), W=((0,), (0,)))
LEARNED = Coefficients(learning="learned", constraint="zero-stable")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tableau": AB2, "coefficients": Coefficients(order=3)},
            "`order` is stated as 3, but the tableau has order 2",
        ),
        (
            {"tableau": RK4, "coefficients": Coefficients(order=5)},
            "`order` is stated as 5, but the tableau has order 4",
        ),
        ({"tableau": Tableau.multistep((1,), ("9/10",))}, "`order` is stated as 1, but the tableau has order 0"),
        ({"tableau": Tableau.multistep((1,), (1.001,))}, "`order` is stated as 1, but the tableau has order 0"),
        ({"tableau": VERLET}, "`constraint` is 'zero-stable', but the tableau is not"),
        ({"tableau": Tableau.multistep((-4, 5), (4, 2)), "coefficients": Coefficients(order=3)}, "`constraint`"),
        (
            {"tableau": VERLET, "coefficients": Coefficients(constraint="none"), "scale": "absorbed"},
            "`scale` is 'absorbed', but the tableau is not zero-stable",
        ),
        (
            {"tableau": Tableau.multistep((1,), (1,)), "coefficients": LEARNED},
            "`learning` is 'learned' for 1 step(s) and 1 stage(s), but needs a linear multistep method of 2 steps",
        ),
        ({"tableau": RK4, "coefficients": LEARNED}, "`learning` is 'learned' for 1 step(s) and 4 stage(s)"),
        ({"tableau": LATE, "coefficients": LEARNED}, "`learning` is 'learned' for 2 step(s) and 1 stage(s)"),
        ({"tableau": NYSTROM3, "coefficients": LEARNED}, "no reflection coefficients"),
        ({"tableau": AB2.to_dict()}, "but must be a Tableau"),
        ({"tableau": None}, "`tableau` is None, but must be a Tableau"),
        ({"tableau": AB2, "coefficients": "fixed"}, "`coefficients` is 'fixed', but must be a Coefficients"),
        ({"tableau": AB2, "stochasticity": 0.5}, "`stochasticity` is 0.5, but must be a Stochasticity"),
        ({"tableau": AB2, "scale": "absorb"}, "`scale` is 'absorb', but must be one of consistent, absorbed; did you"),
        ({"tableau": AB2, "scale": ["absorbed"]}, "`scale` is ['absorbed']"),
        ({"tableau": AB2, "tying": "all"}, "`tying` is 'all', but must be one of none, stages, steps"),
        ({"tableau": AB2, "blocks": "basic"}, "`blocks` is 'basic', but must be a Blocks"),
        ({"tableau": AB2, "transition": "project"}, "`transition` is 'project', but the tableau reads earlier slopes"),
        (
            {"tableau": AB2, "coefficients": Coefficients("scheduled", target=(0, 0))},
            "`target` has 2 entries, but needs 1 for the tableau's steps",
        ),
        ({"tableau": AB2, "start": "rk4"}, "`start` is 'rk4', but must be one of euler, copy"),
    ],
)
def test_a_scheme_that_breaks_its_word_is_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Scheme(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (Coefficients, {"learning": "yes"}, "`learning` is 'yes', but must be one of fixed, scheduled, learned"),
        (Coefficients, {"sharing": None}, "`sharing` is None, but must be one of shared, step, channel"),
        (Coefficients, {"constraint": "stable"}, "did you mean 'zero-stable'?"),
        (Coefficients, {"order": 0}, "`order` is 0, but must be an integer from 1 to 10"),
        (Coefficients, {"order": True}, "`order` is True"),
        (Coefficients, {"order": 2.0}, "`order` is 2.0"),
        (Coefficients, {"order": "2"}, "`order` is '2'"),
        (Coefficients, {"spread": -0.1}, "`spread` is -0.1, but must be a number from 0 to 1"),
        (Coefficients, {"spread": float("nan")}, "`spread` is nan"),
        (Coefficients, {"spread": False}, "`spread` is False"),
        (Coefficients, {"spread": "0"}, "`spread` is '0'"),
        (Stochasticity, {"kind": "shaken"}, "`kind` is 'shaken', but must be one of none, depth"),
        (Stochasticity, {"kind": "depth"}, "`rate` is 0.0 with kind 'depth'"),
        (Stochasticity, {"rate": 0.5}, "`rate` is 0.5 with kind 'none'"),
        (Stochasticity, {"kind": "depth", "rate": 1.0}, "`rate` is 1.0, but must be a number from 0 to 0.999"),
        (Stochasticity, {"kind": "depth", "rate": float("nan")}, "`rate` is nan"),
        (Stochasticity, {"kind": "depth", "rate": True}, "`rate` is True"),
        (Stochasticity, {"kind": "shake", "rate": 1.5}, "`rate` is 1.5, but must be a number from 0 to 1"),
        (Stochasticity, {"kind": "depth", "rate": 0.5, "growth": "square"}, "`growth` is 'square', but must be one of"),
        (Coefficients, {"bound": 1.0}, "`bound` is 1.0, but must be a number from 0.001 to 0.999"),
        (Coefficients, {"target": (0,)}, "`target` has 1 entries with learning 'fixed', but belongs to 'scheduled'"),
        (Coefficients, {"learning": "scheduled"}, "`target` has 0 entries with learning 'scheduled'"),
        (Coefficients, {"learning": "scheduled", "target": "1/2"}, "`target` is '1/2', but must be a list of numbers"),
        (Coefficients, {"learning": "scheduled", "target": (1,)}, "`target` is [1.0], but must be numbers within"),
        (Coefficients, {"learning": "scheduled", "target": (0,), "constraint": "none"}, "a schedule keeps"),
        (Blocks, {"kind": "dense"}, "`kind` is 'dense', but must be one of basic, bottleneck"),
        (Blocks, {"activation": "rely"}, "did you mean 'relu'?"),
        (Blocks, {"per_stage": 3}, "`per_stage` is 3, but must be a list of whole numbers"),
        (Blocks, {"per_stage": (3, 0, 3)}, "`per_stage` is 0, but must be an integer from 1 to 1000"),
    ],
)
def test_bad_parts_are_refused_in_one_line(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


def test_what_is_not_stated_is_not_asked() -> None:
    free = Scheme(VERLET, Coefficients(constraint="none"))
    assert (free.order, free.zero_stable) == (1, False)
    assert Scheme(RK4).order == 4
    assert Scheme(NYSTROM3, Coefficients(order=3)).zero_stable
    assert Scheme(NYSTROM3, Coefficients(learning="learned", constraint="none")).order == 3
    assert Scheme(Tableau.multistep((0, 1), (2,)), LEARNED).order == 2


def test_equal_values_are_equal() -> None:
    again = Scheme(Tableau(V=(1, 0), B=(F(3, 2),), R=(F(-1, 2),), U=((1, 0),)), Coefficients(order=2))
    assert again == scheme("ab2")
    assert len({again, scheme("ab2"), scheme("ab3")}) == 2
    assert again.order == 2
    assert again == scheme("ab2")  # derived values, once computed, are no part of it
    assert hash(again) == hash(scheme("ab2"))


def test_numbers_of_numpy_are_json_ready() -> None:
    s = Scheme(AB2, Coefficients(order=np.int64(2)), stochasticity=Stochasticity("depth", np.float64(0.25)))  # type: ignore[arg-type]
    assert Scheme.from_dict(json.loads(json.dumps(s.to_dict()))) == s


@pytest.mark.parametrize("tableau", [AB2, PAIR, LATE, NYSTROM3, Tableau.multistep((F(1, 2), F(1, 2)), (F(3, 2),))])
def test_absorbing_the_scale_is_a_change_of_the_field_alone(tableau: Tableau) -> None:
    """The same steps are made of f / Σ slopes, whatever the number of stages; the slopes' weights then sum to 1."""
    s = Scheme(tableau, scale="absorbed")
    total = float(sum(tableau.slopes))
    assert isinstance(s.applied, Tableau)
    assert sum(s.applied.slopes) == 1
    assert s.applied.exact
    path = integrate(s.applied, lambda t, x: np.sin(x), [0.3, 2.0], 0.5, 8, start="copy")
    expected = integrate(tableau, lambda t, x: np.sin(x) / total, [0.3, 2.0], 0.5, 8, start="copy")
    assert path == pytest.approx(expected, rel=1e-13)
    assert Scheme(tableau).applied is tableau


def test_the_pair_of_stages_has_slopes_that_sum_to_two() -> None:
    assert sum(PAIR.slopes) == 2
    assert Scheme(PAIR).order >= 1


# Reading: whatever the JSON holds, either a scheme or one line.

SAMPLES = [
    *(scheme(name).to_dict() for name in ("euler", "lm", "midpoint", "ab2", "ab3", "momentum", "verlet")),
    scheme("symplectic_euler").to_dict(),
    Scheme(RK4, Coefficients(order=4), stochasticity=Stochasticity("depth", 0.5)).to_dict(),
    Scheme(PAIR, scale="absorbed", start="copy", tying="stages").to_dict(),
    Scheme(
        Tableau.multistep((F(1, 2), F(1, 2)), (F(3, 2),)),
        Coefficients(learning="scheduled", target=(F(-9, 10),)),
        transition="project",
        tying="steps",
        blocks=Blocks("bottleneck", "gelu", (2, 3, 2)),
        stochasticity=Stochasticity("additive", 0.1, "constant"),
    ).to_dict(),
    Scheme(Tableau.multistep((0.9, 0.1), (1.1,)), LEARNED).to_dict(),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 20),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["1/2", "-3/2", "1/0", "1e5", "1e-400", "nan", "depth", "learned", "absorbed", "copy", "channel"]),
)
jsons = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def read(data: Any) -> Scheme | None:
    """Return the scheme, or None where one line says why there is none; anything else is a failure."""
    message, s = "", None
    try:
        s = Scheme.from_dict(data)
    except OdenasError as error:
        message = str(error)
    if s is None:
        assert len(message.splitlines()) == 1
        return None
    again = Scheme.from_dict(json.loads(json.dumps(s.to_dict(), allow_nan=False)))
    assert again == s
    assert hash(again) == hash(s)
    assert s.order >= s.coefficients.order
    assert s.zero_stable or s.coefficients.constraint == "none"
    assert len(describe(s).splitlines()) == 1
    return s


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container inside `data` with each of its keys or indices."""
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(SAMPLES), st.data())
def test_mutated_json_is_read_or_refused_in_one_line(sample: dict[str, Any], data: st.DataObject) -> None:
    mutated = copy.deepcopy(sample)
    for _ in range(data.draw(st.integers(1, 2))):
        spots = list(places(mutated))
        container, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        change = data.draw(st.sampled_from(["replace", "nest", "remove", "add"]))
        if change == "replace":
            container[key] = data.draw(jsons)
        elif change == "nest":
            container[key] = [container[key]]
        elif change == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[data.draw(st.text(max_size=4))] = data.draw(scalars)
        else:
            container.append(data.draw(scalars))
        if not mutated:
            break
    read(mutated)


@settings(deadline=None)
@given(jsons)
def test_arbitrary_json_is_refused_in_one_line(data: Any) -> None:
    assert read(data) is None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: str(len(json.dumps(sample))))
def test_every_part_is_needed_and_no_other(sample: dict[str, Any]) -> None:
    assert read(sample) is not None
    count = len([spot for spot in places(sample) if isinstance(spot[0], dict)])
    for index in range(count):
        for change in ("remove", "add"):
            mutated = copy.deepcopy(sample)
            container, key = [spot for spot in places(mutated) if isinstance(spot[0], dict)][index]
            if (key, change) == ("derivative", "remove"):  # what older versions wrote, for x' = f
                continue
            if change == "remove":
                del container[key]
            else:
                container[f"{key}s"] = container[key]
            with pytest.raises(OdenasError, match=f"lacks {key}" if change == "remove" else f"is '{key}s'"):
                Scheme.from_dict(mutated)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([sample for sample in SAMPLES if "V" in sample["tableau"]]), st.data())
def test_changed_coefficients_never_pass_for_what_is_stated(sample: dict[str, Any], data: st.DataObject) -> None:
    """Any one entry of V, R or B moved: ΣV = 1, the order or the constraint breaks, and the scheme is refused."""
    mutated = copy.deepcopy(sample)
    name = data.draw(st.sampled_from(["V", "B"]))
    row = mutated["tableau"][name]
    index = data.draw(st.integers(0, len(row) - 1))
    row[index] = float(F(row[index])) + data.draw(st.sampled_from([1e-3, -1e-3, 0.5, -1.0, 7.0]))
    assert read(mutated) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 4}, "`format` of the scheme is 4, but this version reads 1 to 3"),
        ({"format": 4, "memory": 3}, "`format` of the scheme is 4, but this version reads 1 to 3"),
        ({"format": "1"}, "`format` of the scheme is '1', but this version reads 1"),
        ({"format": None}, "`format` of the scheme is None"),
        ({"tableaux": 3}, "`key of scheme` is 'tableaux'"),
        ({"tableau": None}, "`tableau` is a NoneType, but must be a table of V, R, B, A, U, W"),
        ({"coefficients": []}, "`coefficients` is a list, but must be a table of learning, sharing"),
        ({"stochasticity": "none"}, "`stochasticity` is a str, but must be a table of kind, rate"),
        ({"scale": 1}, "`scale` is 1, but must be one of consistent, absorbed"),
        ({"start": {}}, "`start` is {}, but must be one of euler, copy"),
        (
            {"stochasticity": scheme("ab2").to_dict()["stochasticity"] | {"kind": "depth"}},
            "`rate` is 0.0 with kind 'depth'",
        ),
    ],
)
def test_messages_of_reading(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Scheme.from_dict(scheme("ab2").to_dict() | change)
    assert "\n" not in str(caught.value)


FORMAT_1 = {
    "format": 1,
    "tableau": {"V": ["21/20", "-1/20"], "R": [0], "B": ["19/20"], "A": [[0]], "U": [[1, 0]], "W": [[0]]},
    "coefficients": {
        "learning": "learned", "sharing": "step", "constraint": "none", "order": 1, "spread": 0.05
    },
    "scale": "absorbed",
    "start": "euler",
    "stochasticity": {"kind": "none", "rate": 0.0},
}  # fmt: skip


def test_what_an_older_version_wrote_is_read() -> None:
    assert Scheme.from_dict(FORMAT_1) == scheme("lm")
    assert Scheme.from_dict(FORMAT_1).to_dict()["format"] == 3
    for key in FORMAT_1:
        if key != "format":
            with pytest.raises(OdenasError, match=f"`scheme` lacks {key}"):
                Scheme.from_dict({name: value for name, value in FORMAT_1.items() if name != key})


@pytest.mark.parametrize("data", [None, [], "ab2", 3, b"{}"])
def test_what_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(OdenasError, match=f"`scheme` is a {type(data).__name__}, but must be a table of format, "):
        Scheme.from_dict(data)


def test_a_key_may_be_anything() -> None:
    with pytest.raises(OdenasError, match="`key of scheme` is 3"):
        Scheme.from_dict({3: 4})  # type: ignore[dict-item]
    with pytest.raises(OdenasError, match="did you mean 'start'") as caught:
        Scheme.from_dict({"start\n": "euler"})
    assert "\n" not in str(caught.value)


def test_replacing_a_part_checks_it_again() -> None:
    with pytest.raises(OdenasError, match="`order` is stated as 2, but the tableau has order 1"):
        replace(scheme("ab2"), tableau=scheme("euler").tableau)
