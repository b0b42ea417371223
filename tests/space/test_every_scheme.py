"""The laws that every named scheme keeps: a name joins by being in the catalogue."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
import sympy  # type: ignore[import-untyped]
from nodepy import linear_multistep_method as lmm
from numpy.typing import NDArray

from odenas.space import (
    OdenasError,
    Scheme,
    SearchSpace,
    Stochasticity,
    Tableau,
    describe,
    scheme,
    schemes,
)
from odenas.space.catalogue import CATALOGUE
from odenas.space.integrate import integrate
from odenas.space.order import order
from odenas.space.partitioned import Partitioned
from odenas.space.stochasticity import GROWTHS, STOCHASTICITIES

Array = NDArray[Any]
Problem = tuple[Callable[[float, Array], Array], Callable[[float], Array]]

# x' = f(t, x) with its solution; f(t, 0) = 0, where PolyNet's later branches stand.
FIRST_ORDER: dict[str, Problem] = {
    "non-linear, non-autonomous": (lambda t, x: -2 * t * x * x, lambda t: np.array(1 / (1 + t * t))),
    "logistic": (lambda t, x: x * (1 - x), lambda t: 1 / (1 + np.exp(-t) * np.array([1.0, 3.0]))),
    "linear, non-autonomous": (lambda t, x: np.cos(t) * x, lambda t: np.exp(np.sin(t)) * np.ones((2, 1))),
    "non-linear rotation": (
        lambda t, x: (x @ x) * np.array([x[1], -x[0]]),
        lambda t: np.array([np.sin(t), np.cos(t)]),
    ),
}
# y' = f(t, z), z' = g(t, y) in the two halves of x.
SEPARABLE: dict[str, Problem] = {
    "oscillator": (lambda t, x: np.array([x[1], -x[0]]), lambda t: np.array([np.sin(t), np.cos(t)])),
    "non-linear, non-autonomous": (
        lambda t, x: np.array(
            [np.exp(t) + np.sin(x[1]) - np.sin(1 / (1 + t)), x[0] ** 2 - np.exp(2 * t) - (1 + t) ** -2]
        ),
        lambda t: np.array([np.exp(t), 1 / (1 + t)]),
    ),
    "two pairs": (
        lambda t, x: np.array([x[2] ** 3, 2 * x[3], np.cos(t) - 3 * x[0] + 3 * QUARTIC(t), -2 * x[1]]),
        lambda t: np.array([QUARTIC(t), np.sin(2 * t), np.sin(t), np.cos(2 * t)]),
    ),
}
# x'' = f(t, x), with the velocity at t = 0 from the solution.
SECOND_ORDER: dict[str, Problem] = {
    "oscillator": (lambda t, x: -4 * x, lambda t: np.array([np.sin(2 * t), np.cos(2 * t)])),
    "non-linear": (lambda t, x: 2 * x**3, lambda t: 1 / (2 - t) * np.ones(1)),
    "non-autonomous": (lambda t, x: np.cos(x) - np.cos(np.sin(t)) - np.sin(t), lambda t: np.array(np.sin(t))),
}
# The finest step is 2⁻ᵐ; smaller ones meet the rounding of float64.
FINEST = {1: 10, 2: 9, 3: 8, 4: 7, 5: 6}
# Where parasitic roots fade slowly, or the error constant is large, h must be smaller.
FINER = {"momentum": 12, "du_fort_frankel": 11, "nystrom5": 8, "bdf6_fixed_point": 6}
FULL = SearchSpace(stochasticity=tuple(STOCHASTICITIES), growth=tuple(GROWTHS))


def QUARTIC(t: float) -> float:
    """Return the integral of sin³ from 0 to t."""
    return float(2 / 3 - np.cos(t) + np.cos(t) ** 3 / 3)


@pytest.fixture(params=schemes())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def problems(method: Tableau | Partitioned) -> dict[str, Problem]:
    if isinstance(method, Partitioned):
        return SEPARABLE
    return FIRST_ORDER if method.derivative == 1 else SECOND_ORDER


def slope_seen(method: Tableau | Partitioned, problem: str, finest: int) -> float:
    """Return log₂ of the error's decrease at t = 1 from h = 2^{1−finest} to 2^{−finest}."""
    f, solution = problems(method)[problem]
    second = isinstance(method, Tableau) and method.derivative == 2
    v0 = (solution(1e-4) - solution(-1e-4)) / 2e-4 if second else None
    if v0 is not None:  # Richardson: exact to rounding
        v0 = (4 * v0 - (solution(2e-4) - solution(-2e-4)) / 4e-4) / 3
    errors = []
    for level in (finest - 1, finest):
        path = integrate(method, f, solution(0.0), 2.0**-level, 2**level, v0=v0)
        errors.append(np.abs(path[-1] - solution(1.0)).max())
    return float(np.log2(errors[0] / errors[1]))


