"""The named Runge–Kutta methods, against the order conditions, nodepy, scipy, torchdiffeq and their defining laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy import low_storage_rk
from nodepy import runge_kutta_method as rk
from numpy.polynomial import chebyshev as numpy_chebyshev
from numpy.typing import NDArray
from scipy.integrate import RK23, RK45

from odenas.space.errors import OdenasError
from odenas.space.integrate import integrate
from odenas.space.order import defects, order
from odenas.space.runge_kutta import RUNGE_KUTTA, chebyshev, low_storage, rkc, ssp_rk
from odenas.space.scheme import Scheme
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Number, Tableau

Array = NDArray[Any]
ROWS = {name: entry.make() for name, entry in RUNGE_KUTTA.items()}
EXACT = [name for name in ROWS if name not in ("gill4", "ssp54", "carpenter_kennedy4")]
NODEPY = {
    "explicit_midpoint": "Mid22",
    "heun2": "Heun22",
    "ssp22": "SSP22",
    "ralston2": "MTE22",
    "heun3": "Heun33",
    "ssp33": "SSP33",
    "bogacki_shampine3": "BS3",
    "rk4": "RK44",
    "merson": "Merson43",
    "ssp_rk": "SSP43",
    "ssp104": "SSP104",
    "dormand_prince5": "DP5",
}
# Spiteri & Ruuth 2002 as printed: Y_i = Σ_l α_il Y_l + β_il h f(Y_l).
SPITERI_RUUTH = (
    (
        ("1",),
        ("0.444370493651235", "0.555629506348765"),
        ("0.620101851488403", "0", "0.379898148511597"),
        ("0.178079954393132", "0", "0", "0.821920045606868"),
        ("0", "0", "0.517231671970585", "0.096059710526147", "0.386708617503269"),
    ),
    (
        ("0.391752226571890",),
        ("0", "0.368410593050371"),
        ("0", "0", "0.251891774271694"),
        ("0", "0", "0", "0.544974750228521"),
        ("0", "0", "0", "0.063692468666290", "0.226007483236906"),
    ),
)


def table(s: Scheme) -> Tableau:
    assert isinstance(s.tableau, Tableau)
    return s.tableau


def butcher(tableau: Tableau) -> tuple[Array, Array]:
    """Return A and b in floats."""
    return np.array([[float(a) for a in row] for row in tableau.A]), np.array([float(b) for b in tableau.B])


def polynomial(tableau: Tableau) -> list[Fraction]:
    """Return the coefficients of R(z), lowest power first."""
    minus, one = stability_polynomial(tableau)
    assert one == (1,) + (0,) * (len(one) - 1)
    return [-entry for entry in minus]


def pendulum(t: float, x: Array) -> Array:
    return np.array([x[1], -np.sin(x[0]) + np.cos(3 * t)])


@pytest.mark.parametrize("name", ROWS)
def test_every_order_condition(name: str) -> None:
    s, p = ROWS[name], ROWS[name].coefficients.order
    assert table(s).exact is (name in EXACT)
    assert table(s).steps == 1
    assert s.order == order(table(s)) == p
    allowed = 0 if name in EXACT else 2e-15
    assert all(abs(defect) <= allowed for q in range(1, p + 1) for defect in defects(table(s), q).values())
    assert max(map(abs, defects(table(s), p + 1).values())) > 1e-4


@pytest.mark.parametrize("name", ROWS)
def test_order_as_nodepy(name: str) -> None:
    assert rk.ExplicitRungeKuttaMethod(*butcher(table(ROWS[name]))).order(tol=1e-12) == ROWS[name].order


@pytest.mark.parametrize("name", ROWS)
def test_the_order_seen_is_the_order_proved(name: str) -> None:
    """On x' = −2tx², x(0) = 1, whose solution is 1/(1 + t²), at t = 1."""
    p, errors = ROWS[name].order, []
    finest = {1: 11, 2: 9, 3: 8, 4: 7, 5: 6}[p]
    for level in (finest - 1, finest):
        x = ROWS[name].integrate(lambda t, x: -2 * t * x * x, 1.0, 2.0**-level, 2**level)[-1]
        errors.append(abs(float(x) - 0.5))
    assert errors[1] > 1e-13
    assert math.log2(errors[0] / errors[1]) == pytest.approx(p, abs=0.15)


@pytest.mark.parametrize("name", NODEPY)
def test_coefficients_as_nodepy(name: str) -> None:
    reference = rk.loadRKM(NODEPY[name])
    A, b = butcher(table(ROWS[name]))
    stages = len(b)  # without the stage that is the next step's first
    assert pytest.approx(np.array(reference.A[:stages, :stages], dtype=float), abs=1e-15) == A
    assert pytest.approx(np.array(reference.b[:stages], dtype=float), abs=1e-15) == b
    assert not np.array(reference.b[stages:], dtype=float).any()


