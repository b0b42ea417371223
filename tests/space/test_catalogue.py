"""The named schemes as their papers write them, their parameters, and how a scheme is described."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from odenas.space import Coefficients, OdenasError, Scheme, Stochasticity, Tableau, describe, scheme, schemes
from odenas.space.catalogue import CATALOGUE


@pytest.mark.parametrize(
    ("name", "states", "slopes", "order"),
    [
        ("euler", ("1",), ("1",), 1),
        ("midpoint", ("0", "1"), ("2", "0"), 2),
        ("ab2", ("1", "0"), ("3/2", "-1/2"), 2),
        ("ab3", ("1", "0", "0"), ("23/12", "-4/3", "5/12"), 3),
        ("lm", ("21/20", "-1/20"), ("19/20", "0"), 1),
        ("momentum", ("19/10", "-9/10"), ("1/10", "0"), 1),
    ],
)
def test_published_coefficients(name: str, states: tuple[str, ...], slopes: tuple[str, ...], order: int) -> None:
    tableau = scheme(name).tableau
    assert isinstance(tableau, Tableau)
    assert tableau.V == tuple(Fraction(v) for v in states)  # noqa: SIM300
    assert tableau.slopes == tuple(Fraction(b) for b in slopes)
    assert scheme(name).coefficients.order == order


def test_lm_is_the_step_of_the_paper() -> None:
    """x ← (1 − k) x + k x_prev + f(x), one k for each step, learned without a constraint, from [−0.1, 0]."""
    lm = scheme("lm")
    assert isinstance(lm.tableau, Tableau)
    k = lm.tableau.V[1]
    assert lm.applied == Tableau.multistep((1 - k, k), (1,))
    assert lm.coefficients == Coefficients("learned", "step", "none", order=1, spread=0.05)
    assert (float(k) - lm.coefficients.spread, float(k) + lm.coefficients.spread) == (-0.1, 0.0)


@pytest.mark.parametrize("gamma", ["9/10", "0.5", 0.25, 0])
def test_momentum_is_the_step_of_the_paper(gamma: Any) -> None:
    """v ← γ v + (1 − γ) f(x), x ← x + v (Sander et al. 2021)."""
    g, x, v, expected = float(Fraction(gamma)), 1.0, 0.0, [1.0]
    for _ in range(12):
        v = g * v + (1 - g) * np.cos(x)
        x += v
        expected.append(x)
    s = scheme("momentum", gamma=gamma)
    assert s.start == "copy"
    assert s.integrate(lambda t, y: np.cos(y), 1.0, 1.0, 12, start="copy") == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", schemes())
def test_every_scheme_says_where_it_comes_from(name: str) -> None:
    about = CATALOGUE[name].about
    assert re.search(r"\d{4}|Hairer|from its order conditions", about)
    stated = re.search(r"[Oo]rder (\d)\.?$", about)
    assert stated is None or int(stated[1]) == scheme(name).order


def test_parameters_reach_the_scheme() -> None:
    lm = scheme("lm", k="1/3", spread=0, sharing="channel")
    assert lm.tableau == Tableau.multistep(("2/3", "1/3"), ("4/3",))
    assert lm.coefficients == Coefficients("learned", "channel", "none", 1, 0)
    assert scheme("lm", k=0.5).tableau == Tableau.multistep(("1/2", "1/2"), ("3/2",))
    assert scheme("momentum", gamma="-1").tableau == scheme("midpoint").tableau


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("adams", {}, "`scheme` is 'adams', but must be one of euler, ab2"),
        ("midpiont", {}, "did you mean 'midpoint'?"),
        (None, {}, "`scheme` is None"),
        (["euler"], {}, "`scheme` is ['euler']"),
        ("euler", {"k": 1}, "`k` is no parameter of the scheme 'euler', but it has none"),
        ("momentum", {"beta": 0.9}, "`beta` is no parameter of the scheme 'momentum', but it has gamma"),
        ("momentum", {"gamma": 1}, "`constraint` is 'zero-stable', but the tableau is not"),
        ("momentum", {"gamma": "much"}, "`gamma` holds 'much', but needs finite numbers"),
        ("momentum", {"gamma": float("nan")}, "`gamma` holds nan"),
        ("momentum", {"gamma": True}, "`gamma` holds True"),
        ("lm", {"k": -1}, "zero-stable"),
        ("lm", {"k": None}, "`k` holds None"),
        ("lm", {"spread": 2}, "`spread` is 2, but must be a number from 0 to 1"),
        ("lm", {"sharing": "layer"}, "`sharing` is 'layer', but must be one of shared, step, channel"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(name: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        scheme(name, **parameters)
    assert "\n" not in str(caught.value)


LEARNED = Coefficients(learning="learned", sharing="step", constraint="none")
STABLE = Coefficients(learning="learned", sharing="shared", constraint="zero-stable", order=2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Scheme(Tableau.multistep(("1/2", "1/2"), ("3/2",))), "0.5x + 0.5x₁ + 1.5f"),
        (Scheme(Tableau.multistep(("1/2", "1/2"), ("3/2",)), scale="absorbed"), "0.5x + 0.5x₁ + f"),
        (Scheme(Tableau.multistep((0, 0, 1), (3,))), "x₂ + 3f"),
        (Scheme(Tableau.multistep(("3/2", "-1/2"), (0, "1/2"))), "1.5x − 0.5x₁ + 0.5f₁"),
        (Scheme(Tableau.multistep((0, 1), (2,)), LEARNED), "x₁ + 2f, learned per step"),
        (Scheme(Tableau.multistep((1, 0), ("3/2", "-1/2")), STABLE), "x + 1.5f − 0.5f₁, learned, stable"),
        (
            Scheme(Tableau.multistep(("1/2", "1/2"), ("3/2",)), stochasticity=Stochasticity("depth", 0.5)),
            "0.5x + 0.5x₁ + 1.5f, drop 0.5",
        ),
        (Scheme(Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2"))), "Runge–Kutta of 2 stages, c 0 1, b 0.5 0.5"),
        (
            Scheme(Tableau(V=(1, 0), B=(1,), U=((Fraction(3, 2), Fraction(-1, 2)),))),
            "2 steps, 1 stage(s), order 2",
        ),
    ],
)
def test_a_scheme_without_a_name_is_described_by_its_step(value: Scheme, text: str) -> None:
    assert describe(value) == text


def test_a_change_loses_the_name() -> None:
    assert describe(replace(scheme("ab2"), scale="absorbed", start="copy")) == "x + 1.5f − 0.5f₁"
    assert describe(scheme("lm", k=0)) == "x + f, learned per step"
