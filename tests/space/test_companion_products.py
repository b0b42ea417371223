"""Bounds on products of companion matrices, against the products themselves."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from odenas.space import OdenasError
from odenas.space.companion_products import contraction, product_bound, uniform_bound

Array = NDArray[np.float64]


def products(states: Array) -> float:
    """Return the largest ∞-norm of all products, one matrix at a time."""
    length, k = states.shape
    largest = 1.0
    for first in range(length):
        product = np.eye(k)
        for weights in states[first:]:
            product = np.vstack([weights, np.eye(k)[:-1]]) @ product
            largest = max(largest, float(abs(product).sum(axis=1).max()))
    return largest


def two_step(k: Any) -> Array:
    k = np.asarray(k, dtype=float)
    return np.stack([1 - k, k], axis=1)


def from_tails(c: Array) -> Array:
    """Return V with ΣV = 1 and Σ_{j≥i} V_j = c_i, i = 1 … k − 1; c has the shape (L, k − 1)."""
    tails = np.hstack([np.ones((len(c), 1)), c, np.zeros((len(c), 1))])
    return -np.diff(tails, axis=1)


@pytest.mark.parametrize("seed", range(30))
def test_bound_is_the_largest_of_all_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(int(rng.integers(1, 25)), int(rng.integers(1, 6))))
    assert product_bound(states) == pytest.approx(products(states), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_history_exceeds_the_bound_and_one_attains_it(steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(15, steps)) / steps
    bound = product_bound(states)
    largest = 0.0
    for first in range(15):
        corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * steps)).reshape(steps, -1)  # worst histories are corners
        past = list(corners)
        for weights in states[first:]:
            past = [weights @ np.array(past[:steps]), *past]
            largest = max(largest, float(abs(past[0]).max()))
    assert largest <= bound * (1 + 1e-12)
    assert bound == pytest.approx(max(largest, 1), rel=1e-12)


def test_convex_weights_never_grow() -> None:
    states = np.random.default_rng(0).dirichlet([0.3] * 4, 100)
    assert product_bound(states) == pytest.approx(1, abs=1e-12)


def test_growth_without_bound() -> None:
    assert product_bound(np.tile([2.0, -1.0], (50, 1))) == pytest.approx(101)  # a double root 1
    assert product_bound(np.tile([3.0, -2.0], (3000, 1))) == math.inf
    assert product_bound([[1e160, 1e160], [1.0, 0.0], [1e160, -1e160]]) == math.inf  # ∞ − ∞


def test_stable_layers_with_unstable_products() -> None:
    """Each layer alone has the roots 1 and ±√0.81 e^{±iφ}; in turn they grow."""
    layers = from_tails(np.array([[-1.7, 0.81], [1.7, 0.81]]))
    for weights in layers:
        assert sorted(abs(np.roots([1, *-weights]))) == pytest.approx([0.9, 0.9, 1])
        assert product_bound(np.tile(weights, (300, 1))) < 100
    assert product_bound(np.tile(layers, (150, 1))) > 1e20


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 0.99), st.integers(2, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_random_sequences_keep_the_uniform_bound(kappa: float, steps: int, seed: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(60, steps - 1)) if not extreme else rng.choice([-1.0, 1.0], (60, steps - 1))
    c *= kappa / abs(c).sum(axis=1, keepdims=True)
    states = from_tails(c)
    assert contraction(states) == pytest.approx(kappa, abs=1e-12)
    assert product_bound(states) <= uniform_bound(kappa, steps) * (1 + 1e-9)


@pytest.mark.parametrize("kappa", ["0", "1/10", "1/2", "9/10", "19/20"])
def test_constant_momentum_attains_the_two_step_bound_in_the_limit(kappa: str) -> None:
    value = Fraction(kappa)
    bound = uniform_bound(kappa)
    assert bound == (1 + value) / (1 - value)
    assert isinstance(bound, Fraction)
    found = [product_bound(two_step(np.full(length, -float(value)))) for length in (5, 600)]
    assert found[0] <= found[1] == pytest.approx(float(bound), rel=1e-12)
    assert kappa == "0" or found[0] < bound


@pytest.mark.parametrize("steps", [2, 3, 4, 5])
def test_the_bound_is_attained_in_the_limit_for_any_number_of_steps(steps: int) -> None:
    """Signs that turn alternating increments into positive ones, then the same layer for ever."""
    m, kappa = steps - 1, 0.8
    c = np.zeros((200 * m, m))
    c[:, -1] = -kappa
    # x_0 = 1, x_{−1} = −1, …: increments d_0 = 2, d_{−1} = −2, …; layer i makes d_{i+1} of d_{i+1−m}.
    c[:m, -1] *= [(-1.0) ** (m - 1 - i) for i in range(m)]
    found = product_bound(from_tails(c))
    assert found == pytest.approx(float(uniform_bound(kappa, steps)), rel=1e-9)


def partial_sums(k: Array) -> float:
    """Return the largest |1 + Σ_n Π_{m≤n} (−k_m)| over all first layers: x has moved by so many first increments."""
    return max(float(abs(1 + np.cumsum(np.cumprod(-k[first:]))).max()) for first in range(len(k)))


def test_partial_sums_of_increments() -> None:
    rng = np.random.default_rng(0)
    assert 3 < partial_sums(rng.uniform(-0.95, 0.95, 2000)) < 1 / (1 - 0.95)
    assert partial_sums(np.full(800, -0.95)) == pytest.approx(20, rel=1e-12)
    close = rng.uniform(-1, -0.9, 2000)
    assert 20 < partial_sums(close) < 100  # beyond what κ = 0.95 allows: 1/0.05 is where its mean would lead
    sums = partial_sums(close)
    assert product_bound(two_step(close)) == pytest.approx(2 * sums - 1, rel=1e-12)


def test_contraction_of_two_steps_is_the_largest_coefficient() -> None:
    assert contraction(two_step([0.3, -0.7, 0.1])) == pytest.approx(0.7)
    assert contraction(np.ones((3, 1))) == 0
    assert product_bound(np.ones((3, 1))) == uniform_bound(0.5, 1) == 1


@pytest.mark.parametrize("states", [[], [1.0, 2.0], [[math.nan, 1.0]], [["a", "b"]], [[1, 2], [3]], [[1j, 0]], None])
def test_bad_states_are_refused(states: Any) -> None:
    for measure in (product_bound, contraction):
        with pytest.raises(OdenasError, match="`states`"):
            measure(states)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(OdenasError, match=r"off 1 by 0\.5"):
        contraction([[1.0, 0.5]])
    for kappa in (1, -0.1, 1.5, "x", math.nan):
        with pytest.raises(OdenasError, match="`kappa`"):
            uniform_bound(kappa)
    for steps in (0, 1.5, True):
        with pytest.raises(OdenasError, match="`steps`"):
            uniform_bound(0.5, steps)  # type: ignore[arg-type]