@pytest.mark.parametrize(("name", "solver"), [("bogacki_shampine3", RK23), ("dormand_prince5", RK45)])
def test_coefficients_as_scipy(name: str, solver: Any) -> None:
    A, b = butcher(table(ROWS[name]))
    columns = solver.A.shape[1]  # the last stage is in no other
    assert pytest.approx(solver.A, abs=1e-15) == A[:, :columns]
    assert not A[:, columns:].any()
    assert pytest.approx(solver.B, abs=1e-15) == b
    assert pytest.approx(solver.C, abs=1e-15) == [float(c) for c in table(ROWS[name]).abscissae]


@pytest.mark.parametrize(
    ("name", "method"),
    [("explicit_midpoint", "midpoint"), ("heun2", "heun2"), ("heun3", "heun3"), ("rk38", "rk4")],
)
def test_steps_as_torchdiffeq(name: str, method: str) -> None:
    """Its "rk4" is the 3/8 rule."""
    torchdiffeq = pytest.importorskip("torchdiffeq")
    times = torch.linspace(0, 2, 11, dtype=torch.float64)

    def f(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[1], -torch.sin(x[0]) + torch.cos(3 * t)])

    expected = torchdiffeq.odeint(f, torch.tensor([1.0, 0.5], dtype=torch.float64), times, method=method)
    assert ROWS[name].integrate(pendulum, [1.0, 0.5], 0.2, 10) == pytest.approx(expected.numpy(), abs=1e-14)


def test_ssp54_is_the_printed_one() -> None:
    stages = [[Fraction(0)] * 5]
    for alpha, beta in zip(*SPITERI_RUUTH, strict=True):
        row = [sum((Fraction(a) * y[i] for a, y in zip(alpha, stages, strict=True)), Fraction(0)) for i in range(5)]
        stages.append([entry + Fraction(beta[i] if i < len(beta) else 0) for i, entry in enumerate(row)])
    tableau = Tableau.runge_kutta([[float(a) for a in row] for row in stages[:5]], [float(b) for b in stages[5]])
    assert tableau == table(ROWS["ssp54"])
    reference = rk.loadRKM("SSP54")  # the same method to more digits: the printed ones hold nine of the optimum's
    assert pytest.approx(np.array(reference.A, dtype=float), abs=2e-9) == butcher(tableau)[0]


def test_gill_by_his_three_registers() -> None:
    """Gill 1951: the state x, the slope and q suffice (Abramowitz & Stegun, 25.5.12)."""
    root, h = math.sqrt(0.5), 0.1
    x, q = np.array([1.0, 0.5]), np.zeros(2)
    path = [x]
    for n in range(20):
        t = n * h
        k = h * pendulum(t, x)
        y, q = x + k / 2, k
        k = h * pendulum(t + h / 2, y)
        y, q = y + (1 - root) * (k - q), (2 - 2 * root) * k + (3 * root - 2) * q
        k = h * pendulum(t + h / 2, y)
        y, q = y + (1 + root) * (k - q), (2 + 2 * root) * k - (3 * root + 2) * q
        x = y + h * pendulum(t + h, y) / 6 - q / 3
        path.append(x)
    assert ROWS["gill4"].integrate(pendulum, [1.0, 0.5], h, 20) == pytest.approx(np.array(path), abs=1e-14)


def test_two_names_are_synonyms() -> None:
    """Two authors named the optimum that two others had found with other aims."""
    same = {pair for pair in combinations(ROWS, 2) if ROWS[pair[0]] == ROWS[pair[1]]}
    assert same == {("heun2", "ssp22"), ("ralston3", "bogacki_shampine3")}


def test_ralston2_has_the_least_defect() -> None:
    """Of the family with the off-step point c the member c = 2/3 misses one of the two conditions of order 3 only."""
    assert [float(d) for d in defects(table(ROWS["ralston2"]), 3).values()] == pytest.approx([0, 1 / 6])
    for name in ("explicit_midpoint", "heun2"):
        assert sum(d * d for d in defects(table(ROWS[name]), 3).values()) > Fraction(1, 36)


@pytest.mark.parametrize("name", ROWS)
def test_as_many_stages_as_orders_make_the_exponential(name: str) -> None:
    s, R = ROWS[name], polynomial(table(ROWS[name]))
    expected = [1 / math.factorial(j) for j in range(s.order + 1)]
    assert [float(r) for r in R[: s.order + 1]] == pytest.approx(expected, abs=1e-15)
    assert len(R) == table(s).stages + 1


