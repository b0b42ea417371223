"""Absolute stability, against known intervals, the step's matrix itself, and nodepy."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from nodepy import runge_kutta_method as rk
from numpy.typing import NDArray

from odenas.space.order import order
from odenas.space.stability import imaginary_interval, is_stable_at, real_interval, spectral_radius
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Tableau

ADAMS_BASHFORTH = [
    ("1",),
    ("3/2", "-1/2"),
    ("23/12", "-4/3", "5/12"),
    ("55/24", "-59/24", "37/24", "-3/8"),
    ("1901/720", "-1387/360", "109/30", "-637/360", "251/720"),
]
ADAMS_MOULTON = [("1/2", "1/2"), ("5/12", "2/3", "-1/12"), ("3/8", "19/24", "-5/24", "1/24")]
RK3 = Tableau.runge_kutta(((0, 0, 0), ("1/3", 0, 0), (0, "2/3", 0)), ("1/4", 0, "3/4"))
RK4 = Tableau.runge_kutta(
    ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
)
MIDPOINT = Tableau.multistep((0, 1), (2,))
VERLET = Tableau.multistep((2, -1), (1,))


def adams_bashforth(k: int) -> Tableau:
    return Tableau.multistep((1,), ADAMS_BASHFORTH[k - 1])


def predictor_corrector(k: int, m: int) -> Tableau:
    """Return PECE with k-step Adams–Bashforth and m-step Adams–Moulton."""
    predictor, corrector = ADAMS_BASHFORTH[k - 1], ADAMS_MOULTON[m - 1]
    steps = max(k, m)
    past = [*corrector[2:], *[0] * (steps + 1 - len(corrector))]
    return Tableau(
        V=(1, *[0] * (steps - 1)),
        B=(corrector[1], corrector[0]),  # type: ignore[arg-type]
        R=tuple(past[: steps - 1]),  # type: ignore[arg-type]
        A=((0, 0), (predictor[0], 0)),  # type: ignore[arg-type]
        W=((0,) * (steps - 1), (*predictor[1:], *[0] * (steps - k))) if steps > 1 else (),  # type: ignore[arg-type]
    )


def rounded(tableau: Tableau) -> Tableau:
    return Tableau(
        V=tuple(map(float, tableau.V)),
        B=tuple(map(float, tableau.B)),
        R=tuple(map(float, tableau.R)),
        A=tuple(tuple(map(float, row)) for row in tableau.A),
        U=tuple(tuple(map(float, row)) for row in tableau.U),
        W=tuple(tuple(map(float, row)) for row in tableau.W),
    )


def random_tableau(rng: np.random.Generator) -> Tableau:
    """Return a tableau with all parts in use and the roots of ρ in |ζ| ≤ 0.9, save for ζ = 1."""
    k, s = (int(n) for n in rng.integers(1, 4, 2))

    def draw(height: int, width: int) -> list[list[Fraction]]:
        return [[Fraction(int(n), 8) for n in row] for row in rng.integers(-8, 9, (height, width))]

    V = [Fraction(round(64 * v), 64) for v in -np.poly([1, *rng.uniform(-0.9, 0.9, k - 1)])[1:]]
    V[0] += 1 - sum(V)
    U = draw(s, k)
    for row in U:
        row[0] += 1 - sum(row)
    A = [[a if j < i else Fraction(0) for j, a in enumerate(row)] for i, row in enumerate(draw(s, s))]
    parts: Any = {"V": V, "B": [abs(b) for b in draw(1, s)[0]], "R": draw(1, k - 1)[0], "A": A, "U": U}
    return Tableau(**parts, W=draw(s, k - 1) if k > 1 else ())  # type: ignore[arg-type]


def matrix(tableau: Tableau, z: complex) -> NDArray[np.complex128]:
    """Return one step's matrix M(z) on (x_n … x_{n−k+1}, F_{n−1} … F_{n−k+1}), from the definition."""
    k, s = tableau.steps, tableau.stages
    U, W, A = (np.array(part, dtype=float).reshape(s, -1) for part in (tableau.U, tableau.W, tableau.A))
    stages = np.linalg.solve(np.eye(s) - z * A, np.hstack([U, W]))
    M = np.eye(2 * k - 1, k=-1, dtype=complex)
    M[0] = np.array([*tableau.V, *tableau.R], dtype=float) + z * np.array(tableau.B, dtype=float) @ stages
    if k > 1:
        M[k] = z * stages[0]
    return M


