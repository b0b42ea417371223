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
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from nodepy import linear_multistep_method as lmm
from numpy.typing import NDArray

from odenas.space import OdenasError, Scheme, SearchSpace, Stochasticity, Tableau, describe, scheme, schemes
from odenas.space.integrate import integrate
from odenas.space.order import order
from odenas.space.zero_stability import zero_stable

Array = NDArray[Any]

# x' = f(t, x) with its solution.
PROBLEMS: dict[str, tuple[Callable[[float, Array], Array], Callable[[float], Array]]] = {
    "non-linear, non-autonomous": (lambda t, x: -2 * t * x * x, lambda t: np.array(1 / (1 + t * t))),
    "logistic": (lambda t, x: x * (1 - x), lambda t: 1 / (1 + np.exp(-t) * np.array([1.0, 3.0]))),
    "linear, non-autonomous": (lambda t, x: np.cos(t) * x, lambda t: np.exp(np.sin(t)) * np.ones((2, 1))),
    "non-linear rotation": (
        lambda t, x: (x @ x) * np.array([x[1], -x[0]]),
        lambda t: np.array([np.sin(t), np.cos(t)]),
    ),
}
FINEST = {"momentum": 11}  # a parasitic root at 0.9 forgets within some tens of steps, and h must be small beside that


@pytest.fixture(params=schemes())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def slope_seen(tableau: Tableau, problem: str, finest: int) -> float:
    """Return log₂ of the error's decrease at t = 1 from h = 2^{1−finest} to 2^{−finest}."""
    f, solution = PROBLEMS[problem]
    errors = []
    for level in (finest - 1, finest):
        path = Scheme(tableau).integrate(f, solution(0.0), 2.0**-level, 2**level)
        errors.append(np.abs(path[-1] - solution(1.0)).max())
    return float(np.log2(errors[0] / errors[1]))


def roots_at(tableau: Tableau, z: complex) -> NDArray[np.complex128]:
    """Return the roots of ρ(ζ) − zσ(ζ) of a linear multistep method."""
    slopes = np.array([float(b) for b in tableau.slopes])
    return np.roots(np.r_[1, -np.array([float(v) for v in tableau.V]) - z * slopes]).astype(complex)


def scanned(tableau: Tableau, direction: complex, end: float, points: int) -> float:
    """Return the last of `points` equal steps to `end` before a root leaves the unit disc."""
    grid = np.linspace(0, end, points + 1)
    for last, y in pairwise(grid):
        if abs(roots_at(tableau, direction * y)).max() > 1 + 1e-9:
            return float(last)
    return end


def test_the_order_stated_is_the_order_proved(name: str) -> None:
    s = scheme(name)
    assert s.coefficients.order == s.order == order(s.tableau)
    assert s.tableau.exact


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_seen_is_the_order_proved(name: str, problem: str) -> None:
    s = scheme(name)
    assert slope_seen(s.tableau, problem, FINEST.get(name, 9)) == pytest.approx(s.order, abs=0.1)


@pytest.mark.parametrize("offset", [1e-4, 1e-5, 1e-6])
def test_an_error_in_a_coefficient_would_be_seen(offset: float) -> None:
    """The check of the check: a pair of weights off by as little changes the slope at the finest steps."""
    beta = [float(b) for b in scheme("ab3").tableau.slopes]
    wrong = Tableau.multistep((1.0,), [beta[0] + offset, beta[1] - offset, beta[2]])
    assert slope_seen(wrong, "non-linear rotation", 9) < 2.5


def test_as_nodepy(name: str) -> None:
    s = scheme(name)
    alpha = np.array([-float(v) for v in reversed(s.tableau.V)] + [1.0])
    method = lmm.LinearMultistepMethod(alpha, np.array([float(b) for b in reversed(s.tableau.slopes)] + [0.0]))
    assert alpha.sum() == pytest.approx(0, abs=1e-15)  # nodepy does not ask
    assert method.order(tol=1e-12) == s.order
    assert method.is_zero_stable(tol=1e-5) == s.zero_stable


def test_zero_stable_by_the_roots(name: str) -> None:
    """All roots in the disc, and those on the circle apart from each other."""
    s = scheme(name)
    roots = roots_at(s.tableau, 0)
    on = roots[abs(roots) > 1 - 1e-7]
    apart = abs(on[:, None] - on[None, :]) + np.eye(len(on))
    assert s.zero_stable is bool(abs(roots).max() <= 1 + 1e-9 and apart.min() > 1e-5)
    assert s.zero_stable


@pytest.mark.parametrize(("axis", "direction"), [("real_interval", -1), ("imaginary_interval", 1j)])
def test_intervals_as_scanned(name: str, axis: str, direction: complex) -> None:
    s = scheme(name)
    found = getattr(s, axis)
    end, points = max(1.25 * found, 2.0), 1000
    assert scanned(s.tableau, direction, end, points) == pytest.approx(found, abs=max(2 * end / points, 0.02))


def test_the_error_constant_is_what_a_polynomial_is_missed_by(name: str) -> None:
    """One step from the exact history of x = t^{p+1} misses by (p + 1)! C_{p+1}, with C_{p+1} = σ(1) × the constant."""
    s = scheme(name)
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
    assert again.tableau.exact


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
    total = float(sum(s.tableau.slopes)) if s.scale == "absorbed" else 1.0
    path = integrate(s.applied, lambda t, x: np.sin(x), [0.3, 2.0], 1.0, 9, start="copy")
    expected = s.integrate(lambda t, x: np.sin(x) / total, [0.3, 2.0], 1.0, 9, start="copy")
    assert path == pytest.approx(expected, rel=1e-13)


def test_encode_and_suggest_undo_each_other(name: str) -> None:
    s, space = scheme(name), SearchSpace()
    assert s in space
    parameters = space.encode(s)
    assert space.suggest(optuna.trial.FixedTrial(parameters)) == s
    assert json.loads(json.dumps(parameters)) == parameters
    narrow = SearchSpace(stochastic_depth=(True,))
    with pytest.raises(OdenasError, match="`stochastic_depth` is False"):
        narrow.encode(s)


def test_describe_knows_the_name(name: str) -> None:
    assert describe(scheme(name)) == name
    assert describe(replace(scheme(name), stochasticity=Stochasticity("depth", 0.25))) == f"{name}, drop 0.25"


def test_names_differ_in_what_they_name() -> None:
    assert len({scheme(name) for name in schemes()}) == len(schemes()) == len(set(schemes()))
    assert all(zero_stable(scheme(name).tableau) for name in schemes())


def test_the_package_needs_numpy_alone() -> None:
    heavy = ("torch", "ray", "optuna", "pandas", "scipy")
    code = f"import sys, odenas.space; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
