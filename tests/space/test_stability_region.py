"""Stability regions, against exact decisions, the roots, and curves known in closed form."""

from __future__ import annotations

import math
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space import OdenasError, Tableau, scheme
from odenas.space.implicit import ImplicitMultistep
from odenas.space.integrate import RK4
from odenas.space.method import Method
from odenas.space.stability import imaginary_interval, is_stable_at, real_interval, spectral_radius
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.stability_region import boundary_locus, stability_margin, stability_region

EULER, AB2, AB3 = (scheme(name).tableau for name in ("euler", "ab2", "ab3"))
AB5 = Tableau.multistep((1,), ("1901/720", "-1387/360", "109/30", "-637/360", "251/720"))
BACKWARD_EULER = ImplicitMultistep((Fraction(1),), (Fraction(1),))
BDF3 = ImplicitMultistep((Fraction(18, 11), Fraction(-9, 11), Fraction(2, 11)), (Fraction(6, 11),))
PECE = Tableau(  # Heun's corrector on AB2
    V=("1", 0),  # type: ignore[arg-type]
    B=("1/2", "1/2"),  # type: ignore[arg-type]
    A=((0, 0), ("3/2", 0)),  # type: ignore[arg-type]
    W=((0,), ("-1/2",)),  # type: ignore[arg-type]
)
FIVE_STEP = Tableau.multistep(("1/2", "1/5", "1/10", "1/10", "1/10"), ("3/2", "1/3", "1/4", "1/5", "1/6"))
METHODS: dict[str, tuple[Method, float]] = {
    "euler": (EULER, 2.5),
    "ab2": (AB2, 1.5),
    "ab3": (AB3, 1.0),
    "ab5": (AB5, 0.4),
    "five steps": (FIVE_STEP, 1.5),
    "rk4": (RK4, 3.5),
    "pece": (PECE, 3.0),
    "momentum": (scheme("momentum").tableau, 45.0),
    "backward euler": (BACKWARD_EULER, 3.0),
    "bdf3": (BDF3, 8.0),
}


def cloud(size: float, count: int, seed: int = 0) -> NDArray[np.complex128]:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(-size, size / 2, count) + 1j * rng.uniform(-size, size, count))


@pytest.mark.parametrize("name", METHODS)
def test_as_decided_exactly(name: str) -> None:
    method, size = METHODS[name]
    points = cloud(size, 60)
    found = [bool(margin > 0) for margin in stability_margin(method, points)]
    assert found == [is_stable_at(method, z.real, z.imag) for z in points]
    assert {True, False} == set(found)


@pytest.mark.parametrize("name", METHODS)
def test_as_the_roots_say(name: str) -> None:
    method, size = METHODS[name]
    points = cloud(size, 5000, seed=1)
    radius = spectral_radius(method, points)
    clear = abs(radius - 1) > 1e-9
    assert np.array_equal((stability_margin(method, points) > 0)[clear], (radius < 1)[clear])


@pytest.mark.parametrize("seed", range(30))
def test_random_polynomials_of_high_degree(seed: int) -> None:
    """Tableaus with up to 6 steps and 4 stages, no matter how unstable."""
    rng = np.random.default_rng(seed)
    k, s = int(rng.integers(1, 7)), int(rng.integers(1, 5))

    def draw(height: int, width: int, total: Fraction | None = None) -> list[list[Fraction]]:
        rows = [[Fraction(int(n), 16) for n in row] for row in rng.integers(-4, 9, (height, width))]
        if total is not None:
            rows = [[*row[1:], total - sum(row[1:])] for row in rows]
        return rows

    parts: dict[str, Any] = {
        "V": draw(1, k, Fraction(1))[0],
        "B": draw(1, s)[0],
        "R": draw(1, k - 1)[0],
        "U": draw(s, k, Fraction(1)),
        "W": draw(s, k - 1) if k > 1 else (),
        "A": [[a if j < i else Fraction(0) for j, a in enumerate(row)] for i, row in enumerate(draw(s, s))],
    }
    tableau = Tableau(**parts)
    points = cloud(3, 2000, seed)
    radius = spectral_radius(tableau, points)
    clear = abs(radius - 1) > 1e-6
    assert np.array_equal((stability_margin(tableau, points) > 0)[clear], (radius < 1)[clear])


def test_shape_axes_and_blocks() -> None:
    """The grid is larger than one block; Euler's region is the disc |1 + z| < 1."""
    x, y = np.linspace(-3, 1, 301), np.linspace(-1.5, 1.4, 203)
    region = stability_region(EULER, x, y)
    assert region.shape == (203, 301)
    assert region.dtype == bool
    assert np.array_equal(region, abs(1 + x[None, :] + 1j * y[:, None]) < 1)
    assert stability_region(BACKWARD_EULER, [-1e6, 1], [0, 5]).tolist() == [[True, False], [True, True]]
    assert stability_region(EULER, [], [1, 2]).shape == (2, 0)
    assert stability_margin(EULER, -1) == 1
    assert stability_margin(RK4, [1e300, -1e300j, 1e200]).tolist() == [-1, -1, -1]  # overflow


