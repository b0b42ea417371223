"""Training noise as a weak scheme: the drift and diffusion written out are the increment's exact moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy import stats
from sympy.parsing.sympy_parser import (  # type: ignore[import-untyped]
    implicit_multiplication,
    parse_expr,
    standard_transformations,
)

from odenas.space import Scheme
from odenas.space.stochastic import STOCHASTIC, WEAK_SCHEMES, WeakScheme
from odenas.space.stochasticity import STOCHASTICITIES

Array = NDArray[np.float64]

KINDS = list(WEAK_SCHEMES)
values = arrays(np.float64, (2, 3), elements=st.floats(-10, 10))
rates = st.floats(0.01, 0.99)


def coin(rate: float) -> tuple[Array, Array]:
    return np.array([0.0, 1.0]), np.array([rate, 1 - rate])


def uniform(rate: float) -> tuple[Array, Array]:
    nodes, weights = leggauss(3)
    return 0.5 + nodes * rate / 2, weights / 2


def normal(rate: float) -> tuple[Array, Array]:
    nodes, weights = hermegauss(3)
    return nodes, weights / weights.sum()


# The law of η as values and probabilities, exact for second moments: read off the step in words, not off the code.
LAWS: dict[str, Callable[[float], tuple[Array, Array]]] = {
    "depth": coin,
    "depth, unscaled": coin,
    "shake": uniform,
    "additive": normal,
    "multiplicative": normal,
}


def in_symbols(text: str, f: Array, rate: float) -> Any:
    """Return the value of a formula such as "√(p(1 − p)) f" for the branch values `f`."""
    names = {"f": f[0, 0], "f1": f[0, 0], "f2": f[1, 0], "r": rate, "p": 1 - rate}
    for symbol, python in {"√12": "sqrt(12)", "√": "sqrt", "−": "-", "½": "(1/2)", "₁": "1", "₂": "2"}.items():
        text = text.replace(symbol, python)
    text = text.replace("p(", "p*(")
    formula = parse_expr(text, transformations=(*standard_transformations, implicit_multiplication))
    return float(formula.subs(names))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(f=values, rate=rates)
def test_mean_and_deviation_are_those_of_the_increment(kind: str, f: Array, rate: float) -> None:
    row = WEAK_SCHEMES[kind]
    nodes, odds = LAWS[kind](rate)
    steps = np.stack([row.increment(f, rate, np.full(3, eta)) for eta in nodes])
    mean = odds @ steps
    assert row.mean(f, rate) == pytest.approx(mean, abs=1e-12)
    assert np.abs(row.deviation(f, rate)) == pytest.approx(np.sqrt(odds @ (steps - mean) ** 2), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(f=values, rate=rates)
def test_the_formulas_say_what_is_computed(kind: str, f: Array, rate: float) -> None:
    row = WEAK_SCHEMES[kind]
    assert in_symbols(row.drift, f, rate) == pytest.approx(row.mean(f, rate)[0], abs=1e-9)
    assert in_symbols(row.diffusion, f, rate) == pytest.approx(row.deviation(f, rate)[0], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_draws_follow_the_law(kind: str, rate: float) -> None:
    drawn = WEAK_SCHEMES[kind].draw(np.random.default_rng(7), rate, (100, 200))
    assert drawn.shape == (100, 200)
    if LAWS[kind] is coin:
        assert set(np.unique(drawn)) == {0.0, 1.0}
        assert stats.binomtest(int((drawn == 0).sum()), drawn.size, rate).pvalue > 1e-3
    else:
        law = stats.norm() if LAWS[kind] is normal else stats.uniform((1 - rate) / 2, rate)
        assert stats.kstest(drawn.ravel(), law.cdf).pvalue > 1e-3


def test_every_kind_of_noise_has_a_row() -> None:
    assert set(STOCHASTICITIES) - {"none"} <= set(WEAK_SCHEMES)
    assert set(LAWS) == set(WEAK_SCHEMES)


@settings(deadline=None)
@given(values, rates)
def test_both_scalings_of_stochastic_depth_are_one_equation(f: Array, rate: float) -> None:
    """With the branch that is multiplied by p at test time in place of f."""
    scaled, plain = WEAK_SCHEMES["depth"], WEAK_SCHEMES["depth, unscaled"]
    assert scaled.mean((1 - rate) * f, rate) == pytest.approx(plain.mean(f, rate))
    assert scaled.deviation((1 - rate) * f, rate) == pytest.approx(plain.deviation(f, rate))


def second_moment(row: WeakScheme, rate: float, h: float, time: float) -> float:
    """Return E[x²] at `time` of the steps x ← x + increment from 1, for the branch f = −hx."""
    f = np.array([[-h]])
    factor = (1 + row.mean(f, rate)) ** 2 + row.deviation(f, rate) ** 2
    return float(factor[0] ** round(time / h))


@pytest.mark.parametrize("kind", ["depth", "multiplicative"])
def test_noise_of_a_fixed_rate_is_lost_in_the_limit(kind: str) -> None:
    """The scaling assumption: the limit of h → 0 is x' = −x, and E[x²] misses that by a term of order h."""
    gaps = [second_moment(WEAK_SCHEMES[kind], 0.3, 2.0**-n, 1.0) - math.exp(-2) for n in (10, 11, 12)]
    assert abs(gaps[2]) < 1e-3
    assert np.log2(np.array(gaps[:-1]) / gaps[1:]) == pytest.approx(1, abs=0.02)


def test_noise_that_grows_as_the_step_shrinks_stays() -> None:
    """With a variance r/(1 − r) = c/h of η/p the limit is dX = −X dt + √c X dW, reached with weak order 1."""
    c = 0.5
    errors = []
    for n in (10, 11, 12):
        h = 2.0**-n
        rate = (c / h) / (1 + c / h)
        errors.append(second_moment(WEAK_SCHEMES["depth"], rate, h, 1.0) - math.exp(-2 + c))
    assert abs(errors[2]) < 1e-3
    assert np.log2(np.array(errors[:-1]) / errors[1:]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("name", "kind", "rate"),
    [
        ("euler_maruyama_additive", "additive", 0.3),
        ("euler_maruyama_multiplicative", "multiplicative", 0.3),
        ("stochastic_depth", "depth", 0.3),
        ("shake_shake", "shake", 0.3),
    ],
)
def test_rows(name: str, kind: str, rate: float) -> None:
    default, s = STOCHASTIC[name].make(), STOCHASTIC[name].make(rate)
    assert (s.stochasticity.kind, s.stochasticity.rate) == (kind, rate)
    assert default.stochasticity.kind == kind
    assert default != s
    assert s.order == 1
    assert s.real_interval == 2  # the mean is forward Euler
    assert Scheme.from_dict(s.to_dict()) == s
    assert len(STOCHASTIC) == 4


def test_shake_shake_has_two_branches_at_one_state() -> None:
    seen = []

    def f(t: float, x: Array) -> Array:
        seen.append(float(x[0]))
        return x * len(seen)

    path = STOCHASTIC["shake_shake"].make().integrate(f, [2.0], 1.0, 1)
    assert seen == [2.0, 2.0]
    assert path[1] == pytest.approx([2 + (2 + 4) / 2])
