"""Implicit multistep methods: as nodepy, by the locus of their roots, and under Dahlquist's barriers."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from nodepy import linear_multistep_method as lmm
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.feasible import states_from_reflections
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.order import error_constant, order
from odenas.space.stability import is_stable_at, spectral_radius
from odenas.space.zero_stability import zero_stable

FROM_NODEPY = {
    "backward_euler": lmm.backward_difference_formula(1),
    "trapezoid": lmm.Adams_Moulton(1),
    **{f"adams_moulton{k}": lmm.Adams_Moulton(k) for k in range(2, 6)},
    **{f"bdf{k}": lmm.backward_difference_formula(k) for k in range(2, 7)},
    "milne": lmm.Milne_Simpson(2),
    "milne4": lmm.Milne_Simpson(4),
}


def theta(weight: Fraction) -> ImplicitMultistep:
    """Return x_{n+1} = x_n + h (θ f_{n+1} + (1 − θ) f_n)."""
    return ImplicitMultistep((Fraction(1),), (weight, 1 - weight))


def slopes_of_order(states: list[Fraction], given: list[Fraction], p: int) -> tuple[Fraction, ...]:
    """Return the slopes, of which the last are `given`, that make the order p: Gauss's elimination, no Lagrange."""
    rows = []
    for q in range(1, p + 1):
        right = 1 - sum((v * (-j) ** q for j, v in enumerate(states)), Fraction(0))
        known = sum((b * (1 - j) ** (q - 1) for j, b in enumerate(given, start=p)), Fraction(0))
        rows.append([*(Fraction((1 - j) ** (q - 1)) for j in range(p)), right / q - known])
    for i in range(p):
        pivot = next(row for row in rows[i:] if row[i])
        rows.remove(pivot)
        rows.insert(i, [entry / pivot[i] for entry in pivot])
        rows = [
            row if n == i else [a - row[i] * b for a, b in zip(row, rows[i], strict=True)] for n, row in enumerate(rows)
        ]
    return (*(row[-1] for row in rows), *given)


def drawn(rng: np.random.Generator, steps: int, p: int) -> ImplicitMultistep:
    """Return a zero-stable k-step method of order p or more."""
    reflections = [Fraction(int(n), 10) for n in rng.integers(-9, 10, steps - 1)]
    if steps > 1 and rng.random() < 0.3:
        reflections[-1] = Fraction(1)
    states = states_from_reflections(reflections)
    given = [Fraction(int(n), 8) for n in rng.integers(-8, 9, steps + 1 - p)]
    slopes = slopes_of_order(states, given, p)
    return ImplicitMultistep(tuple(states), slopes) if slopes[0] else drawn(rng, steps, p)


