"""Multistep methods for stochastic equations: exact moments of the discrete paths, weak and strong order."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space import OdenasError, Tableau, scheme
from odenas.space.integrate import integrate
from odenas.space.maruyama import PLACEMENTS, WIENER_LAWS, integrate_stochastic, noise_gain, wiener_increments

Array = NDArray[np.float64]


def adams_bashforth(steps: int) -> Tableau:
    tableau = scheme(f"ab{steps}").tableau
    assert isinstance(tableau, Tableau)
    return tableau


TABLEAUS = {
    "euler": Tableau.multistep((1,), (1,)),
    "k = −1/2": Tableau.multistep(("3/2", "-1/2"), ("1/2",)),
    "k = 1/2": Tableau.multistep(("1/2", "1/2"), ("3/2",)),
    "ab2": adams_bashforth(2),
    "ab3": adams_bashforth(3),
}


class Linear(NamedTuple):
    """The equation dX = a X dt + (b X + c) dW with X(0) = 1, for a + b²/2 ≠ 0."""

    a: float
    b: float
    c: float

    def moments(self, t: float) -> Array:
        """Return E[X] and E[X²] at t, for bc = 0: both follow linear differential equations by Itô's formula."""
        rate = 2 * self.a + self.b**2
        return np.array([math.exp(self.a * t), math.exp(rate * t) + self.c**2 * math.expm1(rate * t) / rate])


EQUATIONS = {"geometric Brownian motion": Linear(0.3, 0.6, 0), "Ornstein–Uhlenbeck": Linear(-1.2, 0, 0.8)}


@pytest.fixture(params=TABLEAUS)
def tableau(request: pytest.FixtureRequest) -> Tableau:
    return TABLEAUS[request.param]


@pytest.fixture(params=EQUATIONS)
def equation(request: pytest.FixtureRequest) -> Linear:
    return EQUATIONS[request.param]


@pytest.fixture(params=PLACEMENTS)
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def paths(tableau: Tableau, equation: Linear, h: float, increments: Array, placement: str) -> Array:
    def drift(t: float, x: Array) -> Array:
        return equation.a * x

    def diffusion(t: float, x: Array) -> Array:
        return equation.b * x + equation.c

    return integrate_stochastic(tableau, drift, diffusion, 1.0, h, increments, placement)


def moments(tableau: Tableau, equation: Linear, h: float, n: int, placement: str) -> Array:
    """Return E[x_n] and E[x_n²] exactly: the matrix E[zzᵀ] of z = (1, x_n, x_{n−1}, …, N_{n−1}, …), N = g(x)ΔW.

    z_{n+1} = (P + ξQ) z_n with E ξ = 0, E ξ² = 1, so that E[zzᵀ] goes to P E Pᵀ + Q E Qᵀ.
    """
    k = tableau.steps
    V, beta = np.array(tableau.V, dtype=float), np.array(tableau.slopes, dtype=float)
    if placement == "slope":
        gamma = beta
    else:
        gamma = np.r_[1, np.zeros(k - 1)] if placement == "state" else np.cumsum(V[::-1])[::-1]
    one = np.eye(k)[0]
    z = np.zeros((1 + k + k - 1, 1))
    z[:2] = 1
    second = z @ z.T
    for step in range(n):
        v, b, g = (one, one, one) if step < k - 1 else (V, beta, gamma)
        P, Q = np.zeros((2, len(z), len(z)))
        P[0, 0] = 1
        P[1, 1 : k + 1] = v + h * equation.a * b
        P[1, k + 1 :] = g[1:]
        Q[1, :2] = g[0] * math.sqrt(h) * np.array([equation.c, equation.b])
        for i in range(1, k):
            P[1 + i, i] = 1
        if k > 1:
            Q[k + 1, :2] = math.sqrt(h) * np.array([equation.c, equation.b])
        for i in range(1, k - 1):
            P[k + 1 + i, k + i] = 1
        second = P @ second @ P.T + Q @ second @ Q.T
    return np.array([second[0, 1], second[1, 1]])


def orders(errors: list[float]) -> Array:
    ratios: Array = np.abs(np.array(errors[:-1]) / np.array(errors[1:]))
    return np.log2(ratios).astype(float)


