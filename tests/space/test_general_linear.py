"""The named general linear methods: each is the only solution of its conditions, and has the order they promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import sympy as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.general_linear import GENERAL_LINEAR, butcher_hybrid, offstep4, pec3, ssp_tsrk2, two_step_rk3
from odenas.space.integrate import integrate
from odenas.space.order import defects, order
from odenas.space.runge_kutta import RUNGE_KUTTA
from odenas.space.scheme import Scheme
from odenas.space.stability import spectral_radius
from odenas.space.tableau import Tableau
from odenas.space.zero_stability import zero_stable

Array = NDArray[Any]
Expressions = list[sp.Expr]

METHODS = {
    **{name: entry.make() for name, entry in GENERAL_LINEAR.items()},
    "butcher_hybrid, k = 3": butcher_hybrid(3),
    "two_step_rk3, c = 1": two_step_rk3(1),
    "two_step_rk3, c = 7/4": two_step_rk3("7/4"),
    "offstep4, k = −1/2": offstep4("-1/2"),
    "offstep4, k = 1": offstep4(1),
    "ssp_tsrk2, s = 5": ssp_tsrk2(5),
}
# x' = f(t, x) with its solution, in numbers of any precision.
PROBLEMS: dict[str, tuple[Callable[[Any, Array], Array], Callable[[Any], Array]]] = {
    "non-linear, non-autonomous": (lambda t, x: -2 * t * x * x, lambda t: np.array([1 / (1 + t * t)])),
    "non-linear rotation": (
        lambda t, x: (x @ x) * np.array([x[1], -x[0]]),
        lambda t: np.array([mpmath.sin(t), mpmath.cos(t)]),
    ),
    "coupled, non-autonomous": (
        lambda t, x: np.array([x[0] * x[1], -mpmath.sin(t) * x[0] / mpmath.exp(mpmath.sin(t))]),
        lambda t: np.array([mpmath.exp(mpmath.sin(t)), mpmath.cos(t)]),
    ),
}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Scheme:
    return METHODS[request.param]


def table(s: Scheme) -> Tableau:
    assert isinstance(s.tableau, Tableau)
    return s.tableau


def step(tableau: Tableau, f: Callable[[Any, Array], Array], t: Any, h: Any, xs: list[Array], Fs: list[Array]) -> None:
    """Make one step as the class says it, in the numbers given; xs and Fs, newest first, take in the new ones."""

    def convert(entry: Any) -> Any:
        return mpmath.mpf(entry.numerator) / entry.denominator if isinstance(entry, Fraction) else entry

    def combined(states: Sequence[Any], past: Sequence[Any], stages: Sequence[Any]) -> Array:
        terms = [*zip(states, xs, strict=True), *zip(past, Fs, strict=True), *zip(stages, new, strict=False)]
        total: Array = sum(convert(weight) * value for weight, value in terms)
        return total

    new: list[Array] = []
    for U, W, A, c in zip(tableau.U, tableau.W, tableau.A, tableau.abscissae, strict=True):
        new.append(h * f(t + convert(c) * h, combined(U, W, A)))
    x = combined(tableau.V, tableau.R, tableau.B)
    xs[:], Fs[:] = [x, *xs][: len(xs)], [new[0], *Fs][: len(Fs)]


def error(tableau: Tableau, problem: str, n: int) -> Any:
    """Return the error at t = 1 of n steps from an exact history, to 30 digits."""
    f, solution = PROBLEMS[problem]
    with mpmath.workdps(30):
        h, c = mpmath.mpf(1) / n, tableau.abscissae[0]
        at = [c.numerator / mpmath.mpf(c.denominator) - j if isinstance(c, Fraction) else c - j for j in range(9)]
        xs = [solution(-j * h) for j in range(tableau.steps)]
        Fs = [h * f(at[j] * h, solution(at[j] * h)) for j in range(1, tableau.steps)]
        for i in range(n):
            step(tableau, f, i * h, h, xs, Fs)
        return max(abs(xs[0] - solution(mpmath.mpf(1))))


def one_step_matrix(tableau: Tableau, z: complex) -> Array:
    """Return M of (x_{n+1} …, F_n …) = M (x_n …, F_{n−1} …) on x' = λx, column by column from unit histories."""
    k = tableau.steps
    columns = []
    for unit in np.eye(2 * k - 1, dtype=complex):
        xs, Fs = list(unit[:k]), list(unit[k:])
        step(tableau, lambda t, x: z * x, 0.0, 1.0, xs, Fs)
        columns.append([complex(entry) for entry in (*xs, *Fs)])
    return np.array(columns).T