def step_matrix(method: Tableau | Partitioned, z: complex) -> NDArray[np.complex128]:
    """Return the matrix of one step on the test equation, by the definition of the method."""
    if isinstance(method, Partitioned):
        basis = np.eye(2, dtype=complex)
        columns = [integrate(method, lambda t, x: z * x[::-1], x, 1.0, 1)[1] for x in basis]
        return np.array(columns).T
    k, power = method.steps, method.derivative
    V, R, B = (np.array(row, dtype=float) for row in (method.V, method.R, method.B))
    U, W, A = (np.array(rows, dtype=float).reshape(method.stages, -1) for rows in (method.U, method.W, method.A))
    state = np.eye(2 * k - 1, dtype=complex)  # rows: x_n … x_{n−k+1}, F_{n−1} … F_{n−k+1}
    slopes: list[Array] = []
    for i in range(method.stages):
        Y = U[i] @ state[:k] + W[i] @ state[k:] + sum(A[i, j] * F for j, F in enumerate(slopes))
        slopes.append(z**power * Y)
    new = V @ state[:k] + R @ state[k:] + B @ np.array(slopes)
    rows = [new, *state[: k - 1], *([slopes[0], *state[k:-1]] if k > 1 else [])]
    return np.array(rows)


def radius(method: Tableau | Partitioned, z: complex) -> float:
    return float(abs(np.linalg.eigvals(step_matrix(method, z))).max())


def scanned(method: Tableau | Partitioned, direction: complex, end: float, points: int) -> float:
    """Return the last of `points` equal steps to `end` before an eigenvalue leaves the unit disc."""
    grid = np.linspace(0, end, points + 1)
    for last, y in pairwise(grid):
        if radius(method, direction * y) > 1 + 1e-12:
            return float(last)
    return end


def test_the_order_stated_is_the_order_proved(name: str) -> None:
    s = scheme(name)
    assert s.coefficients.order == s.order == order(s.tableau)


def test_the_order_seen_is_the_order_proved(name: str) -> None:
    """Where a leading term of the error happens to vanish at t = 1, a slope may be larger, but not the median."""
    s = scheme(name)
    finest = FINER.get(name, FINEST[s.order] + (s.order == 5 and s.tableau.steps > 1))
    tableau: Any = s.tableau
    seen = [slope_seen(tableau, problem, finest) for problem in problems(tableau)]
    assert float(np.median(seen)) == pytest.approx(s.order, abs=0.15)
    assert min(seen) > s.order - 0.35


@pytest.mark.parametrize("offset", [1e-4, 1e-5, 1e-6])
def test_an_error_in_a_coefficient_would_be_seen(offset: float) -> None:
    """The check of the check: a pair of weights off by as little changes the slope at the finest steps."""
    tableau = scheme("ab3").tableau
    assert isinstance(tableau, Tableau)
    beta = [float(b) for b in tableau.slopes]
    wrong = Tableau.multistep((1.0,), [beta[0] + offset, beta[1] - offset, beta[2]])
    assert slope_seen(wrong, "non-linear rotation", 9) < 2.5


def test_as_nodepy(name: str) -> None:
    s = scheme(name)
    if not isinstance(s.tableau, Tableau) or not s.tableau.is_multistep or s.tableau.derivative == 2:
        return
    alpha = np.array([-float(v) for v in reversed(s.tableau.V)] + [1.0])
    method = lmm.LinearMultistepMethod(alpha, np.array([float(b) for b in reversed(s.tableau.slopes)] + [0.0]))
    assert alpha.sum() == pytest.approx(0, abs=1e-15)  # nodepy does not ask
    assert method.order(tol=1e-12) == s.order
    assert method.is_zero_stable(tol=1e-5) == s.zero_stable


def test_zero_stable_by_the_roots(name: str) -> None:
    """By sympy: multiplicities from the square-free factors of ρ over ℚ, moduli to 50 digits.

    All roots in the disc; those on the circle simple, or at most double for x'' = f.
    """
    s = scheme(name)
    assert s.zero_stable
    if isinstance(s.tableau, Tableau):
        zeta = sympy.Symbol("zeta")
        V = [sympy.Rational(str(Fraction(v).limit_denominator(10**9))) for v in s.tableau.V]
        rho = sympy.Poly([1, *(-v for v in V)], zeta, domain="QQ")
        for factor, multiplicity in rho.sqf_list()[1]:
            for root in factor.nroots(n=50, maxsteps=200):
                assert abs(root) <= 1 + sympy.Float("1e-40", 50)
                assert multiplicity <= s.tableau.derivative or abs(root) < 1 - sympy.Float("1e-9", 50)


@pytest.mark.parametrize(("axis", "direction"), [("real_interval", -1), ("imaginary_interval", 1j)])
def test_intervals_as_scanned(name: str, axis: str, direction: complex) -> None:
    s = scheme(name)
    found = getattr(s, axis)
    end, points = max(1.25 * found, 2.0), 500
    tableau: Any = s.tableau
    assert scanned(tableau, direction, end, points) == pytest.approx(found, abs=max(2 * end / points, 0.05))