@pytest.mark.parametrize(
    ("tableau", "real", "imaginary"),
    [
        (adams_bashforth(1), 2, 0),
        (adams_bashforth(2), 1, 0),
        (adams_bashforth(3), 6 / 11, 12 / (5 * math.sqrt(11))),
        (adams_bashforth(4), 3 / 10, None),
        (adams_bashforth(5), 90 / 551, 0),
        (MIDPOINT, 0, 1),
        (VERLET, 4, 0),
        (RK3, None, math.sqrt(3)),
        (RK4, 2.785293563405282, 2 * math.sqrt(2)),
        (Tableau.multistep((0, 1), ("7/3", "-2/3", "1/3")), 0, 0),
        (Tableau.multistep((1,), (0,)), math.inf, math.inf),
        (Tableau.multistep((3, -2), (1,)), 0, 0),
        (predictor_corrector(2, 1), 2, None),
    ],
)
def test_known_intervals(tableau: Tableau, real: float | None, imaginary: float | None) -> None:
    for found, known in ((real_interval(tableau), real), (imaginary_interval(tableau), imaginary)):
        if known is not None:
            assert found == (known if known == 0 else pytest.approx(known, rel=1e-14))


def test_adams_bashforth_4_is_stable_up_to_043_on_the_imaginary_axis() -> None:
    assert imaginary_interval(adams_bashforth(4)) == pytest.approx(0.43, abs=1e-3)


@pytest.mark.parametrize("k", [Fraction(n, 10) for n in range(-9, 10)] + [Fraction(-9999, 10000)])
def test_two_step_methods_in_closed_form(k: Fraction) -> None:
    first = Tableau.multistep((1 - k, k), (1 + k,))
    second = Tableau.multistep((1 - k, k), ((3 + k) / 2, (k - 1) / 2))
    assert real_interval(first) == pytest.approx(float(2 * (1 - k) / (1 + k)), rel=1e-14)
    assert real_interval(second) == pytest.approx(float(1 - k), rel=1e-14)
    assert imaginary_interval(first) == imaginary_interval(second) == 0


@pytest.mark.parametrize(
    ("k", "m", "real"), [(1, 1, 2), (2, 1, 2), (2, 2, 2.4), (3, 2, 1.728), (3, 3, 1.934), (4, 3, 1.284)]
)
def test_predictor_corrector_pairs(k: int, m: int, real: float) -> None:
    assert real_interval(predictor_corrector(k, m)) == pytest.approx(real, abs=1e-3)


@pytest.mark.parametrize("name", ["FE", "Heun33", "RK44", "DP5", "Merson43", "BS5", "SSP33"])
def test_runge_kutta_as_nodepy(name: str) -> None:
    method = rk.loadRKM(name)
    tableau = Tableau.runge_kutta([list(map(str, row)) for row in method.A], list(map(str, method.b)))
    assert real_interval(tableau) == pytest.approx(float(method.real_stability_interval()), abs=1e-5)
    assert imaginary_interval(tableau) == pytest.approx(float(method.imaginary_stability_interval()), abs=1e-5)


@pytest.mark.parametrize("s", [2, 3, 5, 8])
def test_chebyshev_polynomials_touch_one_inside_their_interval(s: int) -> None:
    """R(z) = T_s(1 + z/s²) has the interval 2s² and |R| = 1 at s − 1 places in it (Hairer, Wanner II, IV.2)."""
    A: list[list[Fraction]] = [[Fraction(0)] * s for _ in range(s)]
    b = [Fraction(0)] * s
    columns = [[], [Fraction(1, s * s)]]  # stage Y_j = x + Σ_i columns[j][i] F_i with Y_j = T_j(1 + z/s²) x
    for _ in range(2, s + 1):
        last, before = columns[-1], [*columns[-2], Fraction(0)]
        grown = [2 * a - c for a, c in zip(last, before, strict=True)]
        columns.append([*grown, Fraction(2, s * s)])
    for i in range(1, s):
        A[i][:i] = columns[i]
    b[:] = columns[s]
    tableau = Tableau.runge_kutta(A, b)
    assert real_interval(tableau) == pytest.approx(2 * s * s, rel=1e-14)
    touching = s * s * (math.cos(math.pi / s) - 1)
    assert spectral_radius(tableau, touching) == pytest.approx(1, abs=1e-9)


