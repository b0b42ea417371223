"""SSP coefficients, against closed forms, nodepy, and what the coefficient promises and denies."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from nodepy import runge_kutta_method as rk
from nodepy.twostep_runge_kutta_method import TwoStepRungeKuttaMethod
from numpy.typing import NDArray

from odenas.space import OdenasError, scheme
from odenas.space.integrate import RK4, integrate
from odenas.space.monotonicity import ssp_coefficient
from odenas.space.tableau import Tableau

SSPRK22 = Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2"))
SSPRK33 = Tableau.runge_kutta(((0, 0, 0), (1, 0, 0), ("1/4", "1/4", 0)), ("1/6", "1/6", "2/3"))
HEUN33 = Tableau.runge_kutta(((0, 0, 0), ("1/3", 0, 0), (0, "2/3", 0)), ("1/4", 0, "3/4"))


def second_order_runge_kutta(s: int) -> Tableau:
    """The optimal method of order 2: s − 1 stages 1/(s − 1) apart, weights 1/s (Gottlieb, Ketcheson, Shu 2011)."""
    rows = [[Fraction(1, s - 1) if j < i else Fraction(0) for j in range(s)] for i in range(s)]
    return Tableau.runge_kutta(rows, [Fraction(1, s)] * s)


def second_order_multistep(k: int) -> Tableau:
    weight = Fraction(1, (k - 1) ** 2)
    return Tableau.multistep([1 - weight, *[0] * (k - 2), weight], [Fraction(k, k - 1)])


def shu_osher(rng: np.random.Generator, steps: int | None = None, least: int = 0) -> Tableau:
    """Return a random tableau whose every row is a convex combination of states and forward Euler steps of stages.

    Weights are in proportion to integers of at least `least`, so that with 1 no stage is idle and no two are equal.
    """
    k = steps or int(rng.integers(1, 4))
    s = int(rng.integers(1, 4))

    def convex(states: list[dict[str, Any]]) -> dict[str, Any]:
        """Each state is {name: weight}; the last weights are those of its own slope."""
        weights = rng.integers(least, 5, len(states))
        weights[-1] += 1
        row: dict[str, Fraction] = {}
        for weight, state in zip(weights, states, strict=True):
            part = Fraction(int(weight), int(weights.sum()))
            for name, entry in state["is"].items():
                row[name] = row.get(name, Fraction(0)) + part * entry
            row[state["slope"]] = row.get(state["slope"], Fraction(0)) + part * Fraction(int(rng.integers(least, 5)), 4)
        return row

    known: list[dict[str, Any]] = [{"is": {f"x{j}": Fraction(1)}, "slope": f"F{j}"} for j in range(k - 1, -1, -1)]
    rows = [{"x0": Fraction(1)}]
    for i in range(1, s + 1):
        rows.append(convex(known))
        known.append({"is": rows[-1], "slope": f"f{i}"})

    def read(row: dict[str, Fraction], names: list[str]) -> tuple[Fraction, ...]:
        return tuple(row.get(name, Fraction(0)) for name in names)

    states, past = [f"x{j}" for j in range(k)], [f"F{j}" for j in range(1, k)]
    present = ["F0", *(f"f{i}" for i in range(1, s))]
    *stages, new = rows
    return Tableau(
        V=read(new, states),
        R=read(new, past),
        B=read(new, present),
        U=tuple(read(row, states) for row in stages),
        W=tuple(read(row, past) for row in stages),
        A=tuple(read(row, present) for row in stages),
    )


def growth(tableau: Tableau, r: float) -> float:
    """Return the largest ‖x_{n+1}‖ over all old states of norm ≤ 1 and all f with ‖v + f(v)/r‖ ≤ ‖v‖, h = 1.

    In the maximum norm, component by component, x_{n+1} = P x + Q z with z_i = Y_i + f(Y_i)/r of any sign and of a
    size up to ‖Y_i‖; with as many components as rows each row of P and Q meets the signs that suit it worst.
    """
    k, s = tableau.steps, tableau.stages
    floats = [np.array(m, float).reshape(s, -1) for m in (tableau.U, tableau.W, tableau.A)]
    S = np.vstack([np.eye(k), floats[0][1:], np.array([tableau.V], float)])
    stages = np.hstack([floats[2][:, :1], floats[1], floats[2][:, 1:]])[1:]
    last = np.array([[tableau.B[0], *tableau.R, *tableau.B[1:]]], float)
    T = np.vstack([np.zeros((k, k + s - 1)), stages, last])
    T = np.hstack([T, np.zeros((k + s, 1))])
    P, Q = np.linalg.solve(np.eye(k + s) + r * T, S), np.linalg.solve(np.eye(k + s) + r * T, r * T)
    size = np.ones(k + s)
    for i in range(k, k + s):
        size[i] = abs(P[i]).sum() + abs(Q[i]) @ size
    return float(size[-1])


@pytest.mark.parametrize(
    ("tableau", "known"),
    [
        (Tableau.multistep((1,), (1,)), 1),
        (Tableau.multistep((1,), ("3/2", "-1/2")), 0),
        (Tableau.multistep((1,), ("23/12", "-4/3", "5/12")), 0),
        (Tableau.multistep((0, 1), (2,)), 0),
        (Tableau.multistep(("1/2", "1/2"), ("3/2",)), 1 / 3),
        (Tableau.multistep(("21/20", "-1/20"), ("19/20",)), 0),
        (Tableau.multistep(("2/3", "1/3"), (0,)), math.inf),
        (SSPRK22, 1),
        (SSPRK33, 1),
        (HEUN33, 0),
        (RK4, 0),
    ],
)
def test_known_coefficients(tableau: Tableau, known: float) -> None:
    assert ssp_coefficient(tableau) == known


@pytest.mark.parametrize("n", range(3, 9))
def test_optimal_methods_of_order_two(n: int) -> None:
    assert ssp_coefficient(second_order_multistep(n)) == float(Fraction(n - 2, n - 1))
    assert ssp_coefficient(second_order_runge_kutta(n)) == n - 1


@pytest.mark.parametrize(("name", "known"), [("ssp54", 1.508180), ("ssp104", 6.0), ("ssp_tsrk2", math.sqrt(2))])
def test_optimal_methods_of_the_catalogue(name: str, known: float) -> None:
    """Spiteri, Ruuth 2002; Ketcheson 2008; Ketcheson, Gottlieb, Macdonald 2011, √(s(s − 1)) for order 2."""
    assert ssp_coefficient(scheme(name).tableau) == pytest.approx(known, rel=1e-6)


def test_rounding_does_not_move_multiple_roots() -> None:
    """Entries like (1 − r/C)ʲ with a little noise are negative well before r = C."""
    assert ssp_coefficient(scheme("ssp_tsrk2", stages=10).tableau) == pytest.approx(math.sqrt(90), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_multistep_methods_in_closed_form(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = [Fraction(int(n)) for n in rng.integers(1, 30, 4)]
    V = [v / sum(weights) for v in weights]
    beta = [Fraction(int(n), 7) for n in rng.integers(0, 9, 3)] + [Fraction(1)]
    expected = min(v / b for v, b in zip(V, beta, strict=True) if b)
    assert ssp_coefficient(Tableau.multistep(V, beta)) == float(expected)
    assert ssp_coefficient(Tableau.multistep(V, [*beta[:3], Fraction(-1, 10**9)])) == 0
    assert ssp_coefficient(Tableau.multistep([*V[:3], V[3] + 1, Fraction(-1)], beta)) == 0


@pytest.mark.parametrize("name", ["SSP22star", "SSP33", "SSP43", "SSP53", "SSP54", "SSP63", "SSP104", "MTE22", "DP5"])
def test_runge_kutta_as_nodepy(name: str) -> None:
    method = rk.loadRKM(name)
    tableau = Tableau.runge_kutta([list(map(float, row)) for row in method.A], list(map(float, method.b)))
    # nodepy's own decisions carry a tolerance.
    assert ssp_coefficient(tableau) == pytest.approx(float(method.absolute_monotonicity_radius()), abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_random_runge_kutta_as_nodepy(seed: int) -> None:
    tableau = shu_osher(np.random.default_rng(seed), steps=1, least=1)  # nodepy does not strike out stages
    method = rk.ExplicitRungeKuttaMethod(np.array(tableau.A, float), np.array(tableau.B, float))
    expected = float(method.absolute_monotonicity_radius())
    assert expected > 0
    assert ssp_coefficient(tableau) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_random_two_step_runge_kutta_as_nodepy(seed: int) -> None:
    """nodepy's type II: Y_i = d_i x_{n−1} + (1 − d_i) x_n + h â_i f(x_{n−1}) + h Σ_j a_ij f(Y_j)."""
    rng = np.random.default_rng(seed)
    s = int(rng.integers(2, 4))
    d, hat = rng.integers(1, 4, s) / 8, rng.integers(1, 4, s) / 16
    A = np.tril(rng.integers(1, 5, (s, s)), -1) / 8
    d[0] = hat[0] = 0
    theta, b, before = 0.25, rng.integers(1, 5, s) / 8, 1 / 16
    past = np.pad(hat.reshape(-1, 1), ((0, 0), (0, s - 1))), np.array([before, *[0] * (s - 1)])
    method = TwoStepRungeKuttaMethod(d.reshape(-1, 1), theta, A, b.reshape(-1, 1), *past, type="Type II")
    tableau = Tableau(
        V=(Fraction(3, 4), Fraction(1, 4)),
        R=(Fraction(before),),
        B=tuple(map(Fraction, b)),
        U=tuple((Fraction(1 - x), Fraction(x)) for x in d),
        W=tuple((Fraction(x),) for x in hat),
        A=tuple(tuple(map(Fraction, row)) for row in A),
    )
    assert ssp_coefficient(tableau) == pytest.approx(float(method.absolute_monotonicity_radius()), abs=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_the_coefficient_is_where_growth_begins(seed: int) -> None:
    tableau = shu_osher(np.random.default_rng(seed))
    r = ssp_coefficient(tableau)
    if r > 0 and math.isfinite(r):
        assert growth(tableau, r) == pytest.approx(1, abs=1e-12)
        assert growth(tableau, 0.7 * r) == pytest.approx(1, abs=1e-12)
    if math.isfinite(r):
        assert growth(tableau, max(1.05 * r, 0.05)) > 1 + 1e-9


def test_random_methods_have_all_kinds_of_coefficients() -> None:
    found = [ssp_coefficient(shu_osher(np.random.default_rng(seed))) for seed in range(60)]
    assert sum(r > 0 for r in found) > 30
    assert sum(math.isinf(r) for r in found) < 10
    assert len({round(r, 9) for r in found}) > 20


@pytest.mark.parametrize("tableau", [SSPRK22, SSPRK33, second_order_runge_kutta(5), second_order_multistep(4)])
def test_promised_bounds_are_kept(tableau: Tableau) -> None:
    """f(v) = M(v) v − v with M(v) of row sums at most 1 in size: forward Euler with h ≤ 1 keeps the maximum norm."""
    rng = np.random.default_rng(0)

    def f(t: float, x: NDArray[Any]) -> NDArray[Any]:
        M = rng.choice([-1.0, 1.0], (12, 12)) * rng.dirichlet([0.05] * 12, 12)
        return np.asarray(M @ x - x)

    steps = tableau.steps
    for h, kept in ((ssp_coefficient(tableau), True), (2.5 * ssp_coefficient(tableau), False)):
        sizes = abs(integrate(tableau, f, rng.choice([-1.0, 1.0], 12), h, 50, start="copy")).max(axis=1)
        windows = np.array([sizes[n : n + steps].max() for n in range(len(sizes) - steps)])
        assert bool(np.all(sizes[steps:] <= windows * (1 + 1e-12))) is kept


def test_idle_and_repeated_stages_change_nothing() -> None:
    """SSPRK(3,3) with its second stage twice, the weight split unevenly, and two stages that nothing reads."""
    A = (
        (0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (0, -7, 0, 0, 0, 0),
        ("1/4", 1, "-3/4", 0, 0, 0),
        (0, 0, 0, 5, 0, 0),
    )
    padded = Tableau.runge_kutta(A, ("1/6", "-1/3", "1/2", 0, "2/3", 0))
    assert ssp_coefficient(padded) == ssp_coefficient(SSPRK33) == 1
    split = Tableau.runge_kutta(((0, 0), (0, 0)), (3, -2))
    assert ssp_coefficient(split) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "tableau",
    [
        SSPRK33,
        RK4,
        HEUN33,
        second_order_runge_kutta(6),
        second_order_multistep(4),
        shu_osher(np.random.default_rng(15)),
    ],
)
def test_rounded_entries(tableau: Tableau, dtype: Any) -> None:
    def row(entries: Any) -> Any:
        return tuple(float(dtype(float(entry))) for entry in entries)

    parts: dict[str, Any] = {part: row(getattr(tableau, part)) for part in "VBR"}
    parts |= {part: tuple(map(row, getattr(tableau, part))) for part in "AUW"}
    rounded = Tableau(**parts)
    assert ssp_coefficient(rounded) == pytest.approx(ssp_coefficient(tableau), rel=200 * float(np.finfo(dtype).eps))


def test_what_cannot_be_answered_is_refused() -> None:
    with pytest.raises(OdenasError, match="`U` sums to 2 in row 1"):
        ssp_coefficient(replace(SSPRK22, U=((1,), (2,))))
    late = Tableau(V=(1, 0), B=(1,), R=(1,), U=((0, 1),))
    with pytest.raises(OdenasError, match=r"`U` begins with the row \(0, 1\)"):
        ssp_coefficient(late)
    with pytest.raises(OdenasError, match="an SSP coefficient needs a Tableau"):
        ssp_coefficient(scheme("stormer_verlet").tableau)
    with pytest.raises(OdenasError, match="`derivative` is 2"):
        ssp_coefficient(Tableau.multistep((2, -1), (1,), derivative=2))
    assert ssp_coefficient(replace(late, R=(Fraction(0),))) == 0  # x_n + h f(x_{n−1}) has no history of slopes