def test_without_noise_it_is_the_method(tableau: Tableau, placement: str) -> None:
    path = integrate_stochastic(
        tableau, lambda t, x: np.cos(t) * x * x, lambda t, x: x, [0.3, 0.5], 0.1, np.zeros((12, 2)), placement
    )
    assert path == pytest.approx(integrate(tableau, lambda t, x: np.cos(t) * x * x, [0.3, 0.5], 0.1, 12, start="euler"))


def test_euler_maruyama_path_by_path() -> None:
    dW = wiener_increments(np.random.default_rng(0), 0.1, (20, 50))
    geometric = paths(TABLEAUS["euler"], Linear(0.3, 0.6, 0), 0.1, dW, "slope")
    assert geometric[-1] == pytest.approx((1 + 0.03 + 0.6 * dW).prod(axis=0))
    decay = 0.88 ** np.arange(19, -1, -1)
    additive = paths(TABLEAUS["euler"], Linear(-1.2, 0, 0.8), 0.1, dW, "slope")
    assert additive[-1] == pytest.approx(0.88**20 + 0.8 * decay @ dW)


def test_the_mean_over_all_two_point_paths(tableau: Tableau, equation: Linear, placement: str) -> None:
    """All 2¹⁰ paths are run, so that the moments are exact, and must be those of the recursion for any such noise."""
    h, n = 0.1, 10
    dW = math.sqrt(h) * np.array(list(product((-1.0, 1.0), repeat=n))).T
    end = paths(tableau, equation, h, dW, placement)[-1]
    assert [end.mean(), (end**2).mean()] == pytest.approx(moments(tableau, equation, h, n, placement), rel=1e-12)


def test_weak_order_1(tableau: Tableau, equation: Linear, placement: str) -> None:
    """In the exact second moment; the limit's diffusion is that of the equation times the gain."""
    gain = noise_gain(tableau, placement)
    limit = equation._replace(b=equation.b * gain, c=equation.c * gain).moments(1.0)
    errors = [moments(tableau, equation, 2.0**-m, 2**m, placement) - limit for m in (8, 9, 10)]
    assert np.abs(errors[-1] / limit).max() < 0.01
    assert orders([error[1] for error in errors]).min() > 0.95
    assert orders([error[0] for error in errors]).min() > 0.95


def test_euler_maruyama_is_of_weak_order_1_and_no_more(equation: Linear) -> None:
    exact = equation.moments(1.0)
    for moment in (0, 1):
        errors = [
            moments(TABLEAUS["euler"], equation, 2.0**-m, 2**m, "slope")[moment] - exact[moment] for m in (8, 9, 10)
        ]
        assert orders(errors) == pytest.approx(1, abs=0.02)


def test_gains() -> None:
    k = TABLEAUS["k = −1/2"]
    assert noise_gain(k, "state") == 2
    for tableau in TABLEAUS.values():
        assert noise_gain(tableau, "slope") == noise_gain(tableau, "maruyama") == 1


def strong_errors(tableau: Tableau, multiplicative: bool, placement: str) -> list[float]:
    """Return the root mean square errors at t = 1 for h = 2⁻⁴, 2⁻⁵, … along common paths, against a solution.

    Without dependence on X the equation is dX = −X dt + dW, whose solution on a fine grid needs ∫ e^s dW; that
    integral is taken as the midpoint sum on the grid, which errs by its mesh squared.
    """
    fine, count = 2**11, 3000
    dW = wiener_increments(np.random.default_rng(3), 1 / fine, (fine, count))
    if multiplicative:
        equation = Linear(0.5, 0.5, 0)
        exact = np.exp(0.5 - 0.5**2 / 2 + 0.5 * dW.sum(axis=0))
    else:
        equation = Linear(-1.0, 0, 1.0)
        s = (np.arange(fine) + 0.5) / fine
        exact = math.exp(-1) + np.exp(s - 1) @ dW
    errors = []
    for m in (4, 5, 6, 7):
        coarse = dW.reshape(2**m, -1, count).sum(axis=1)
        end = paths(tableau, equation, 2.0**-m, coarse, placement)[-1]
        errors.append(math.sqrt(((end - exact) ** 2).mean()))
    return errors