def moments(degree: int, states: Expressions, slopes: list[tuple[Any, Any]], target: Any) -> Expressions:
    """Return what vanishes if Σ_j states_j x(−j) + Σ weight·x'(node) = x(target) for x = t^q, q = 0 … degree."""
    return [
        sum(s * sp.Integer(-j) ** q for j, s in enumerate(states))
        + (sum(w * q * sp.sympify(node) ** (q - 1) for w, node in slopes) if q else 0)
        - sp.sympify(target) ** q
        for q in range(degree + 1)
    ]


def only_solution(equations: Expressions, unknowns: Sequence[sp.Symbol]) -> list[Fraction]:
    (solution,) = sp.solve(equations, unknowns, dict=True)
    assert len(solution) == len(unknowns)  # nothing is left free
    return [Fraction(int(solution[u].p), int(solution[u].q)) for u in unknowns]


def test_order_proved(method: Scheme) -> None:
    p = method.coefficients.order
    assert method.order == order(table(method)) == p
    allowed = 0 if table(method).exact else 1e-15
    assert all(abs(defect) <= allowed for q in range(1, p + 1) for defect in defects(table(method), q).values())
    assert any(abs(defect) > 1e-6 for defect in defects(table(method), p + 1).values())
    assert table(method).steps > 1


@pytest.mark.parametrize("problem", PROBLEMS)
def test_order_seen_from_an_exact_history(method: Scheme, problem: str) -> None:
    errors = [error(table(method), problem, n) for n in (32, 64)]
    assert float(mpmath.log(errors[0] / errors[1], 2)) == pytest.approx(method.order, abs=0.25)


@pytest.mark.parametrize("name", GENERAL_LINEAR)
def test_order_seen_after_a_start_by_rk4(name: str) -> None:
    method, errors = METHODS[name], []
    finest = {2: 9, 3: 8, 4: 7, 5: 6}[method.order]
    for level in (finest - 1, finest):
        path = method.integrate(lambda t, x: -2 * t * x * x, 1.0, 2.0**-level, 2**level)
        errors.append(abs(float(path[-1]) - 0.5))
    assert errors[1] > 1e-13
    assert math.log2(errors[0] / errors[1]) == pytest.approx(method.order, abs=0.2)


def test_a_wrong_coefficient_lowers_the_order() -> None:
    tableau = table(METHODS["offstep4"])
    (first, second), W = tableau.U, ((Fraction(0),), (tableau.W[1][0] + Fraction(1, 1000),))
    wrong = Tableau(V=tableau.V, R=tableau.R, B=tableau.B, A=tableau.A, U=(first, second), W=W)
    assert order(wrong) == 1
    assert float(mpmath.log(error(wrong, "non-linear rotation", 32) / error(wrong, "non-linear rotation", 64), 2)) < 3


def test_integrate_makes_these_steps(method: Scheme) -> None:
    """From the states that its start-up made, and the slopes there; `pec3` keeps a slope at another state."""
    tableau, h = table(method), 0.05

    def f(t: Any, x: Array) -> Array:
        return np.array([x[1], -np.sin(float(x[0])) + np.cos(3 * float(t))], dtype=float)

    path = integrate(tableau, f, [1.0, 0.5], h, 12)
    k = tableau.steps
    xs = [path[k - 1 - j] for j in range(k)]
    if method == METHODS["pec3"]:
        predicted = integrate(table(RUNGE_KUTTA["rk4"].make()), f, [1.0, 0.5], h, 1)[1]
        Fs = [h * f(h, predicted)]
    else:
        Fs = [h * f((k - 1 - j) * h, xs[j]) for j in range(1, k)]
    for i in range(k - 1, 12):
        step(tableau, f, i * h, h, xs, Fs)
        assert path[i + 1] == pytest.approx(xs[0].astype(float), abs=1e-14)


def test_spectral_radius_of_the_step(method: Scheme) -> None:
    real, imaginary = np.meshgrid(np.linspace(-2.5, 0.5, 7), np.linspace(0, 1.5, 4))
    z = real + 1j * imaginary
    expected = [max(abs(np.linalg.eigvals(one_step_matrix(table(method), complex(point))))) for point in z.ravel()]
    # A root of multiplicity m moves by as much as the m-th root of rounding.
    assert spectral_radius(table(method), z).ravel() == pytest.approx(np.array(expected), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("axis", "direction"), [("real_interval", -1), ("imaginary_interval", 1j)])
