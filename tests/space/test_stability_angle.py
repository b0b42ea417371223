"""The angle of A(α)-stability: as published, as nodepy, and as the rays of the wedge are found stable."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from nodepy import linear_multistep_method as lmm
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from odenas.space.errors import OdenasError
from odenas.space.feasible import states_from_reflections
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.stability import is_stable_at, spectral_radius
from odenas.space.stability_angle import stability_angle
from odenas.space.tableau import Tableau

RADII = np.geomspace(1e-3, 1e3, 1500)


def on_locus(method: ImplicitMultistep, theta: ArrayLike) -> NDArray[np.complex128]:
    """Return the z that have the root e^{iθ}."""
    zeta = np.exp(1j * np.asarray(theta))
    z = np.polyval([1, *(-float(v) for v in method.states)], zeta) / np.polyval([float(b) for b in method.slopes], zeta)
    return np.asarray(z, dtype=complex)


def degrees_off(z: ArrayLike) -> NDArray[np.float64]:
    """Return the angle between z and the negative real axis."""
    return np.asarray(np.degrees(abs(np.angle(-np.asarray(z)))), dtype=float)


def drawn(rng: np.random.Generator) -> ImplicitMultistep:
    """Return a zero-stable method of 2 or 3 steps with σ Schur, so that it is stable at infinity; order 1."""
    k = int(rng.integers(2, 4))

    def reflections(number: int) -> list[Fraction]:
        return [Fraction(int(n), 10) for n in rng.integers(-7, 8, number)]

    states = states_from_reflections(reflections(k - 1))
    sigma = [Fraction(1)]
    for kappa in reflections(k):
        padded = [*sigma, Fraction(0)]
        sigma = [a + kappa * b for a, b in zip(padded, reversed(padded), strict=True)]
    # Σ β = ρ'(1)
    slope = 1 - sum((v * -j for j, v in enumerate(states)), Fraction(0))
    return ImplicitMultistep(tuple(states), tuple(b * slope / sum(sigma) for b in sigma))


@pytest.mark.parametrize(
    ("name", "degrees"),
    [
        *((name, 90.0) for name in ("backward_euler", "trapezoid", "bdf2")),
        ("bdf3", 86.03),
        ("bdf4", 73.35),
        ("bdf5", 51.84),
        ("bdf6", 17.84),
        *((f"adams_moulton{k}", 0.0) for k in range(2, 6)),
        ("milne", 0.0),
        ("milne4", 0.0),
    ],
)
def test_known_angles(name: str, degrees: float) -> None:
    """BDF: Hairer, Wanner II, V.2."""
    found = implicit(name).stability_angle
    assert found == degrees if degrees in (0, 90) else found == pytest.approx(degrees, abs=0.005)


@pytest.mark.parametrize("k", range(1, 7))
def test_floors_as_nodepy(k: int) -> None:
    method = implicit(f"bdf{k}") if k > 1 else implicit("backward_euler")
    assert math.floor(method.stability_angle) == lmm.backward_difference_formula(k).A_alpha_stability()


@pytest.mark.parametrize("k", range(3, 7))
def test_the_least_angle_on_the_locus(k: int) -> None:
    """By minimisation in floating point over θ, to 1e-9 degrees."""
    method = implicit(f"bdf{k}")
    grid = np.linspace(0.05, math.pi, 3000)
    best = grid[int(np.argmin(degrees_off(on_locus(method, grid))))]
    found = minimize_scalar(
        lambda theta: float(degrees_off(on_locus(method, theta))),
        bounds=(best - 0.01, best + 0.01),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert method.stability_angle == pytest.approx(found.fun, abs=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_the_wedge_is_stable_and_no_wider_one_is(seed: int) -> None:
    method = drawn(np.random.default_rng(seed))
    angle = method.stability_angle

    def worst(degrees: float) -> float:
        return float(spectral_radius(method, -RADII * np.exp(1j * math.radians(degrees))).max())

    assert 0 <= angle <= 90
    if math.isfinite(method.real_interval):
        assert angle == 0
        return
    for degrees in np.linspace(0, max(angle - 0.01, 0), 12):
        assert worst(degrees) < 1 + 1e-9
    if angle < 90:
        assert worst(angle + 0.3) > 1


def test_the_random_methods_are_of_every_kind() -> None:
    angles = [drawn(np.random.default_rng(seed)).stability_angle for seed in range(25)]
    assert angles.count(90) >= 5
    assert sum(0 < angle < 90 for angle in angles) >= 5


@pytest.mark.parametrize("power", [8, 20, 40])
def test_what_is_nearly_a_stable_is_not(power: int) -> None:
    """x_{n+1} = x_n + h (θ f_{n+1} + (1 − θ) f_n) is A-stable from θ = 1/2 on; below it not even on the axis."""
    for sign, degrees in ((1, 90.0), (-1, 0.0)):
        weight = Fraction(1, 2) + Fraction(sign, 2**power)
        assert ImplicitMultistep((Fraction(1),), (weight, 1 - weight)).stability_angle == degrees


@pytest.mark.parametrize("offset", [Fraction(1, 100), Fraction(1, 10**6)])
def test_the_edge_of_a_stability_in_a_family(offset: Fraction) -> None:
    """BDF2 with a pair of slopes moved: P(c) = (1 − c)(…), which changes sign for one of the two directions only."""
    bdf2 = implicit("bdf2")
    for sign in (1, -1):
        moved = ImplicitMultistep(bdf2.states, (bdf2.slopes[0], sign * offset, -sign * offset))
        angle = moved.stability_angle
        least = degrees_off(on_locus(moved, np.linspace(1e-4, math.pi, 100_000))).min()
        assert angle == pytest.approx(min(90, least), abs=1e-3)


def test_a_root_of_sigma_on_the_circle_leaves_its_direction() -> None:
    """Two steps of the trapezoidal rule, z = (ζ² − 1)/(…): the locus is the imaginary axis, and reaches infinity."""
    double = ImplicitMultistep((0, 1), ("1/2", 1, "1/2"))  # type: ignore[arg-type]
    assert double.stability_angle == 90
    # σ = 3/4 (ζ² + 1) = 3/2 cos θ ζ changes sign at ±i, and z comes back from infinity as −(ρ/ζ)(i) = (−1 + 3i)/2.
    method = ImplicitMultistep(("1/2", "1/2"), ("3/4", 0, "3/4"))  # type: ignore[arg-type]
    assert math.isinf(method.real_interval)
    assert method.stability_angle == pytest.approx(math.degrees(math.atan(3)), abs=1e-12)


@pytest.mark.parametrize("name", IMPLICIT)
def test_exact_decisions_on_both_sides_of_the_angle(name: str) -> None:
    """At a rational point just inside the wedge, and at one just outside, where the locus comes nearest."""
    method = implicit(name)
    angle = method.stability_angle
    if not 0 < angle < 90:
        return
    z = on_locus(method, np.linspace(0.05, math.pi, 100_000))
    size = abs(z[np.argmin(degrees_off(z))])
    for offset, stable in ((-0.001, True), (0.001, False)):
        near = -size * np.exp(1j * math.radians(angle + offset))
        assert is_stable_at(method, Fraction(near.real), Fraction(near.imag)) is stable


def test_explicit_methods_have_no_angle_and_others_no_answer() -> None:
    assert stability_angle(Tableau.multistep((1,), ("3/2", "-1/2"))) == 0
    heun = Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2"))
    with pytest.raises(OdenasError, match="degree 2 in z, but A\\(α\\) needs one of degree 1"):
        stability_angle(heun)