def polynomials(method: ImplicitMultistep) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ρ and σ, highest power first."""
    return np.array([1, *(-v for v in method.states)], dtype=float), np.array(method.slopes, dtype=float)


def radius(method: ImplicitMultistep, z: complex) -> float:
    rho, sigma = polynomials(method)
    return float(abs(np.roots(rho - z * sigma)).max())


def interval(method: ImplicitMultistep, direction: complex) -> float:
    """Return the interval between crossings: places on the axis with a root ζ on the circle, where ρσ̄ ± σρ̄ = 0."""
    rho, sigma = polynomials(method)
    sign = -1 if direction == -1 else 1
    crossing = np.convolve(rho, sigma[::-1]) + sign * np.convolve(sigma, rho[::-1])
    # A symmetric method crosses the imaginary axis nowhere: its locus lies on it, and ends where z(θ) turns.
    turning = np.convolve(np.polyder(rho), sigma) - np.convolve(rho, np.polyder(sigma))
    on = np.roots(crossing if abs(crossing).max() > 1e-12 else turning)
    on = on[abs(abs(on) - 1) < 1e-4]
    on = np.r_[on / abs(on), 1, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = np.polyval(rho, on) / np.polyval(sigma, on) / direction
    crossed = crossed[np.isfinite(crossed) & (abs(crossed) < 1e6)]
    ends = np.unique(np.r_[0, crossed.real[(crossed.real > 0.05) & (abs(crossed.imag) < 1e-6)]])
    for low, high in zip(ends, np.r_[ends[1:], 2 * ends[-1] + 2], strict=True):
        if radius(method, direction * (low + high) / 2) > 1 + 1e-9:
            return float(low)
    return math.inf


@pytest.mark.parametrize("name", IMPLICIT)
def test_coefficients_as_nodepy(name: str) -> None:
    method, other = implicit(name), FROM_NODEPY[name]
    leading = float(other.alpha[-1])
    assert [float(v) for v in method.states] == pytest.approx(-np.array(other.alpha[-2::-1], dtype=float) / leading)
    assert [float(b) for b in method.slopes] == pytest.approx(np.array(other.beta[::-1], dtype=float) / leading)
    assert other.order(tol=1e-10) == method.order
    assert other.is_zero_stable(tol=1e-5) == method.zero_stable
    assert method.zero_stable


@pytest.mark.parametrize("name", IMPLICIT)
def test_every_row_says_what_it_is(name: str) -> None:
    about, method = IMPLICIT[name]
    assert about.endswith(f" Order {method.order}.")
    assert "\n" not in about


@pytest.mark.parametrize(
    ("name", "order", "constant", "real", "imaginary"),
    [
        ("backward_euler", 1, "-1/2", math.inf, math.inf),
        ("trapezoid", 2, "-1/12", math.inf, math.inf),
        ("adams_moulton2", 3, "-1/24", 6, 0),
        ("adams_moulton3", 4, "-19/720", 3, 0),
        ("adams_moulton4", 5, "-3/160", 90 / 49, 1.21),
        ("adams_moulton5", 6, "-863/60480", 45 / 38, 1.38),
        ("bdf2", 2, "-1/3", math.inf, math.inf),
        *((f"bdf{k}", k, f"-1/{k + 1}", math.inf, None) for k in range(3, 7)),
        ("milne", 4, "-1/180", 0, math.sqrt(3)),
        ("milne4", 5, None, 0, None),
    ],
)
def test_known_properties(name: str, order: int, constant: str | None, real: float, imaginary: float | None) -> None:
    method = implicit(name)
    assert method.order == order
    assert constant is None or method.error_constant == pytest.approx(float(Fraction(constant)), rel=1e-15)
    assert method.real_interval == (real if real in (0, math.inf) else pytest.approx(real, rel=1e-14))
    if imaginary is not None:
        exact = imaginary in (0, math.inf)
        rounded = round(method.imaginary_interval, 2)
        assert (method.imaginary_interval == imaginary) if exact else rounded == round(imaginary, 2)


def test_bdf_are_their_backward_differences_and_end_at_six() -> None:
    """Σ_{j=1}^k ∇^j x_{n+1}/j = h f_{n+1}; zero-stable for k ≤ 6 alone (Cryer 1972)."""
    for k in range(1, 10):
        weights = [Fraction(0)] * (k + 1)
        for j in range(1, k + 1):
            for i in range(j + 1):
                weights[i] += Fraction((-1) ** i * math.comb(j, i), j)
        method = ImplicitMultistep(tuple(-w / weights[0] for w in weights[1:]), (1 / weights[0],))
        assert method.order == k
        assert method.zero_stable is (k <= 6)
        if k <= 6:
            assert method == implicit({1: "backward_euler"}.get(k, f"bdf{k}"))


@pytest.mark.parametrize("name", IMPLICIT)
def test_functions_of_a_method_take_it(name: str) -> None:
    method = implicit(name)
    assert (order(method), error_constant(method), zero_stable(method)) == (
        method.order,
        method.error_constant,
        method.zero_stable,
    )
    assert order(method, 1) == 1


@pytest.mark.parametrize("name", IMPLICIT)
@pytest.mark.parametrize(("axis", "direction"), [("real_interval", -1), ("imaginary_interval", 1j)])
def test_intervals_between_the_crossings(name: str, axis: str, direction: complex) -> None:
    assert getattr(implicit(name), axis) == pytest.approx(interval(implicit(name), direction), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize(("axis", "direction"), [("real_interval", -1), ("imaginary_interval", 1j)])
def test_intervals_of_random_methods_between_the_crossings(seed: int, axis: str, direction: complex) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 5))
    method = drawn(rng, steps, int(rng.integers(1, min(steps, 3) + 1)))
    found = getattr(method, axis)
    if found > 0.1:  # what the crossings see
        assert found == pytest.approx(interval(method, direction), rel=1e-5)
    else:
        near = direction * (found + 1e-3)
        assert radius(method, near) > 1 - 1e-9
        assert not is_stable_at(method, Fraction(near.real), Fraction(near.imag))


def test_the_random_methods_are_of_every_kind() -> None:
    methods = [drawn(np.random.default_rng(seed), 2, 2) for seed in range(60)]
    kinds = {(method.slopes[0] > 0, method.real_interval == 0, math.isinf(method.real_interval)) for method in methods}
    assert len(kinds) >= 4


@pytest.mark.parametrize("name", IMPLICIT)
def test_polynomial_is_rho_less_z_sigma(name: str) -> None:
    method, (rho, sigma) = implicit(name), polynomials(implicit(name))
    table = np.array(method.stability_polynomial(), dtype=float)[::-1]
    zeros = np.zeros(len(rho) - len(table))
    assert np.r_[table[:, 0], zeros] == pytest.approx(rho)
    assert np.r_[table[:, 1], zeros] == pytest.approx(-sigma)
    z = np.array([[-0.3 + 0.2j], [-40 + 3j]])
    assert spectral_radius(method, z) == pytest.approx(np.vectorize(lambda w: radius(method, w))(z), rel=1e-9)


@pytest.mark.parametrize(
    "weight", [Fraction(-1), Fraction(1, 4), Fraction(1, 3), Fraction(1, 2) - Fraction(1, 2**40), Fraction(499, 1000)]
)
def test_theta_methods_below_one_half_are_stable_to_where_r_is_minus_1(weight: Fraction) -> None:
    """R(z) = (1 + (1 − θ) z)/(1 − θz) ≥ −1 for z ≥ −2/(1 − 2θ)."""
    assert theta(weight).real_interval == pytest.approx(float(2 / (1 - 2 * weight)), rel=1e-14)
    assert theta(weight).imaginary_interval == 0


@pytest.mark.parametrize("weight", [Fraction(1, 2), Fraction(1, 2) + Fraction(1, 2**40), Fraction(3, 4), Fraction(2)])
def test_theta_methods_from_one_half_on_are_a_stable(weight: Fraction) -> None:
    method = theta(weight)
    assert (method.real_interval, method.imaginary_interval, method.stability_angle) == (math.inf, math.inf, 90)


def test_a_pole_is_an_infinite_root() -> None:
    """The leading coefficient 1 − slopes[0] z vanishes at z = −1 for θ = −1, at z = 1 for backward Euler."""
    for method, z in ((theta(Fraction(-1)), -1), (implicit("backward_euler"), 1)):
        assert spectral_radius(method, z) == math.inf
        assert not is_stable_at(method, z)
    assert not is_stable_at(theta(Fraction(-1)), Fraction(-1) + Fraction(1, 10**20))
    assert is_stable_at(implicit("backward_euler"), 2)
    assert not is_stable_at(implicit("backward_euler"), 2 - Fraction(1, 10**20))


@pytest.mark.parametrize("excess", [Fraction(0), Fraction(1, 10**12), Fraction(1, 10**6)])
def test_a_narrow_gap_at_a_pole_ends_the_interval(excess: Fraction) -> None:
    """R = (1 + (3/10 + e) z)/(1 + 3/10 z) is −1 at z = −2/(3/5 + e); for e = 0 all vanishes at −10/3, R = 1 else."""
    method = ImplicitMultistep((Fraction(1),), (Fraction(-3, 10), Fraction(3, 10) + excess))
    assert method.real_interval == pytest.approx(float(2 / (Fraction(3, 5) + excess)), rel=1e-15)
    assert not is_stable_at(method, Fraction(-10, 3))
    assert is_stable_at(method, Fraction(-10, 3) + Fraction(1, 10**5))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_first_dahlquist_barrier(steps: int) -> None:
    """Zero-stable methods have p ≤ k + 2 for even k, k + 1 for odd k, and p ≤ k if β_k ≤ 0 (Dahlquist 1956)."""
    rng = np.random.default_rng(steps)
    barrier = steps + 2 - steps % 2
    reached = set()
    for _ in range(25):
        method = drawn(rng, steps, steps + 1)
        assert method.zero_stable
        assert steps + 1 <= method.order <= barrier
        assert method.slopes[0] > 0
        reached.add(method.order)
    assert steps + 1 in reached
    for _ in range(10):
        method = drawn(rng, steps, steps)
        if method.slopes[0] < 0:
            assert method.order == steps


@pytest.mark.parametrize("inside", [Fraction(0), Fraction(1, 3), Fraction(-4, 5)])
def test_the_even_barrier_is_attained_with_all_roots_on_the_circle(inside: Fraction) -> None:
    """ρ = (ζ² − 1)(ζ² − 2cζ + 1) has order 6 with k = 4 (Hairer, Nørsett, Wanner I, III.3)."""
    states = [2 * inside, Fraction(0), -2 * inside, Fraction(1)]
    method = ImplicitMultistep(tuple(states), slopes_of_order(states, [], 5))
    assert method.zero_stable
    assert method.order == 6
    assert implicit("milne").order == 4


@pytest.mark.parametrize("k", [3, 4])
def test_the_highest_order_2k_is_not_zero_stable(k: int) -> None:
    """The 2k conditions have one solution; for x = t^q they read 1 = Σ V_j (−j)^q + q Σ b_j (1 − j)^{q−1}."""
    rows = [
        [*((-j) ** q for j in range(k)), *(q * (1 - j) ** (q - 1) if q else 0 for j in range(k + 1))]
        for q in range(2 * k + 1)
    ]
    solution = np.linalg.solve(np.array(rows, dtype=float), np.ones(2 * k + 1))
    entries = [Fraction(float(entry)).limit_denominator(10**4) for entry in solution]
    method = ImplicitMultistep(tuple(entries[:k]), tuple(entries[k:]))
    assert method.order == 2 * k
    assert not method.zero_stable


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_second_dahlquist_barrier(steps: int) -> None:
    """A-stable methods have p ≤ 2 and |C₃/σ(1)| ≥ 1/12, that of the trapezoidal rule (Dahlquist 1963)."""
    rng = np.random.default_rng(steps)
    found = 0
    for trial in range(60):
        method = drawn(rng, steps, 2 if trial % 2 or steps == 1 else 3)
        if method.stability_angle == 90:
            found += 1
            assert method.order == 2
            assert abs(method.error_constant) >= 1 / 12
            assert method.slopes[0] > 0
    assert found


def test_values_are_filled_up_and_exact() -> None:
    method = ImplicitMultistep(("4/3", "-1/3"), ("2/3",))  # type: ignore[arg-type]
    assert method == implicit("bdf2")
    assert method.states == (Fraction(4, 3), Fraction(-1, 3))
    assert method.slopes == (Fraction(2, 3), Fraction(0), Fraction(0))
    assert method.steps == 2
    half = ImplicitMultistep([1], [0.5, 0.5])  # type: ignore[arg-type]
    assert half == implicit("trapezoid")
    assert all(isinstance(entry, Fraction) for entry in half.entries)
    assert ImplicitMultistep((1,), (0.5, "1/4", "1/4")).steps == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("name", IMPLICIT)
def test_json_pickles_and_copies_are_equal(name: str) -> None:
    method = implicit(name)
    for again in (
        ImplicitMultistep.from_dict(json.loads(json.dumps(method.to_dict(), allow_nan=False))),
        pickle.loads(pickle.dumps(method)),
        copy.deepcopy(method),
    ):
        assert again == method
        assert hash(again) == hash(method)
        assert again.to_dict() == method.to_dict()
    with pytest.raises(FrozenInstanceError):
        method.states = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("states", "slopes", "message"),
    [
        ((1,), (0, 1), "`slopes` begins with 0, but the weight of f(x_{n+1}) must not be 0"),
        ((1, 1), (1,), "`states` is (1, 1), but must sum to 1"),
        ((1 / 3, 1 / 3, 1 / 3), (1,), "but must sum to 1"),
        ((), (1,), "`states` is empty"),
        ((1,), (), "`slopes` is empty"),
        ("1", (1,), "`states` is '1', but must be a list of numbers"),
        (1, (1,), "`states` is 1, but must be a list of numbers"),
        ((1,), (float("nan"),), "`slopes` holds nan, but needs finite numbers"),
        ((1,), ("a",), "`slopes` holds 'a'"),
    ],
)
def test_bad_values_are_refused_in_one_line(states: Any, slopes: Any, message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        ImplicitMultistep(states, slopes)
    assert "\n" not in str(caught.value)


def test_bad_tables_and_names_are_refused() -> None:
    with pytest.raises(OdenasError, match=re.escape("`implicit method` is 'bdf7', but must be one of")):
        implicit("bdf7")
    with pytest.raises(OdenasError, match="did you mean 'trapezoid'"):
        implicit("trapezoidal")
    with pytest.raises(OdenasError, match="`implicit method` lacks slopes"):
        ImplicitMultistep.from_dict({"states": [1]})
    with pytest.raises(OdenasError, match="is a list"):
        ImplicitMultistep.from_dict([])  # type: ignore[arg-type]