def test_powers_of_the_step_are_bounded_in_the_interval_and_not_beyond(
    method: Scheme, axis: str, direction: complex
) -> None:
    end = getattr(method, axis)

    def bounded(y: float) -> bool:
        with np.errstate(all="ignore"):  # what overflows is not bounded
            power = np.linalg.matrix_power(one_step_matrix(table(method), complex(direction) * y), 2**23)
            return bool(abs(power).max() < 100)

    assert all(bounded(y) for y in np.linspace(0.02, 0.99, 12) * end)
    assert not bounded(1.05 * end or 0.3)


def test_zero_stable(method: Scheme) -> None:
    assert method.zero_stable is zero_stable(table(method)) is True
    assert abs(np.linalg.matrix_power(one_step_matrix(table(method), 0), 3000)).max() < 100


@pytest.mark.parametrize("k", [1, 2, 3])
def test_butcher_hybrid_is_the_only_solution(k: int) -> None:
    half = sp.Rational(1, 2)
    past: Expressions = [sp.Integer(-j) for j in range(k)]
    v, f, g = sp.symbols(f"v:{k}"), sp.symbols(f"f:{k}"), sp.symbols("g:2")
    u = list(v)

    def missed(states: Sequence[Any], slopes: list[tuple[Any, Any]], target: Any) -> sp.Expr:
        return moments(2 * k, list(states), slopes, target)[-1]

    middle = only_solution(moments(2 * k - 1, u, list(zip(f, past, strict=True)), half), (*v, *f))
    corrector = only_solution(
        moments(2 * k + 1, u, [*zip(f, past, strict=True), (g[0], half), (g[1], 1)], 1), (*v, *f, *g)
    )
    slopes = [*zip(f, past, strict=True), (g[0], half)]
    off = missed(middle[:k], list(zip(middle[k:], past, strict=True)), half)
    equations = moments(2 * k - 1, u, slopes, 1)
    equations.append(corrector[-2] * off + corrector[-1] * missed(v, slopes, 1))
    predictor = only_solution(equations, (*v, *f, g[0]))
    tableau = Tableau(
        V=tuple(corrector[:k]),
        R=tuple(corrector[k + 1 : 2 * k]),
        B=(corrector[k], *corrector[-2:]),
        U=((Fraction(1), *[Fraction(0)] * (k - 1)), tuple(middle[:k]), tuple(predictor[:k])),
        W=((Fraction(0),) * (k - 1), tuple(middle[k + 1 :]), tuple(predictor[k + 1 : 2 * k])),
        A=((Fraction(0),) * 3, (middle[k], Fraction(0), Fraction(0)), (predictor[k], predictor[-1], Fraction(0))),
    )
    assert tableau == table(RUNGE_KUTTA["kutta3"].make() if k == 1 else butcher_hybrid(k))


@pytest.mark.parametrize("c", ["1/3", "1/2", "1", "5/3"])
def test_two_step_rk3_is_the_only_solution(c: str) -> None:
    point = sp.Rational(c)
    a, b, g, w = sp.symbols("a b g w")
    one = [sp.Integer(1), sp.Integer(0)]
    stage = only_solution(moments(2, one, [(a, 0), (w, -1)], point), (a, w))
    whole = only_solution(moments(3, one, [(b, 0), (w, -1), (g, point)], 1), (b, w, g))
    tableau = table(two_step_rk3(c))
    assert [tableau.A[1][0], tableau.W[1][0]] == stage
    assert [tableau.B[0], tableau.R[0], tableau.B[1]] == whole
    assert two_step_rk3(float(Fraction(c))).order == 3


def test_two_step_rk3_at_one_is_a_predictor_corrector_pair() -> None:
    """Adams–Bashforth 2, evaluate, Adams–Moulton 2, evaluate; real interval 12/5."""
    tableau = table(two_step_rk3(1))
    assert (tableau.A[1][0], tableau.W[1][0]) == (Fraction(3, 2), Fraction(-1, 2))
    assert (tableau.B[1], tableau.B[0], tableau.R[0]) == (Fraction(5, 12), Fraction(2, 3), Fraction(-1, 12))
    assert two_step_rk3(1).real_interval == pytest.approx(2.4, abs=1e-12)


