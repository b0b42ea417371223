"""Noise as a value: which there are, what a block's rate is, how it is named, written, read and drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import optuna
import pytest

from odenas.space import OdenasError, Scheme, SearchSpace, Stochasticity, Tableau, describe, scheme
from odenas.space.stochasticity import (
    BACKWARDS,
    DRAWN_PER,
    FORWARDS,
    GROWTHS,
    SHAKE_SHAKE,
    SHAKES,
    SHARES,
    STOCHASTICITIES,
)


def allowed() -> Iterator[Stochasticity]:
    """Yield every kind of noise in every way that is allowed."""
    yield Stochasticity()
    for kind, growth, per, forward, backward in product(STOCHASTICITIES, GROWTHS, DRAWN_PER, FORWARDS, BACKWARDS):
        with suppress(OdenasError):
            yield Stochasticity(kind, 0.25, growth, per, forward, backward)


VALUES = list(allowed())


def test_what_is_allowed() -> None:
    """Levels for depth and shake, passes for shake; there E-E and E-K are no noise."""
    per_growth = 2 + 2 * 4 + 1 + 1
    assert len(VALUES) == len(set(VALUES)) == 1 + len(GROWTHS) * per_growth
    assert set(SHAKES.values()) == set(product(FORWARDS, BACKWARDS)) - {("even", "keep"), ("even", "even")}


def test_variants_are_names() -> None:
    """One to one, whatever the growth, and those of the kinds where nothing else is said."""
    quiet = {replace(value, growth="linear") for value in VALUES}
    assert len({value.variant for value in quiet}) == len(quiet)
    assert {Stochasticity(kind, 0.25 * (kind != "none")).variant for kind in STOCHASTICITIES} == set(STOCHASTICITIES)
    assert Stochasticity("depth", 0.25, per="image").variant == "depth per image"
    assert Stochasticity("shake", 0.25, per="image", backward="even").variant == "shake S-E-I"


def test_the_models_of_shake_shake_are_those_of_their_letters() -> None:
    words = {"S": "shake", "E": "even", "K": "keep", "B": "batch", "I": "image"}
    assert {"E-E-B", "S-S-I", "S-S-B", "S-E-I", "S-E-B", "S-K-I", "S-K-B"} <= set(SHAKE_SHAKE)
    for name, value in SHAKE_SHAKE.items():
        forward, backward, per = (words[letter] for letter in name.split("-"))
        if forward == backward == "even":
            assert value == Stochasticity()
        else:
            assert value == Stochasticity("shake", 1.0, "constant", per, forward, backward)
    assert scheme("shake_shake").stochasticity == SHAKE_SHAKE["S-K-B"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "depth", "per": "pixel"}, "`per` is 'pixel', but must be one of batch, image"),
        ({"kind": "shake", "forward": "keep"}, "`forward` is 'keep', but must be one of shake, even"),
        ({"kind": "shake", "backward": "evn"}, "`backward` is 'evn', but must be one of keep, shake, even; did you"),
        ({"kind": "additive", "per": "image"}, "`per` is 'image' with kind 'additive', but needs depth or shake"),
        ({"rate": 0.0, "per": "image"}, "`per` is 'image' with kind 'none'"),
        ({"kind": "depth", "backward": "even"}, "`backward` is 'even' with kind 'depth', but needs shake, or 'keep'"),
        ({"kind": "depth", "forward": "even"}, "`forward` is 'even' with kind 'depth', but needs shake, or 'shake'"),
        ({"kind": "shake", "forward": "even"}, "`backward` is 'keep' with forward 'even', but needs 'shake'"),
        (
            {"kind": "shake", "forward": "even", "backward": "even"},
            "`backward` is 'even' with forward 'even', but needs 'shake': else there is no noise, which is kind 'none'",
        ),
    ],
)
def test_messages(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Stochasticity(**{"rate": 0.5} | fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("blocks", [1, 2, 9, 54])
def test_rates_of_the_blocks(blocks: int) -> None:
    """Of the last block always `rate`, save that a first block that is the last has none by "linear"."""
    assert set(SHARES) == set(GROWTHS)
    rates = {growth: Stochasticity("depth", 0.5, growth).rates(blocks) for growth in GROWTHS}
    assert rates["constant"] == [0.5] * blocks
    # Survival of block l of L: 1 − (l/L)(1 − p_L) (Huang et al. 2016).
    survival = [1 - Fraction(block, blocks) * Fraction(1, 2) for block in range(1, blocks + 1)]
    assert [1 - rate for rate in rates["proportional"]] == pytest.approx(list(map(float, survival)))
    # Evenly from 0 to the rate (the program of Lu et al. 2018).
    assert rates["linear"][0] == 0
    assert np.diff(rates["linear"]) == pytest.approx(0.5 / max(1, blocks - 1))
    assert blocks == 1 or rates["linear"][-1] == 0.5


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_reading_undoes_writing(value: Stochasticity) -> None:
    s = replace(scheme("heun2"), stochasticity=value)
    assert Scheme.from_dict(json.loads(json.dumps(s.to_dict()))) == s


@pytest.mark.parametrize("kind", STOCHASTICITIES)
@pytest.mark.parametrize("written", [1, 2])
def test_what_older_versions_wrote_means_what_it_meant(kind: str, written: int) -> None:
    """One coin or share for a batch, and gradients those of the step."""
    s = replace(scheme("heun2"), stochasticity=Stochasticity(kind, 0.25 * (kind != "none")))
    data = s.to_dict() | {"format": written}
    known = {"kind", "rate"} if written == 1 else {"kind", "rate", "growth"}
    data["stochasticity"] = {key: entry for key, entry in data["stochasticity"].items() if key in known}
    assert Scheme.from_dict(data) == s
    with pytest.raises(OdenasError, match=r"`stochasticity` lacks .*per, forward, backward"):
        Scheme.from_dict(data | {"format": 3})


def test_descriptions_tell_all_noise_apart() -> None:
    told = [describe(replace(scheme("heun2"), stochasticity=value)) for value in VALUES]
    assert len(set(told)) == len(told)
    for value, words in {
        Stochasticity("depth", 0.25, per="image"): "heun2, drop 0.25 per image",
        Stochasticity("depth", 0.25, "proportional"): "heun2, drop 0.25 from the first block",
        Stochasticity("shake", 0.25): "heun2, shake 0.25",
        SHAKE_SHAKE["S-E-I"]: "heun2, shake 1 S-E-I throughout",
    }.items():
        assert describe(replace(scheme("heun2"), stochasticity=value)) == words


ALL = SearchSpace(
    family=("named",),
    named=("heun2", "euler"),
    stochasticity=tuple(STOCHASTICITIES),
    growth=tuple(GROWTHS),
    per=tuple(DRAWN_PER),
    shake=tuple(SHAKES),
    rates={"additive": (0.01, 0.5)},
)


def test_a_space_draws_all_noise_and_knows_it_again() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(1500):
        s = ALL.draw(rng)
        noise = s.stochasticity
        seen.add(replace(noise, rate=0.25 * (noise.kind != "none")))
        asked = ALL.encode(s)
        assert ALL.suggest(optuna.trial.FixedTrial(asked)) == s
        assert ("per" in asked) == (noise.kind in ("depth", "shake"))
        assert ("shake" in asked) == (noise.kind == "shake")
    assert seen == set(VALUES)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_the_default_space_has_what_it_had(value: Stochasticity) -> None:
    """Coins and shares for a batch, kept by the gradient, of rates that grow linearly."""
    s = replace(scheme("heun2"), stochasticity=value)
    assert s in ALL
    assert (s in SearchSpace()) == (value in (Stochasticity(), Stochasticity("depth", 0.25)))
    usual = SearchSpace(family=("named",), stochasticity=ALL.stochasticity, rates=ALL.rates)
    if value == Stochasticity(value.kind, value.rate):
        assert s in usual
    else:
        with pytest.raises(OdenasError, match=r"`(growth|per|shake)` is"):
            usual.encode(s)


def test_a_space_of_drop_path_alone() -> None:
    space = SearchSpace(stochasticity=("depth",), per=("image",))
    rng = np.random.default_rng(1)
    assert {space.draw(rng).stochasticity.variant for _ in range(30)} == {"depth per image"}
    assert space.size().configurations == SearchSpace(stochasticity=("depth",)).size().configurations
    both = SearchSpace(stochasticity=("depth",), per=("batch", "image"))
    assert both.size().configurations == 2 * space.size().configurations


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per": ("pixel",)}, "`per` is 'pixel', but must be one of batch, image"),
        ({"per": ()}, "`per` is [], but needs one or more different values"),
        ({"shake": ("S-I",)}, "`shake` is 'S-I', but must be one of S-K, S-S, S-E, E-S"),
        ({"shake": "S-S"}, "`shake` is 'S-S', but must be a list"),
    ],
)
def test_messages_of_the_space(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)):
        SearchSpace(**fields)


def test_the_twin_of_shaken_stages_has_no_noise() -> None:
    """A step of forward Euler has one stage; drop path it has as well."""
    pair = Scheme(Tableau.runge_kutta(((0, 0), (0, 0)), ("1/2", "1/2")))
    for value in SHAKE_SHAKE.values():
        assert replace(pair, stochasticity=value).twin() == scheme("euler")
    dropping = Stochasticity("depth", 0.25, per="image")
    assert replace(pair, stochasticity=dropping).twin() == replace(scheme("euler"), stochasticity=dropping)
