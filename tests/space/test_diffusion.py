"""The schemes for diffusion: box filters, stability at the stated bounds and not beyond, the fluxes' numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.optimize import brentq

from odenas.space import OdenasError, Tableau, scheme
from odenas.space.diffusion import (
    DIFFUSION,
    du_fort_frankel,
    du_fort_frankel_bound,
    explicit_bound,
    fsi,
    implicit_diffusion,
)
from odenas.space.diffusivities import DIFFUSIVITIES, WEICKERT, Diffusivity
from odenas.space.integrate import Field
from odenas.space.stability import is_stable_at, spectral_radius
from odenas.space.stability_polynomial import stability_polynomial

Array = NDArray[np.float64]
F = Fraction

CYCLES = [1, 2, 3, 5, 10]
POINTS = 64
ratios = st.fractions(F(1, 10**6), 10**6)


@pytest.fixture(params=DIFFUSIVITIES.values(), ids=list(DIFFUSIVITIES))
def diffusivity(request: pytest.FixtureRequest) -> Diffusivity:
    row = request.param
    assert isinstance(row, Diffusivity)
    return row


def differences(points: int, times: int = 1, periodic: bool = False) -> Array:
    """Return K of the forward differences, applied `times` over; without a flux through the ends if not periodic."""
    if periodic:
        return np.roll(np.eye(points), -1, 0) - np.eye(points)
    return np.diff(np.eye(points), times, axis=0)


def diffusion(K: Array, row: Diffusivity, contrast: float = 1.0) -> Field:
    return lambda t, x: -K.T @ row.flux(K @ x, contrast)


def starts(points: int, count: int = 40, seed: int = 1) -> Array:
    """Return random states as columns, from far below the contrast to far above it."""
    return np.random.default_rng(seed).normal(size=(points, count)) * np.geomspace(1e-3, 1e2, count)


# --- FSI ---


@pytest.mark.parametrize(("periodic", "mode"), [(True, "wrap"), (False, "reflect")])
@pytest.mark.parametrize("cycle", CYCLES)
def test_a_cycle_at_one_half_is_one_box_filter(cycle: int, periodic: bool, mode: Any) -> None:
    f = diffusion(differences(POINTS, periodic=periodic), DIFFUSIVITIES["constant"])
    x = np.random.default_rng(cycle).uniform(-1, 1, (POINTS, 5))
    path = fsi(cycle).integrate(f, x, (cycle**2 + cycle) / 3 / 2, 2)
    once = uniform_filter1d(x, 2 * cycle + 1, axis=0, mode=mode)
    assert np.abs(path[1] - once).max() < 1e-13
    assert np.abs(path[2] - uniform_filter1d(once, 2 * cycle + 1, axis=0, mode=mode)).max() < 1e-13


@pytest.mark.parametrize("cycle", CYCLES)
def test_the_tableau_is_the_published_recursion(cycle: int, diffusivity: Diffusivity) -> None:
    tau, x = 0.4, starts(POINTS)
    f = diffusion(differences(POINTS), diffusivity)
    old = new = x
    for i in range(cycle):
        alpha = (4 * i + 2) / (2 * i + 3)
        old, new = new, alpha * (new + tau * np.asarray(f(0, new))) + (1 - alpha) * old
    s = fsi(cycle)
    path = s.integrate(f, x, tau * (cycle**2 + cycle) / 3, 1)
    assert np.abs(path[1] - new).max() < 1e-12 * np.abs(x).max()
    assert s.tableau.exact
    assert s.tying == "stages"
    assert s.order == s.coefficients.order == 1


@pytest.mark.parametrize("cycle", CYCLES)
def test_inner_polynomials_are_those_of_box_filters_and_at_most_1(cycle: int) -> None:
    tableau = fsi(cycle).tableau
    assert isinstance(tableau, Tableau)
    theta = np.linspace(1e-3, math.pi, 997)
    z = -(1 - np.cos(theta)) * (cycle**2 + cycle) / 3  # 1 − τλ = cos θ
    stages = np.ones((cycle + 1, theta.size))
    for i, row in enumerate([*tableau.A, tableau.B]):
        stages[i] += z * (np.array(row[:i], dtype=float) @ stages[:i])
    for i, values in enumerate(stages):
        box = np.sin((2 * i + 1) * theta / 2) / (2 * i + 1) / np.sin(theta / 2)
        assert values == pytest.approx(box, abs=1e-11)
        assert np.abs(values).max() <= 1 + 1e-11


@pytest.mark.parametrize("cycle", CYCLES)
def test_the_real_interval_of_a_cycle(cycle: int) -> None:
    unit = (cycle**2 + cycle) / 3
    theta = brentq(
        lambda t: math.log(math.cosh((cycle + 0.5) * t) / (2 * cycle + 1) / math.cosh(t / 2)), 1e-3, 10, xtol=1e-14
    )
    found = fsi(cycle).real_interval
    assert found == pytest.approx(unit * (1 + math.cosh(theta)), rel=1e-9)
    assert found > 2 * unit
    assert is_stable_at(fsi(cycle).tableau, -F(2, 3) * (cycle**2 + cycle))


# --- Du Fort–Frankel ---


@settings(deadline=None, max_examples=40)
@given(ratios)
def test_du_fort_frankel_in_closed_form(ratio: Fraction) -> None:
    s = du_fort_frankel(ratio)
    assert s.order == s.coefficients.order == 1
    assert s.zero_stable
    assert s.tableau.exact
    assert s.real_interval == pytest.approx(4 * float(ratio), rel=1e-8)
    assert s.error_constant == pytest.approx(float(ratio), rel=1e-12)  # of x' + ατ² x'' = f, in units of τ


@pytest.mark.parametrize("tau", [0.3, 2.0, 50.0])
def test_du_fort_frankel_is_the_published_scheme(tau: float, diffusivity: Diffusivity) -> None:
    K, alpha = differences(POINTS), 1.25
    f = diffusion(K, diffusivity)
    u = du_fort_frankel(tau * alpha).integrate(f, starts(POINTS), tau, 6, start="euler")
    assert u[1] == pytest.approx(u[0] + tau * np.asarray(f(0, u[0])), rel=1e-14)
    for old, now, new in zip(u, u[1:], u[2:], strict=False):
        left = (1 + 2 * tau * alpha) * new
        right = 4 * tau * alpha * now + (1 - 2 * tau * alpha) * old + 2 * tau * np.asarray(f(0, now))
        assert np.abs(left - right).max() < 1e-12 * np.abs(left).max()


@settings(deadline=None, max_examples=100)
@given(ratios, st.fractions(0, 1))
def test_du_fort_frankel_is_stable_for_every_step_at_the_bound(tau: Fraction, share: Fraction) -> None:
    """Proved in rational arithmetic, for the eigenvalues λ of KᵀK from 0 to L‖K‖² = 4; below the bound 4 fails."""
    alpha = F(du_fort_frankel_bound(1, 2))
    assert is_stable_at(du_fort_frankel(tau * alpha).tableau, -tau * share * 4)
    assert not is_stable_at(du_fort_frankel(tau * alpha * F(9, 10)).tableau, -tau * 4)


def test_below_the_bound_the_spectral_radius_reaches_192() -> None:
    radii = [
        float(spectral_radius(du_fort_frankel(F(9, 10) * tau).tableau, -4.0 * tau))
        for tau in (F(1, 10**3), F(1, 2), 1, 10, 100, 10**6)
    ]
    assert radii == sorted(radii)
    assert radii[0] > 1
    b = 4 / 0.9 - 2  # the limit of the polynomial is ζ² + bζ + 1
    assert radii[-1] == pytest.approx((b + math.sqrt(b * b - 4)) / 2, abs=1e-4)
    assert 1.92 <= radii[-1] <= 1.93


@pytest.mark.parametrize(("factor", "stable"), [(1.0, True), (0.9, False)])
@pytest.mark.parametrize("tau", [10.0, 1e3, 1e6])
def test_du_fort_frankel_as_a_matrix(tau: float, factor: float, stable: bool) -> None:
    K = differences(16, periodic=True)
    alpha = factor * du_fort_frankel_bound(1, float(np.linalg.norm(K, 2)))
    tableau = du_fort_frankel(alpha * tau).tableau
    assert isinstance(tableau, Tableau)
    (a, b), weight = [float(v) for v in tableau.V], float(tableau.B[0])
    unit = np.eye(16)
    step = np.block([[a * unit - weight * tau * K.T @ K, b * unit], [unit, 0 * unit]])
    radius = np.abs(np.linalg.eigvals(step)).max()
    assert radius <= 1 + 1e-6 if stable else radius > 1.5
    if stable:
        norm = np.linalg.norm(step, 2)
        assert norm <= 1 + math.sqrt(2) + 1e-12
        assert norm > 2.2
        assert tau < 1e3 or norm > 2.41


# --- explicit ---


@pytest.mark.parametrize("times", [1, 2])
def test_forward_euler_never_raises_the_norm_at_its_bound_and_does_beyond(times: int, diffusivity: Diffusivity) -> None:
    K = differences(POINTS, times)
    norm = float(np.linalg.norm(K, 2))
    bound = explicit_bound(1.0, norm)
    assert bound > 2 / 4**times

    def growth(tau: float) -> float:
        path = scheme("euler").integrate(diffusion(K, diffusivity), starts(POINTS), tau, 60)
        size = np.linalg.norm(path, axis=1)
        return float((size[1:] / size[:-1]).max())

    assert growth(bound) <= 1 + 1e-13
    assert growth(1.3 * bound) > 1.4


def test_two_solutions_part_where_the_flux_is_not_monotone(diffusivity: Diffusivity) -> None:
    """For two points ‖K‖² = 2, and at the bound differences are multiplied by 1 − 2Φ', 1 − 2 least_slope at most."""
    K = differences(2)
    tau = explicit_bound(1.0, float(np.linalg.norm(K, 2)))
    s = np.linspace(-4, 4, 8001)
    path = scheme("euler").integrate(diffusion(K, diffusivity), np.stack([-s / 2, s / 2]), tau, 1)
    apart = np.linalg.norm(np.diff(path, axis=2), axis=1)
    factor = (apart[1] / apart[0]).max()
    assert factor == pytest.approx(max(1, 1 - 2 * diffusivity.least_slope), rel=1e-4)
    assert bool(factor <= 1 + 1e-9) is diffusivity.monotone