@pytest.mark.parametrize("k", ["-2/3", "0", "1/5", "1"])
def test_offstep4_is_the_only_solution(k: str) -> None:
    V = [1 - sp.Rational(k), sp.Rational(k)]
    a, b, c, g, w, u0, u1 = sp.symbols("a b c g w u0 u1")
    b0, r, weight, point = only_solution(moments(4, V, [(b, 0), (w, -1), (g, c)], 1), (b, w, g, c))
    middle = only_solution(moments(3, [u0, u1], [(a, 0), (w, -1)], sp.Rational(str(point))), (u0, u1, a, w))
    tableau = table(offstep4(k))
    assert (tableau.B[0], tableau.R[0], tableau.B[1]) == (b0, r, weight)
    assert [*tableau.U[1], tableau.A[1][0], tableau.W[1][0]] == middle
    assert tableau.abscissae[1] == point
    assert offstep4(k).real_interval == pytest.approx(float(1 + Fraction(k)) / 2, abs=1e-12)
    assert offstep4(float(Fraction(k))).order == 4


def test_pec3_is_the_only_solution() -> None:
    """Among the methods with the first stage at t + h, whose kept slope is then one at t."""
    b, r, u, v, w = sp.symbols("b r u v w")
    stage = only_solution(moments(2, [1 - u, u], [(w, 0)], 1), (u, w))
    whole = only_solution(moments(3, [1 - v, v], [(r, 0), (b, 1)], 1), (v, r, b))
    tableau = table(pec3())
    assert [tableau.U[0][1], tableau.W[0][0]] == stage
    assert [tableau.V[1], tableau.R[0], tableau.B[0]] == whole


def test_pec3_needs_one_evaluation_a_step() -> None:
    calls = []

    def f(t: float, x: Array) -> Array:
        calls.append(t)
        return -x

    integrate(table(pec3()), f, [1.0], 0.1, 50, start="copy")
    assert len(calls) == 51


@pytest.mark.parametrize("stages", [2, 3, 4, 9])
def test_ssp_tsrk2_keeps_the_sign_up_to_its_coefficient(stages: int) -> None:
    """On upwind advection, where Euler steps of length 1 shift, no weight of the old values is negative."""
    s = ssp_tsrk2(stages)
    C = math.sqrt(stages * (stages - 1))
    assert s.order == order(table(s)) == 2

    def least(h: float) -> float:
        upwind = np.eye(stages + 2, k=-1) - np.eye(stages + 2)
        delta = np.eye(stages + 2)[0]
        worst = 0.0
        for history in ([delta, 0 * delta], [0 * delta, delta]):
            xs = [np.array(x, dtype=object) for x in history]
            step(table(s), lambda t, x: upwind @ x, 0.0, h, xs, [0 * xs[0]])
            worst = min(worst, float(xs[0].min()))
        return worst

    assert least(C) > -1e-15
    assert least(1.02 * C) < -1e-3


@pytest.mark.parametrize("stages", [2, 3, 7])
def test_ssp_tsrk2_is_the_only_solution(stages: int) -> None:
    theta, C = sp.symbols("theta C", positive=True)
    slopes = [((1 - theta) / C, i / C) for i in range(stages)]
    ((weight, coefficient),) = sp.solve(moments(2, [1 - theta, theta], slopes, 1)[1:], (theta, C))
    tableau = table(ssp_tsrk2(stages))
    assert [float(v) for v in tableau.V] == pytest.approx([1 - float(weight), float(weight)], rel=1e-12)
    assert float(tableau.A[1][0]) == pytest.approx(1 / float(coefficient), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: butcher_hybrid(1), r"`steps` is 1, but must be an integer from 2 to 3"),
        (lambda: butcher_hybrid(2.0), r"`steps` is 2.0"),  # type: ignore[arg-type]
        (lambda: two_step_rk3(0), r"`c` is 0, but must be a number above 0 and up to 2"),
        (lambda: two_step_rk3("5/2"), r"`c` is 5/2"),
        (lambda: two_step_rk3(math.nan), r"`c` holds nan"),
        (lambda: offstep4(-1), r"`k` is -1, but must be a number above −1 and up to 1"),
        (lambda: offstep4("6/5"), r"`k` is 6/5"),
        (lambda: ssp_tsrk2(1), r"`stages` is 1, but must be an integer from 2 to 100"),
    ],
)
def test_bad_parameters(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