def test_a_narrow_gap_ends_the_interval() -> None:
    """R(z) = 1 + z + z²/2 + cz³ ≤ 1 on z < 0 needs 1 + z/2 + cz² ≥ 0, hence c ≥ 1/16; the double root is −4."""
    for c, gap in ((Fraction(1, 16), False), (Fraction(1, 16) - Fraction(1, 10**9), True)):
        tableau = Tableau.runge_kutta(((0, 0, 0), ("1/2", 0, 0), (Fraction(1, 2) - 2 * c, 2 * c, 0)), (0, 0, 1))
        assert [float(row) for row in stability_polynomial(tableau)[0]] == pytest.approx([-1, -1, -0.5, -float(c)])
        first = (1 - math.sqrt(1 - 16 * c)) / float(4 * c) if gap else None
        assert (real_interval(tableau) < 6) is gap
        assert first is None or real_interval(tableau) == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_rounded_coefficients_have_the_intervals_of_the_exact_ones(k: int, dtype: Any) -> None:
    exact = adams_bashforth(k)
    tableau = Tableau.multistep((1.0,), [float(dtype(float(b))) for b in exact.slopes])
    assert real_interval(tableau) == pytest.approx(real_interval(exact), rel=1e-5)
    assert imaginary_interval(tableau) == pytest.approx(imaginary_interval(exact), rel=1e-4, abs=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("b", [Fraction(n, 7) for n in range(-3, 4)])
def test_rounding_next_to_the_origin_does_not_end_the_interval(b: Fraction, dtype: Any) -> None:
    """ρ = (ζ² − 1)(ζ² − ζ/3 + b), σ such that the root −1 moves inward; rounding breaks ρ(1) = 0 and ρ(−1) = 0."""
    a = Fraction(1, 3)
    states, total = (a, 1 - b, -a, b), 2 * (1 - a + b)
    slopes = (total / 3, 2 * total / 3)
    near = Tableau.multistep(*([float(dtype(float(entry))) for entry in row] for row in (states, slopes)))
    exact = real_interval(Tableau.multistep(states, slopes))
    assert exact > 0.1
    assert real_interval(near) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("weight", [Fraction(n, 11) for n in range(1, 11)])
def test_rounded_states_still_keep_a_constant_solution(weight: Fraction) -> None:
    tableau = Tableau.multistep((float(weight), float(1 - weight)), (1.0,))
    assert sum(row[0] for row in stability_polynomial(tableau)) == 0
    assert is_stable_at(tableau, 0)


def test_rounded_runge_kutta_and_midpoint() -> None:
    method = rk.loadRKM("DP5")
    exact = Tableau.runge_kutta([list(map(str, row)) for row in method.A], list(map(str, method.b)))
    for measure in (real_interval, imaginary_interval):
        for tableau in (exact, RK4, MIDPOINT, VERLET, predictor_corrector(3, 3)):
            assert measure(rounded(tableau)) == pytest.approx(measure(tableau), rel=1e-10)


@pytest.mark.parametrize("seed", range(40))
def test_polynomial_is_the_determinant_of_the_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tableau = random_tableau(rng)
    z = complex(rng.normal(), rng.normal())
    found = [np.polyval([float(c) for c in row[::-1]], z) for row in stability_polynomial(tableau)][::-1]
    expected = np.poly(matrix(tableau, z))
    zeros = np.zeros(len(expected) - len(found))
    assert np.allclose(np.r_[found, zeros], expected, atol=1e-10)
    largest = abs(np.linalg.eigvals(matrix(tableau, z))).max()
    assert spectral_radius(tableau, [z, z])[1] == pytest.approx(largest, abs=1e-8)
    assert is_stable_at(tableau, z.real, z.imag) is bool(largest <= 1)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("measure", "direction"), [(real_interval, -1), (imaginary_interval, 1j)])
def test_intervals_by_scanning_the_matrix(seed: int, measure: Callable[[Tableau], float], direction: complex) -> None:
    tableau = random_tableau(np.random.default_rng(seed))
    end = measure(tableau)
    if not math.isfinite(end):
        assert len(stability_polynomial(tableau)[0]) == 1
        return

    def radius(y: float) -> float:
        return float(abs(np.linalg.eigvals(matrix(tableau, direction * y))).max())

    assert all(radius(y) < 1 + 1e-7 for y in np.linspace(0, end, 200)[1:-1])
    assert radius(end + 1e-6 * max(end, 1)) > 1


@pytest.mark.parametrize("seed", range(40))
def test_the_principal_root_follows_the_exponential_to_the_order(seed: int) -> None:
    """det(e^z I − M(z)) = O(z^{p+1}) (Hairer, Wanner II, V.1), for a multistep method with equality."""
    tableau = random_tableau(np.random.default_rng(seed)) if seed % 2 else adams_bashforth(1 + seed % 5)
    table = stability_polynomial(tableau)

    def coefficient(power: int) -> Fraction:
        return sum(
            (
                c * Fraction(i ** (power - j), math.factorial(power - j))
                for i, row in enumerate(table)
                for j, c in enumerate(row[: power + 1])
            ),
            Fraction(0),
        )

    p = order(tableau)
    assert not any(coefficient(n) for n in range(p + 1))
    assert seed % 2 or coefficient(p + 1)


def test_decisions_on_the_circle_are_exact() -> None:
    assert is_stable_at(MIDPOINT, 0, Fraction(999999999, 10**9))
    assert not is_stable_at(MIDPOINT, 0, 1)  # the two roots meet
    assert not is_stable_at(MIDPOINT, Fraction(-1, 10**30))
    assert is_stable_at(adams_bashforth(3), Fraction(-6, 11))  # a simple root −1
    assert not is_stable_at(adams_bashforth(3), Fraction(-6, 11) - Fraction(1, 10**30))
    assert not is_stable_at(VERLET, 0)
    assert is_stable_at(RK4, 0, Fraction(28284271247461900, 10**16))
    assert not is_stable_at(RK4, 0, Fraction(28284271247461901, 10**16) + Fraction(1, 10**15))