@pytest.mark.parametrize(
    ("name", "real", "imaginary"),
    [
        ("explicit_midpoint", 2, 0),
        ("ralston2", 2, 0),
        ("heun3", 2.513, math.sqrt(3)),
        ("williamson3", 2.513, math.sqrt(3)),
        ("rk4", 2.785, 2 * math.sqrt(2)),
        ("gill4", 2.785, 2 * math.sqrt(2)),
        ("dormand_prince5", 3.307, 0.997),
        ("merson", 3.548, 3.464),
        ("ssp54", 5.33, 3.278),
        ("ssp104", 13.92, 4.92),
    ],
)
def test_intervals(name: str, real: float, imaginary: float) -> None:
    assert ROWS[name].real_interval == pytest.approx(real, abs=3e-3)
    assert ROWS[name].imaginary_interval == pytest.approx(imaginary, abs=3e-3)


def test_ssp54_is_stable_on_the_imaginary_axis() -> None:
    """|R(iy)|² = 1 + (2c₅ − 1/72) y⁶ + …: stable near 0 if and only if z⁵ has a coefficient c₅ below 1/144."""
    R = polynomial(table(ROWS["ssp54"]))
    assert R[5] < Fraction(1, 144)
    y = np.linspace(0.05, 3.27, 2000)
    assert np.abs(np.polyval([float(r) for r in R[::-1]], 1j * y)).max() < 1


@pytest.mark.parametrize(
    ("method", "coefficient"),
    [
        (ROWS["heun2"], 1),
        (ROWS["ssp33"], 1),
        (ROWS["ssp_rk"], 2),
        (ssp_rk(5, 2), 4),
        (ssp_rk(9, 3), 6),
        (ROWS["ssp54"], 1.508),
        (ROWS["ssp104"], 6),
        (ROWS["ralston2"], 0.5),
        (ROWS["rk4"], 0),
        (ROWS["heun3"], 0),
        (ROWS["dormand_prince5"], 0),
    ],
)
def test_ssp_coefficients(method: Scheme, coefficient: float) -> None:
    A, b = butcher(table(method))
    found = rk.ExplicitRungeKuttaMethod(A, b).absolute_monotonicity_radius(acc=1e-6)
    assert found == pytest.approx(coefficient, abs=1e-3)


@pytest.mark.parametrize(("stages", "p"), [(2, 2), (3, 2), (7, 2), (4, 3), (9, 3), (16, 3)])
def test_ssp_families(stages: int, p: int) -> None:
    s = ssp_rk(stages, p)
    assert s.order == p == order(table(s))
    assert table(s).exact
    if stages == 7:
        expected = rk.SSPRK2(stages)
        assert pytest.approx(np.array(expected.A, dtype=float), abs=1e-15) == butcher(table(s))[0]
    # C explicit Euler steps of h/C each cannot blow up before 2C.
    assert s.real_interval >= 2 * (stages - 1 if p == 2 else stages - math.isqrt(stages)) - 1e-9