def test_where_an_implicit_method_has_no_solution() -> None:
    """1 − z vanishes at z = 1, the middle of backward Euler's disc of instability."""
    assert not stability_margin(BACKWARD_EULER, 1) > 0
    assert np.array_equal(stability_margin(BACKWARD_EULER, [1 + 1.01, 1 + 0.99j, 1 + 1.01j]) > 0, [True, False, True])


@pytest.mark.parametrize("name", METHODS)
def test_margin_is_continuous_across_the_boundary(name: str) -> None:
    method, _ = METHODS[name]
    locus = boundary_locus(method, 41)[1:-1].ravel()
    locus = locus[np.isfinite(locus)]
    edge = locus[abs(spectral_radius(method, locus) - 1) < 1e-7]
    assert len(edge) >= 10
    assert abs(stability_margin(method, edge)).max() < 1e-4
    assert abs(stability_margin(method, edge * (1 + 1e-8))).max() < 1e-3


def test_a_factor_without_z_is_taken_out() -> None:
    """ρ and σ share ζ + 1 or ζ² − 1, whose roots do no harm; or ζ + 2 or (ζ + 1)², whose roots do."""
    x = np.linspace(-2.5, 0.5, 50)
    for harmless in (Tableau.multistep((0, 1), (1, 1)), Tableau.multistep((1, 1, -1), (1, 0, -1))):
        assert np.array_equal(stability_region(harmless, x, x), stability_region(EULER, x, x))
        assert is_stable_at(harmless, Fraction(-1), Fraction(1, 3))
    for harmful in (Tableau.multistep((-1, 2), (1, 2)), Tableau.multistep((-1, 1, 1), (1, 2, 1))):
        assert not stability_region(harmful, x, x).any()
        assert not is_stable_at(harmful, Fraction(-1), Fraction(1, 3))
    assert stability_region(Tableau.multistep(("1/2", "1/2"), (0,)), x, x).all()
    assert not stability_region(Tableau.multistep((3, -2), (0,)), x, x).any()


@pytest.mark.parametrize("name", METHODS)
def test_a_root_of_modulus_one_on_the_locus(name: str) -> None:
    method, _ = METHODS[name]
    locus = boundary_locus(method, 60)
    assert locus.shape[0] == 60
    theta = np.linspace(0, 2 * np.pi, 60)
    table = np.array(stability_polynomial(method), dtype=float)
    for angle, roots in zip(theta, locus, strict=True):
        for z in roots[np.isfinite(roots)]:
            powers = np.array([z**j for j in range(table.shape[1])])
            terms = table * np.exp(1j * angle * np.arange(len(table)))[:, None] * powers
            assert abs(terms.sum()) <= 1e-9 * abs(terms).sum()


def test_locus_of_known_methods() -> None:
    assert abs(boundary_locus(EULER) + 1) == pytest.approx(1)
    assert abs(boundary_locus(BACKWARD_EULER) - 1) == pytest.approx(1)
    trapezoid = boundary_locus(ImplicitMultistep((Fraction(1),), (Fraction(1, 2), Fraction(1, 2))), 101)
    assert np.isinf(trapezoid[50]).all()  # ζ = −1, where σ vanishes
    assert abs(np.delete(trapezoid, 50).real).max() < 1e-10
    assert boundary_locus(RK4).shape == (720, 4)
    assert boundary_locus(Tableau.multistep((1,), (0,)), 5).shape == (5, 0)
    midpoint = boundary_locus(scheme("midpoint").tableau, 100)
    assert abs(midpoint.real).max() < 1e-12
    assert abs(midpoint.imag).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["euler", "ab2", "ab3", "ab5", "rk4", "pece", "momentum"])
def test_the_region_ends_where_the_intervals_do(name: str) -> None:
    method, _ = METHODS[name]
    x, y = real_interval(method), imaginary_interval(method)
    fine = 1e-6 * max(x, 1)
    assert stability_region(method, [-x - fine, -x + fine, -x / 2, -fine], [0]).tolist() == [[False, True, True, True]]
    if y > 0:
        assert stability_region(method, [0], [y - fine, y + fine]).tolist() == [[True], [False]]


def test_a_million_points_take_less_than_two_seconds() -> None:
    axis = np.linspace(-0.3, 0.1, 1000)
    begun = time.process_time()
    region = stability_region(AB5, axis, axis)
    assert time.process_time() - begun < 2
    assert 0.1 < region.mean() < 0.9


@pytest.mark.parametrize("bad", [[[1.0]], [math.nan], ["a"], 1.0, [1j], None, [math.inf]])
def test_bad_axes_are_refused(bad: Any) -> None:
    with pytest.raises(OdenasError, match="`real`"):
        stability_region(EULER, bad, [0.0])
    with pytest.raises(OdenasError, match="`imaginary`"):
        stability_region(EULER, [0.0], bad)


@pytest.mark.parametrize("points", [1, 2.5, True, "9"])
def test_too_few_points_are_refused(points: Any) -> None:
    with pytest.raises(OdenasError, match="`points`"):
        boundary_locus(EULER, points)