# --- implicit ---


@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7])
def test_truncated_implicit_euler_on_the_test_equation(iterations: int) -> None:
    s = implicit_diffusion(iterations)
    assert stability_polynomial(s.tableau)[0] == (-1,) * (iterations + 1)  # R(z) = 1 + z + … + zᵐ
    assert s.order == s.coefficients.order == 1
    assert s.tying == "stages"
    end = 1.0 if iterations % 2 == 0 else brentq(lambda y: y ** (iterations + 1) - y - 2, 0.5, 3, xtol=1e-14)
    assert s.real_interval == pytest.approx(end, rel=1e-8)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_iterations_are_a_fixed_point_iteration(iterations: int, diffusivity: Diffusivity) -> None:
    f, tau = diffusion(differences(POINTS), diffusivity), 0.2
    x = u = starts(POINTS)
    for _ in range(iterations):
        u = x + tau * np.asarray(f(0, u))
    assert np.abs(implicit_diffusion(iterations).integrate(f, x, tau, 1)[1] - u).max() < 1e-12 * np.abs(x).max()


@pytest.mark.parametrize(("product", "converges"), [(0.9, True), (1.1, False)])
def test_the_iteration_converges_iff_the_product_is_below_1(product: float, converges: bool) -> None:
    K = differences(16, periodic=True)
    tau = product / float(np.linalg.norm(K, 2)) ** 2
    x = (-1.0) ** np.arange(16)  # the eigenvector of ‖K‖²
    solved = np.linalg.solve(np.eye(16) + tau * K.T @ K, x)
    f = diffusion(K, DIFFUSIVITIES["constant"])
    errors = [np.linalg.norm(implicit_diffusion(m).integrate(f, x, tau, 1)[1] - solved) for m in (20, 40, 80)]
    assert errors[1] / errors[0] == pytest.approx(product**20, rel=1e-6)
    assert errors[2] / errors[1] == pytest.approx(product**40, rel=1e-6)
    assert bool(errors[2] < errors[0]) is converges