@pytest.mark.parametrize(
    ("name", "multiplicative", "placement", "expected"),
    [
        ("euler", True, "slope", 0.5),
        ("euler", False, "slope", 1.0),
        ("ab2", True, "maruyama", 0.5),
        ("ab2", False, "maruyama", 1.0),
        ("ab2", True, "slope", 0.5),
        ("ab2", False, "slope", 0.5),
        ("k = −1/2", False, "maruyama", 1.0),
        ("k = −1/2", False, "slope", 0.5),
    ],
)
def test_strong_order(name: str, multiplicative: bool, placement: str, expected: float) -> None:
    errors = strong_errors(TABLEAUS[name], multiplicative, placement)
    assert orders(errors).mean() == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("law", "highest"), [("two-point", 3), ("three-point", 5)])
def test_laws_match_the_normal_moments(law: str, highest: int) -> None:
    values, odds = map(np.array, WIENER_LAWS[law])
    normal = [1, 0, 1, 0, 3, 0, 15]
    for power in range(highest + 1):
        assert odds @ values**power == pytest.approx(normal[power], abs=1e-14)
    assert odds @ values ** (highest + 1) != pytest.approx(normal[highest + 1])


@pytest.mark.parametrize("law", WIENER_LAWS)
def test_increments_have_mean_0_and_variance_h(law: str) -> None:
    drawn = wiener_increments(np.random.default_rng(5), 0.25, (400, 100), law)
    assert drawn.shape == (400, 100)
    assert abs(drawn.mean()) < 4 * 0.5 / 200
    assert drawn.var() == pytest.approx(0.25, rel=4 * math.sqrt(2) / 200)
    if WIENER_LAWS[law][0]:
        assert np.unique(drawn) == pytest.approx(0.5 * np.array(WIENER_LAWS[law][0]))
    assert (drawn == wiener_increments(np.random.default_rng(5), 0.25, (400, 100), law)).all()


def test_states_of_any_shape() -> None:
    dW = wiener_increments(np.random.default_rng(1), 0.1, (5, 7, 2))
    path = integrate_stochastic(TABLEAUS["ab2"], lambda t, x: -x, lambda t, x: 1.0, [1.0, 2.0], 0.1, dW)
    assert path.shape == (6, 7, 2)
    assert (path[0] == [1.0, 2.0]).all()
    single = integrate_stochastic(TABLEAUS["ab2"], lambda t, x: -x, lambda t, x: 1.0, 2.0, 0.1, dW[:, 3, 1])
    assert path[:, 3, 1] == pytest.approx(single)


@pytest.mark.parametrize("h", [0, -0.1, math.nan, math.inf, True, "1"])
def test_a_bad_step_is_named(h: Any) -> None:
    with pytest.raises(OdenasError, match="`h` is"):
        wiener_increments(np.random.default_rng(0), h, (2,))
    with pytest.raises(OdenasError, match="`h` is"):
        integrate_stochastic(TABLEAUS["euler"], lambda t, x: x, lambda t, x: x, 1.0, h, np.zeros(3))


def test_bad_input_is_named() -> None:
    def f(t: float, x: Array) -> Array:
        return x

    euler, dW = TABLEAUS["euler"], np.zeros((3, 2))
    two_stages = Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2"))
    wrongs: list[Any] = [two_stages, Tableau.multistep((1,), (2,)), replace(euler, derivative=2), "euler"]
    for wrong in wrongs:
        with pytest.raises(OdenasError, match=r"`tableau` is .*consistent linear multistep"):
            integrate_stochastic(wrong, f, f, 1.0, 0.1, dW)
    with pytest.raises(OdenasError, match=r"`placement` is 'slopes'.*did you mean 'slope'"):
        noise_gain(euler, "slopes")
    with pytest.raises(OdenasError, match="`law` is"):
        wiener_increments(np.random.default_rng(0), 0.1, (2,), "cauchy")
    with pytest.raises(OdenasError, match="`x0` is"):
        integrate_stochastic(euler, f, f, [1.0, 2.0, 3.0], 0.1, dW)
    with pytest.raises(OdenasError, match="`increments` has"):
        integrate_stochastic(euler, f, f, 1.0, 0.1, 0.5)
    for drift, diffusion, name in ((lambda t, x: x[:1], f, "drift"), (f, lambda t, x: x[:1], "diffusion")):
        with pytest.raises(OdenasError, match=f"`{name}` returned the shape"):
            integrate_stochastic(euler, drift, diffusion, 1.0, 0.1, dW)