def test_the_error_constant_is_what_a_polynomial_is_missed_by(name: str) -> None:
    """One step from the exact history of x = t^{p+1} misses by (p + 1)! C_{p+1}, with C_{p+1} = σ(1) × the constant."""
    s = scheme(name)
    if not isinstance(s.tableau, Tableau) or not s.tableau.is_multistep or s.tableau.derivative == 2:
        return
    q = s.order + 1
    states = sum(float(v) * (-j) ** q for j, v in enumerate(s.tableau.V))
    slopes = sum(float(b) * q * (-j) ** (q - 1) for j, b in enumerate(s.tableau.slopes))
    sigma = float(sum(s.tableau.slopes))
    assert (1 - states - slopes) / math.factorial(q) / sigma == pytest.approx(s.error_constant, rel=1e-12)


def test_json_round_trip(name: str) -> None:
    s = scheme(name)
    again = Scheme.from_dict(json.loads(json.dumps(s.to_dict(), allow_nan=False)))
    assert again == s
    assert hash(again) == hash(s)
    assert again.to_dict() == s.to_dict()
    assert again.tableau.exact == s.tableau.exact


def test_pickles_and_copies_are_equal(name: str) -> None:
    s = scheme(name)
    for known in (s, replace(s)):
        for again in (pickle.loads(pickle.dumps(known)), copy.deepcopy(known)):
            assert again == s
            assert hash(again) == hash(s)
            assert (again.order, again.real_interval) == (s.order, s.real_interval)


def test_frozen(name: str) -> None:
    s = scheme(name)
    for part in (s, s.tableau, s.coefficients, s.stochasticity):
        for entry in fields(part):
            with pytest.raises(FrozenInstanceError):
                setattr(part, entry.name, getattr(part, entry.name))
    for entry in fields(s.tableau):
        hash(getattr(s.tableau, entry.name))  # tuples all the way down


@pytest.mark.parametrize("noise", [Stochasticity(), Stochasticity("depth", 0.3)])
def test_the_twin_is_forward_euler_with_the_same_noise(name: str, noise: Stochasticity) -> None:
    s = replace(scheme(name), stochasticity=noise)
    twin = s.twin()
    if s == replace(scheme("euler"), stochasticity=noise):
        noise = Stochasticity()  # what a claim about the noise is made against
    assert twin == replace(scheme("euler"), stochasticity=noise)
    assert twin.applied == Tableau.multistep((1,), (1,))
    assert (twin == s) is (s == scheme("euler"))


def test_a_network_applies_the_same_method_to_a_rescaled_field(name: str) -> None:
    s = scheme(name)
    total = float(sum(s.tableau.slopes)) if s.scale == "absorbed" and isinstance(s.tableau, Tableau) else 1.0
    path = integrate(s.applied, lambda t, x: np.sin(x), [0.3, 2.0], 1.0, 9, start="copy")
    expected = s.integrate(lambda t, x: np.sin(x) / total, [0.3, 2.0], 1.0, 9, start="copy")
    assert path == pytest.approx(expected, rel=1e-13)


def test_encode_and_suggest_undo_each_other(name: str) -> None:
    s = scheme(name)
    inside = CATALOGUE[name].family not in ("partitioned", "second order")
    assert (s in FULL) is inside
    if not inside:
        return
    for space in (FULL, replace(FULL, family=("named",))):
        parameters = space.encode(s)
        assert space.suggest(optuna.trial.FixedTrial(parameters)) == s
        assert json.loads(json.dumps(parameters)) == parameters
    if s.stochasticity.kind == "none":
        narrow = SearchSpace(stochasticity=("depth",))
        with pytest.raises(OdenasError, match=r"the scheme lies outside the space: .*`noise`"):
            narrow.encode(s)


# One method under the names of two fields.
ALIASES = {"ssp22": "heun2", "bogacki_shampine3": "ralston3", "implicit_diffusion": "backward_euler_fixed_point"}


def test_describe_knows_the_name(name: str) -> None:
    known = ALIASES.get(name, name)
    assert describe(scheme(name)) == known
    if scheme(name).stochasticity == Stochasticity():
        assert describe(replace(scheme(name), stochasticity=Stochasticity("depth", 0.25))) == f"{known}, drop 0.25"


def test_names_differ_in_what_they_name() -> None:
    assert len({scheme(name) for name in schemes()}) + len(ALIASES) == len(schemes()) == len(set(schemes()))
    assert all(scheme(name) == scheme(known) for name, known in ALIASES.items())


def test_every_name_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    family, about, _ = CATALOGUE[name]
    assert family
    assert len(about.splitlines()) == 1
    assert len(about) > 20


def test_the_package_needs_numpy_alone() -> None:
    heavy = ("torch", "ray", "optuna", "pandas", "scipy")
    code = f"import sys, odenas.space; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