def test_below_1_the_iteration_solves_for_every_flux(diffusivity: Diffusivity) -> None:
    K, x = differences(POINTS), starts(POINTS)
    f = diffusion(K, diffusivity)
    tau = 0.5 / diffusivity.lipschitz / float(np.linalg.norm(K, 2)) ** 2
    u = implicit_diffusion(40).integrate(f, x, tau, 1)[1]
    assert np.abs(u - tau * np.asarray(f(0, u)) - x).max() < 1e-9
    assert (np.linalg.norm(u, axis=0) <= np.linalg.norm(x, axis=0)).all()


def test_solved_implicit_euler_never_raises_the_norm_and_truncated_does(diffusivity: Diffusivity) -> None:
    """Every u solves the step from u − τ f(u), so that no solver is needed to ask all steps τ."""
    K, u = differences(POINTS), starts(POINTS, 200)
    for tau in (0.1, 10, 1e4):
        before = u - tau * np.asarray(diffusion(K, diffusivity)(0, u))
        assert (np.linalg.norm(u, axis=0) <= np.linalg.norm(before, axis=0)).all()
    small = 1e-3 * u / np.linalg.norm(u, axis=0)
    truncated = implicit_diffusion(4).integrate(diffusion(K, diffusivity), small, 1.0, 1)[1]
    assert np.linalg.norm(truncated, axis=0).min() > np.linalg.norm(small, axis=0).max()


