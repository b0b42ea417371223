"""Zero-stability, against polynomials built from known roots, and nodepy."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy import linear_multistep_method as lmm
from numpy.typing import NDArray

from odenas.space.root_condition import root_condition
from odenas.space.tableau import Tableau
from odenas.space.zero_stability import zero_stable

# Factors over the rationals with their largest |root|: inside, on and outside the circle.
INSIDE = [(1, 0), (1, "-1/2"), (1, "1/2"), (1, "-999/1000"), (1, 0, "1/4"), (1, -1, "1/2"), (1, "1/3", "9/10")]
ON = [(1, 1), (1, 0, 1), (1, 1, 1), (1, -1, 1), (1, "-6/5", 1), (1, 1, 1, 1, 1)]
OUTSIDE = [(1, "6/5"), (1, -2), (1, "1001/1000"), (1, 0, "11/10"), (1, -3, 1)]


def rho_of(*factors: tuple[Any, ...]) -> Tableau:
    """Return the tableau with ρ(ζ) = (ζ − 1) Π factors, highest power first."""
    rho = np.array([Fraction(1), Fraction(-1)], dtype=object)
    for factor in factors:
        rho = np.convolve(rho, np.array([Fraction(c) for c in factor], dtype=object))
    return Tableau.multistep([-alpha for alpha in rho[1:]], (1,))


def rounded(roots: list[complex], dtype: Any) -> Tableau:
    return Tableau.multistep([float(v) for v in (-np.poly(roots).real[1:]).astype(dtype)], (1.0,))


def stable_roots(rng: np.random.Generator) -> list[complex]:
    """Return 1 and up to 4 more roots: unit roots apart from each other, the rest in |r| ≤ 0.95.

    Closer clusters at the circle exist that float32 cannot tell from a multiple root.
    """
    roots: list[complex] = [1.0]
    if rng.random() < 0.3:
        roots.append(-1.0)
    if rng.random() < 0.3:
        angle = rng.uniform(0.1, np.pi - 0.1)
        roots += [np.exp(1j * angle), np.exp(-1j * angle)]
    for _ in range(int(rng.integers(0, 3))):
        if rng.random() < 0.5:
            roots.append(rng.uniform(-0.95, 0.95))
        else:
            z = 0.95 * np.sqrt(rng.random()) * np.exp(1j * rng.uniform(0, np.pi))
            roots += [z, z.conjugate()]
    return roots


@pytest.mark.parametrize(
    ("k", "stable"),
    [
        ("-6/5", False),
        ("-1", False),
        ("-9999/10000", True),
        ("-1/2", True),
        ("0", True),
        ("1", True),
        ("1000001/1000000", False),
        ("6/5", False),
    ],
)
def test_two_step_methods_are_stable_for_k_above_minus_one_up_to_one(k: str, stable: bool) -> None:
    """ρ = (ζ − 1)(ζ + k)."""
    K = Fraction(k)
    assert zero_stable(Tableau.multistep((1 - K, K), (1,))) is stable


@pytest.mark.parametrize(
    ("states", "stable"),
    [
        ((1.9999, -0.9999), True),
        ((float(np.float32(1.999)), float(np.float32(-0.999))), True),
        ((2.0, -1.0), False),
        ((0.0, 1.0), True),
        ((-0.2, 1.2), False),
        ((2.0001, -1.0001), False),
        ((1.0,), True),
        ((1.0, 0.0, 0.0), True),
        ((2.0, -1.0, 0.0), False),
    ],
)
def test_two_step_methods_in_floating_point(states: tuple[float, ...], stable: bool) -> None:
    assert zero_stable(Tableau.multistep(states, (1.0,))) is stable


def test_double_root_on_the_circle_is_refused_exactly() -> None:
    assert not zero_stable(rho_of((1, -1), (1, "-1/2")))
    assert not zero_stable(rho_of((1, -1), (1, -1)))
    assert not zero_stable(rho_of((1, 0, 1), (1, 0, 1)))
    assert zero_stable(rho_of((1, "-1/2"), (1, "-1/2"), (1, "-1/2")))


def test_orders_beyond_the_first_dahlquist_barrier_are_unstable() -> None:
    assert not zero_stable(Tableau.multistep((-4, 5), (4, 2)))
    assert not zero_stable(Tableau.multistep((-18, 9, 10), (9, 18, 3)))
    assert not zero_stable(Tableau.multistep(("-128/3", -36, 64, "47/3"), (1,)))


@pytest.mark.parametrize("steps", range(1, 8))
def test_backward_differentiation_is_stable_up_to_six_steps(steps: int) -> None:
    """ρ = Σ_m (1/m) ζ^{k−m} (ζ − 1)^m (Hairer, Nørsett, Wanner I, III.3, theorem 3.4)."""
    rho: NDArray[Any] = np.array([Fraction(0)] * (steps + 1), dtype=object)
    difference = np.array([Fraction(1)], dtype=object)
    for m in range(1, steps + 1):
        difference = np.convolve(difference, np.array([Fraction(1), Fraction(-1)], dtype=object))
        rho[: m + 1] += difference / m
    states = [-alpha / rho[0] for alpha in rho[1:]]
    assert zero_stable(Tableau.multistep(states, (1,))) is (steps <= 6)
    assert zero_stable(Tableau.multistep([float(v) for v in states], (1,))) is (steps <= 6)


@settings(deadline=None)
@given(st.lists(st.sampled_from(INSIDE + ON), max_size=4), st.lists(st.sampled_from(INSIDE + OUTSIDE), max_size=1))
def test_exact_products_of_known_factors(most: list[tuple[Any, ...]], last: list[tuple[Any, ...]]) -> None:
    on = [factor for factor in most if factor in ON]
    expected = len(set(on)) == len(on) and not any(factor in OUTSIDE for factor in last)
    assert zero_stable(rho_of(*most, *last)) is expected


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=5), st.integers(0, 2))
def test_complex_polynomials_with_gaussian_unit_roots(powers: list[int], inside: int) -> None:
    """Roots i^m, not in conjugate pairs, and (1 + i)/2."""
    polynomial = np.array([2 + 1j])
    for m in powers:
        polynomial = np.convolve([-(1j**m), 1], polynomial)
    for _ in range(inside):
        polynomial = np.convolve([-(1 + 1j), 2], polynomial)
    integers = [(round(c.real), round(c.imag)) for c in polynomial]
    assert root_condition(integers) is (len(set(powers)) == len(powers))
    assert not root_condition([(round(c.real), round(c.imag)) for c in np.convolve([-(2 + 1j), 1], polynomial)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_stable_methods_are_accepted(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    assert sum(zero_stable(rounded(stable_roots(rng), dtype)) for _ in range(2000)) == 2000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_double_unit_roots_are_refused(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    accepted = 0
    for _ in range(2000):
        roots = stable_roots(rng)
        again = rng.choice([root for root in roots if abs(abs(root) - 1) < 1e-12])
        accepted += zero_stable(
            rounded(roots + ([again, np.conj(again)] if abs(again.imag) > 1e-12 else [again]), dtype)
        )
    assert accepted == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounded_roots_outside_are_refused(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    accepted = 0
    for _ in range(500):
        z = rng.uniform(1.01, 1.5) * np.exp(1j * rng.uniform(0, np.pi))
        accepted += zero_stable(rounded([*stable_roots(rng), z, z.conjugate()], dtype))
    assert accepted == 0


def test_agrees_with_nodepy_on_random_methods() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        states = [Fraction(int(v), 16) for v in rng.integers(-24, 25, rng.integers(1, 4))]
        states.append(1 - sum(states, Fraction(0)))
        alpha = np.array([-float(v) for v in reversed(states)] + [1.0])
        method = lmm.LinearMultistepMethod(alpha, np.eye(len(alpha))[-2])
        found.append(zero_stable(Tableau.multistep(states, (1,))))
        assert found[-1] == method.is_zero_stable(tol=1e-5), states
    assert 50 < sum(found) < 250


def for_second_derivative(tableau: Tableau) -> Tableau:
    return replace(tableau, derivative=2)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("factor", ON)
@pytest.mark.parametrize("within", [(), INSIDE[1], INSIDE[4]])
def test_for_the_second_derivative_unit_roots_may_be_double(times: int, factor: Any, within: Any) -> None:
    inside = [within] * 3 if within else []  # whose multiplicity does not matter
    tableau = for_second_derivative(rho_of(*[factor] * times, *inside))
    assert zero_stable(tableau) is (times <= 2)
    assert zero_stable(for_second_derivative(rho_of((1, -1), *[factor] * times, *inside))) is (times <= 2)
    assert not zero_stable(for_second_derivative(rho_of((1, -1), (1, -1), factor)))


@pytest.mark.parametrize("factor", OUTSIDE)
def test_for_the_second_derivative_roots_outside_are_refused(factor: Any) -> None:
    assert not zero_stable(for_second_derivative(rho_of((1, -1), factor)))
    assert not zero_stable(for_second_derivative(rho_of(factor)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_for_the_second_derivative_of_rounded_methods(dtype: Any) -> None:
    """1 twice and perhaps another pair of unit roots twice; then one of the roots on the circle once more."""
    rng = np.random.default_rng(4)
    accepted, refused = 0, 0
    for _ in range(300):
        pair = [np.exp(1j * rng.uniform(0.8, np.pi - 0.8))] if rng.random() < 0.5 else []
        roots = [1.0, 1.0, *2 * pair, *2 * np.conj(pair).tolist(), rng.uniform(-0.7, 0.7)]
        more = [1.0] if rng.random() < 0.5 or not pair else [*pair, *np.conj(pair).tolist()]
        accepted += zero_stable(for_second_derivative(rounded(roots, dtype)))
        refused += not zero_stable(for_second_derivative(rounded([*roots, *more], dtype)))
    assert (accepted, refused) == (300, 300)