@given(st.integers(1, 9), st.fractions(0, 2, max_denominator=30), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_rkc_is_the_shifted_chebyshev_polynomial(stages: int, damping: Fraction, p: int) -> None:
    stages = max(stages, p)
    s = rkc(p, stages, damping)
    assert s.order == order(table(s)) == p
    w0 = 1 + damping / stages**2
    T, first, second = (values[-1] for values in chebyshev(w0, stages))
    w1, b = (T / first, 1 / T) if p == 1 else (first / second, second / first**2)
    z = np.linspace(-5, 1, 7)
    shifted = numpy_chebyshev.chebval(float(w0) + float(w1) * z, [0] * stages + [1])
    expected = 1 + float(b) * (shifted - float(T))
    assert np.polyval([float(r) for r in polynomial(table(s))[::-1]], z) == pytest.approx(expected, rel=1e-10)
    reach = w0  # |T_s| ≤ T_s(w0) on [−w0, w0]
    if p == 2 and stages % 2:  # R falls to −1 where T_s is as much below as 1 − b T_s(w0) is above
        reach = Fraction(math.cosh(math.acosh((2 - b * T) / b) / stages))
    assert s.real_interval == pytest.approx(float((w0 + reach) / w1), rel=1e-9)


@pytest.mark.parametrize("stages", range(1, 13))
def test_first_order_chebyshev_reaches_two_s_squared(stages: int) -> None:
    """Largest of all polynomials 1 + z + … of degree s; damped, |R| < 1 inside and a little less far."""
    assert rkc(1, stages, 0).real_interval == 2 * stages**2
    damped = rkc(1, stages, "1/20")
    assert (1.92 if stages > 1 else 1) * stages**2 < damped.real_interval <= 2 * stages**2
    inside = np.linspace(-0.98 * damped.real_interval, -0.5, 5001)
    R = np.polyval([float(r) for r in polynomial(table(damped))[::-1]], inside)
    if stages > 1:
        assert np.abs(R).max() < 0.99


@pytest.mark.parametrize("stages", range(2, 9))
def test_second_order_chebyshev_reaches_two_thirds_s_squared(stages: int) -> None:
    assert rkc(2, stages, 0).real_interval >= 2 / 3 * (stages**2 - 1) * (1 - 1e-12)
    if stages % 2 == 0:
        assert rkc(2, stages, 0).real_interval == pytest.approx(2 / 3 * (stages**2 - 1), rel=1e-12)


@pytest.mark.parametrize(("stages", "p", "reference"), [(4, 1, rk.RKC1), (4, 2, rk.RKC2), (3, 2, rk.RKC2)])
def test_rkc_as_nodepy(stages: int, p: int, reference: Callable[[int], Any]) -> None:
    """Without damping; its b₁ is another for order 2, which changes the stages but not R."""
    numerator, denominator = reference(stages).stability_function()
    expected = np.asarray(numerator.coeffs, dtype=float) / float(denominator.coeffs[-1])
    assert [float(r) for r in polynomial(table(rkc(p, stages, 0)))[::-1]] == pytest.approx(expected, rel=1e-12)


def test_chebyshev_polynomials() -> None:
    w = Fraction(9, 8)
    for values, derivative in zip(chebyshev(w, 6), range(3), strict=True):
        for j, value in enumerate(values):
            unit = numpy_chebyshev.chebder([0] * j + [1], derivative) if derivative else [0] * j + [1]
            assert float(value) == pytest.approx(float(numpy_chebyshev.chebval(float(w), unit)), rel=1e-12, abs=1e-12)


def registers(A: Sequence[Number], B: Sequence[Number], x: Array, h: float, n: int) -> Array:
    """Return n steps in two registers as Williamson writes them; autonomous."""
    path = [x]
    for _ in range(n):
        S = np.zeros_like(x)
        for a, b in zip(A, B, strict=True):
            S = float(a) * S + h * np.sin(x)
            x = x + float(b) * S
        path.append(x)
    return np.array(path)


entries = st.fractions(-2, 2, max_denominator=20)


@given(st.lists(st.tuples(entries, entries), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_two_registers_make_the_step_of_the_tableau(pairs: list[tuple[Fraction, Fraction]]) -> None:
    A, B = [Fraction(0), *(a for a, _ in pairs[1:])], [b for _, b in pairs]
    tableau = low_storage(A, B)
    assert tableau.exact
    x = np.array([0.3, 1.2])
    expected = registers(A, B, x, 0.3, 2)
    assert integrate(tableau, lambda t, x: np.sin(x), x, 0.3, 2) == pytest.approx(expected, rel=1e-12)


def test_low_storage_methods_as_nodepy() -> None:
    reference = low_storage_rk.load_low_storage("RK45[2N]")
    A, b = butcher(table(ROWS["carpenter_kennedy4"]))
    assert pytest.approx(np.array(reference.A, dtype=float), abs=1e-15) == A
    assert pytest.approx(np.array(reference.b, dtype=float), abs=1e-15) == b
    williamson = low_storage_rk.TwoNRungeKuttaMethod(
        np.array([0, -5 / 9, -153 / 128]), np.array([1 / 3, 15 / 16, 8 / 15]), order=3
    )
    assert pytest.approx(np.array(williamson.A, dtype=float), abs=1e-15) == butcher(table(ROWS["williamson3"]))[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ssp_rk(5, 3), r"`stages` is 5, but must be a square for order 3"),
        (lambda: ssp_rk(1, 2), r"`stages` is 1, but must be an integer from 2 to 100"),
        (lambda: ssp_rk(4.0, 2), r"`stages` is 4.0"),  # type: ignore[arg-type]
        (lambda: ssp_rk(4, 4), r"`order` is 4, but must be 2 or 3"),
        (lambda: rkc(2, 1, 0), r"`stages` is 1, but must be an integer from 2 to 20"),
        (lambda: rkc(1, True, 0), r"`stages` is True"),
        (lambda: rkc(3, 3, 0), r"`order` is 3, but must be 1 or 2"),
        (lambda: rkc(1, 3, "-1/20"), r"`damping` is '-1/20', but must be a number from 0 to 100"),
        (lambda: rkc(1, 3, "much"), r"`damping` holds 'much'"),
        (lambda: low_storage((0,), (1, 1)), r"`A` and `B` have 1 and 2 entries"),
        (lambda: low_storage((), ()), r"at least one"),
        (lambda: low_storage((1, 0), (1, 1)), r"`A` begins with 1"),
        (lambda: low_storage((0, math.nan), (1, 1)), r"`A` holds nan"),
    ],
)
def test_bad_parameters(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
    assert real_interval(low_storage((0,), (1,))) == 2
    assert imaginary_interval(low_storage((0,), (1,))) == 0