def test_the_norm_may_rise_where_the_flux_points_backwards() -> None:
    """The check of the check: forward-and-backward diffusion, whose sΦ(s) is negative for large s."""
    K, u = differences(POINTS), starts(POINTS, 200)
    s = K @ u
    before = u + 0.1 * K.T @ ((2 * np.exp(-s * s) - 1) * s)
    assert (np.linalg.norm(u, axis=0) > np.linalg.norm(before, axis=0)).any()


# --- fluxes ---


def test_the_numbers_of_a_flux(diffusivity: Diffusivity) -> None:
    s, d = np.linspace(0, 6, 60001), 1e-6
    g = diffusivity.g(s**2)
    assert g[0] == g.max() == 1
    assert (g >= 0).all()
    phi = diffusivity.flux(s)
    assert np.abs(phi - g * s).max() < 1e-15
    assert (diffusivity.flux(-s) == -phi).all()
    assert np.abs(diffusivity.flux(3 * s, 3) - 3 * phi).max() < 1e-13
    slope = (diffusivity.flux(s + d) - diffusivity.flux(s - d)) / (2 * d)
    assert np.abs(slope).max() == pytest.approx(diffusivity.lipschitz, abs=1e-6)
    far = (diffusivity.flux(np.array([1e3 + 1])) - diffusivity.flux(np.array([1e3])))[0]
    assert min(slope.min(), far) == pytest.approx(diffusivity.least_slope, abs=1e-6)
    assert diffusivity.monotone is bool(slope.min() >= 0)
    if math.isfinite(diffusivity.at):
        assert phi.max() == pytest.approx(diffusivity.peak, abs=1e-8)
        assert s[phi.argmax()] == pytest.approx(diffusivity.at, abs=2e-4)
    else:
        large = diffusivity.flux(np.array([1e3, 1e6]))
        assert large[1] > large[0] > phi[-1]
        assert large[1] == pytest.approx(min(diffusivity.peak, 1e6), rel=1e-9)


def test_weickerts_constant_makes_the_flux_turn_at_the_contrast() -> None:
    assert round(brentq(lambda c: math.exp(c) - 1 - 8 * c, 1, 5), 5) == WEICKERT


# --- rows and bad input ---


@pytest.mark.parametrize("name", DIFFUSION)
def test_rows(name: str) -> None:
    s = DIFFUSION[name].make()
    assert s.zero_stable
    assert s.real_interval > 0
    assert type(s).from_dict(s.to_dict()) == s


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_the_bounds_are_the_intervals_of_their_schemes(lipschitz: float, norm: float) -> None:
    largest = lipschitz * norm**2
    tau = explicit_bound(lipschitz, norm)
    assert scheme("euler").real_interval == pytest.approx(tau * largest)
    assert 4 * du_fort_frankel_bound(lipschitz, norm) == pytest.approx(largest)


@pytest.mark.parametrize("bad", [0, -1.0, math.inf, math.nan, True, "1", None])
def test_bad_input_is_named(bad: Any) -> None:
    for bound in (explicit_bound, du_fort_frankel_bound):
        with pytest.raises(OdenasError, match=r"`lipschitz` is .*above 0"):
            bound(bad, 1.0)
        with pytest.raises(OdenasError, match=r"`norm` is .*above 0"):
            bound(1.0, bad)
    with pytest.raises(OdenasError, match=r"`contrast` is .*above 0"):
        DIFFUSIVITIES["weickert"].flux([1.0], bad)
    if bad != "1":
        with pytest.raises(OdenasError, match="`ratio`"):
            du_fort_frankel(bad)
    for make, field in ((fsi, "cycle"), (implicit_diffusion, "iterations")):
        with pytest.raises(OdenasError, match=f"`{field}` is .*integer from 1 to 100"):
            make(bad)
