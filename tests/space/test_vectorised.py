"""Many methods at once, against the exact functions one by one, eigenvalues, nodepy, and known values."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from nodepy import linear_multistep_method as lmm
from numpy.typing import NDArray

from odenas.space import OdenasError, Tableau, scheme, schemes
from odenas.space.feasible import slopes_of_order, states_from_reflections
from odenas.space.order import error_constant, order
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.vectorised import BLOCK, Properties, draw, feasibility, properties
from odenas.space.vectorised_polynomials import real_roots
from odenas.space.zero_stability import zero_stable

Exact = tuple[list[Fraction], list[Fraction]]

# Methods of the catalogue that are linear multistep methods of at most five steps.
MULTISTEP = {
    name: tableau
    for name in schemes()
    if isinstance(tableau := scheme(name).tableau, Tableau) and tableau.is_multistep and tableau.steps <= 5
}
MEASURES: dict[str, Any] = {
    "zero_stable": zero_stable,
    "order": order,
    "error_constant": error_constant,
    "real_interval": real_interval,
    "imaginary_interval": imaginary_interval,
}
# What a relative error may be: rounding, amplified where a method is nearly degenerate; 10⁻¹¹ is what most keep.
ALLOWED = {"error_constant": 1e-9, "real_interval": 1e-7, "imaginary_interval": 1e-7}


def random_method(rng: np.random.Generator, steps: int, kind: int) -> Exact:
    """Return states and slopes with few digits, hence often degenerate."""
    digits = int(rng.choice([1000, 10, 2]))

    def entry(low: int, high: int, digits: int = digits) -> Fraction:
        return Fraction(int(rng.integers(low * digits, high * digits + 1)), digits)

    if kind < 3:  # feasible; for kind 2 with all roots on the circle
        below = 1 - Fraction(1, digits)
        kappas = [max(-below, min(below, entry(-1, 1))) for _ in range(steps - 1)]
        states = states_from_reflections([*kappas[:-1], Fraction(1)] if kind == 2 and kappas else kappas)
    elif kind < 5:  # any
        states = [entry(-2, 2) for _ in range(steps - 1)]
        states = [*states, 1 - sum(states, Fraction(0))]
    else:  # small integers: multiple roots, roots that ρ and σ share, roots that stay on the circle
        states = [entry(-1, 1, 1) for _ in range(steps - 1)]
        states = [*states, 1 - sum(states, Fraction(0))]
        return states, [entry(-1, 2, 1) for _ in range(steps)]
    if kind == 3:
        return states, [entry(-2, 2) for _ in range(steps)]
    p = int(rng.integers(1, steps + 1))
    free = [entry(-1, 1) if kind % 2 else Fraction(0) for _ in range(steps - p)]
    return states, slopes_of_order(states, free, p)


def floats(rows: list[list[Fraction]]) -> NDArray[np.float64]:
    return np.array([[float(entry) for entry in row] for row in rows])


def assert_as_exact(methods: list[Exact]) -> None:
    found = properties(floats([states for states, _ in methods]), floats([slopes for _, slopes in methods]))
    for i, (states, slopes) in enumerate(methods):
        tableau = Tableau.multistep(states, slopes)
        for name, measure in MEASURES.items():
            value, known = getattr(found, name)[i], measure(tableau)
            # `==` where the answer is a decision, or says that there is none.
            expected = known if known in (0, math.inf) else pytest.approx(known, rel=ALLOWED.get(name, 0))
            assert value == expected, (name, tableau)


def radius(states: Any, slopes: Any, z: Any) -> NDArray[np.float64]:
    """Return the largest root of ρ − zσ of each method, by eigenvalues."""
    n, k = states.shape
    companion = np.zeros((n, k, k), dtype=complex)
    companion[:, 1:, :-1] = np.eye(k - 1)
    companion[:, 0, :] = states + np.asarray(z)[:, None] * slopes
    radii: NDArray[np.float64] = np.abs(np.linalg.eigvals(companion)).max(axis=1)
    return radii


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_as_the_exact_functions(steps: int, kind: int) -> None:
    rng = np.random.default_rng([steps, kind])
    assert_as_exact([random_method(rng, steps, kind) for _ in range(6)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_thousands_as_the_exact_functions(steps: int, kind: int) -> None:
    rng = np.random.default_rng([steps, kind, 1])
    assert_as_exact([random_method(rng, steps, kind) for _ in range(150)])


@pytest.mark.parametrize("name", MULTISTEP)
def test_the_catalogue(name: str) -> None:
    tableau = MULTISTEP[name]
    assert_as_exact([([Fraction(v) for v in tableau.V], [Fraction(b) for b in tableau.slopes])])


def test_the_catalogue_holds_what_matters() -> None:
    assert {"euler", "ab2", "ab3", "midpoint", "lm", "momentum"} <= set(MULTISTEP)


@pytest.mark.parametrize(
    ("states", "slopes", "real", "imaginary"),
    [  # the first six are tabulated: Hairer, Wanner II, V.1
        ((1,), (1,), 2, 0),
        ((1, 0), (3 / 2, -1 / 2), 1, 0),
        ((1, 0, 0), (23 / 12, -4 / 3, 5 / 12), 6 / 11, 0.72363),
        ((1, 0, 0, 0), (55 / 24, -59 / 24, 37 / 24, -3 / 8), 3 / 10, 0.42999),
        ((0, 1), (2, 0), 0, 1),
        ((2, -1), (1, 0), 4, 0),  # Verlet: not zero-stable, but stable on (−4, 0)
        ((0, 1), (1, 1), 2, 0),  # σ(−1) = ρ(−1) = 0: forward Euler with a root −1 that stays
        ((0, 1, 0), (2, 2, 0), 1, 0),
        ((1, 1, -1), (1, -1, 0), 0, 2),  # the midpoint method times ζ − 1
        ((1, 0), (1 / 2, 1 / 2), 2, 0),  # σ(−1) = 0, ρ(−1) ≠ 0: no root passes −1
        ((1, -1, 1, 0), (0, 1, 1, 0), 0, 0),  # roots ±i leave at once, tangent to the circle
        ((0, 0, 0, 1), (-1, 1, 2, 1), 0, 0),
        ((1, -1, 1, 0), (0, 2, 1, 1), 0, 0),
        ((1, 0, -1, 1), (1, 0, 0, 1), 2, 0),  # forward Euler with the roots of ζ³ + 1, which stay
        ((-1, 1, 1), (1, 2, 1), 0, 0),  # forward Euler with the double root −1
        ((1, 0), (0, 0), math.inf, math.inf),
        ((2, -1), (0, 0), 0, 0),
    ],
)
def test_known_intervals(states: Any, slopes: Any, real: float, imaginary: float) -> None:
    found = properties([states], [slopes])
    assert found.real_interval[0] == (real if real in (0, math.inf) else pytest.approx(real, rel=1e-12))
    assert found.imaginary_interval[0] == (
        imaginary if imaginary in (0, math.inf) else pytest.approx(imaginary, abs=1e-5)
    )


@pytest.mark.parametrize(("steps", "p"), [(k, p) for k in range(1, 6) for p in range(1, k + 1)])
def test_draws_are_feasible_and_their_intervals_end_where_a_root_leaves_the_disc(steps: int, p: int) -> None:
    rng = np.random.default_rng([steps, p])
    states, slopes = draw(rng, 2000, steps, p)
    found = properties(states, slopes)
    assert found.zero_stable.all()
    assert (found.order >= p).all()
    assert (found.order == p).mean() > 0.99
    for lengths, direction in ((found.real_interval, -1), (found.imaginary_interval, 1j)):
        assert np.isfinite(lengths).all()
        some = lengths > 0.01
        own = states[some], slopes[some]
        for part in (0.1, 0.5, 0.9, 0.999):
            assert (radius(*own, direction * part * lengths[some]) <= 1 + 1e-9).all()
        assert (radius(*own, direction * 1.0001 * lengths[some]) > 1).all()
        # Where there is none a root is outside at once, though by |z|⁶ at order 4 and 5, and may soon come back.
        none = np.flatnonzero(lengths == 0)
        own = states[none], slopes[none]
        near = [radius(*own, direction * np.full(none.size, part)) for part in (0.004, 0.01, 0.02)]
        assert (np.max(near, axis=0) > 1 - 1e-12).all()


def test_all_roots_on_the_circle_can_be_drawn() -> None:
    states, slopes = draw(np.random.default_rng(0), 3, 2, 2, reflection=(1, 1))
    assert states.tolist() == [[0, 1]] * 3
    assert slopes.tolist() == [[2, 0]] * 3
    assert properties(states, slopes).imaginary_interval == pytest.approx([1, 1, 1], rel=1e-15)


def test_as_nodepy() -> None:
    rng = np.random.default_rng(0)
    for steps in (2, 3, 4, 5):
        states, slopes = draw(rng, 30, steps, int(rng.integers(1, steps + 1)))
        anything = rng.uniform(-1, 1, (30, steps))
        anything[:, -1] = 1 - anything[:, :-1].sum(axis=1)
        for V, beta in ((states, slopes), (anything, slopes)):
            stable, p = feasibility(V, beta)
            for i in range(len(V)):
                method = lmm.LinearMultistepMethod(np.r_[-V[i, ::-1], 1.0], np.r_[beta[i, ::-1], 0.0], description="-")
                assert method.is_zero_stable(tol=1e-5) == stable[i]
                assert method.order(tol=1e-10) == p[i]


@pytest.mark.parametrize("distance", [0, 1e-14, 1e-7, 1e-3])
def test_roots_on_the_circle_must_be_apart(distance: float) -> None:
    """(ζ − 1)(ζ − e^{iθ})(ζ − e^{−iθ})(ζ − 1/2) with θ at this distance from π."""
    c = -math.cos(distance)
    rho = np.convolve(np.convolve([1, -1], [1, -2 * c, 1]), [1, -0.5])
    assert properties([-rho[1:]], [[1, 0, 0, 0]]).zero_stable.tolist() == [distance > 1e-5]


def test_maximal_order_is_not_zero_stable() -> None:
    """2k − 1 is reached (Dahlquist; coefficients of ρ from the order conditions), but not by a zero-stable method."""
    found = properties([[-18, 9, 10]], [[9, 18, 3]])
    assert found.order.tolist() == [5]
    assert found.zero_stable.tolist() == [False]
    assert found.real_interval.tolist() == found.imaginary_interval.tolist() == [0]


@pytest.mark.parametrize(
    ("steps", "p", "shared"),
    [(k, p, c) for k, p in ((2, 1), (2, 2), (3, 3), (4, 3), (4, 4)) for c in ((1, 1), (1, -0.5))]
    + [(k, p, (1, 0, 1)) for k, p in ((2, 1), (2, 2), (3, 2), (3, 3))],
)
def test_roots_that_rho_and_sigma_share_change_no_interval(steps: int, p: int, shared: tuple[float, ...]) -> None:
    """They stay in ρ − zσ for all z: −1 and ±i on the circle, where rounding puts them on either side; 1/2 inside."""
    states, slopes = draw(np.random.default_rng([steps, p]), 2000, steps, p)
    rho = np.array([np.convolve(shared, np.r_[1, -V]) for V in states])
    sigma = np.array([np.convolve(shared, beta) for beta in slopes])
    own, found = properties(states, slopes), properties(-rho[:, 1:], sigma)
    assert found.zero_stable.all()
    for name in ("real_interval", "imaginary_interval"):
        known = getattr(own, name)
        known[known < 1e-3] = 0  # too short to be told from 0 beside a root on the circle, by a factor of 16
        mine = np.where(getattr(found, name) < 1e-3, 0, getattr(found, name))
        # Where another root passes near ±i, both ρ and σ are small, and digits cancel.
        assert mine == pytest.approx(known, rel=1e-6 if len(shared) == 2 else 1e-4)


@pytest.mark.parametrize("offset", [0, 1e-16, 1e-13, 1e-10])
def test_order_of_rounded_slopes_as_of_a_float_tableau(offset: float) -> None:
    for steps in range(1, 6):
        states, slopes = draw(np.random.default_rng(steps), 5, steps, steps)
        slopes[:, 0] += offset
        one_by_one = [
            order(Tableau.multistep(V, beta)) for V, beta in zip(states.tolist(), slopes.tolist(), strict=True)
        ]
        assert properties(states, slopes).order.tolist() == one_by_one
        assert one_by_one == [0 if offset > 1e-15 else steps] * 5


def test_real_roots_of_polynomials_made_from_them() -> None:
    rng = np.random.default_rng(0)
    for degree in range(1, 10):
        for zeros in range(min(3, degree)):
            roots = np.sort(rng.uniform(-1, 3, (200, degree)), axis=1)
            roots[:, :zeros] = 0
            roots = roots[(np.diff(np.sort(roots)[:, zeros:]) > 0.02).all(axis=1)]
            found = np.sort(real_roots(np.array([np.poly(row)[::-1] for row in roots]).T), axis=0).T
            expected = np.sort(np.where((roots > 0) & (roots < 2), roots, np.nan))
            assert found == pytest.approx(
                expected, rel={3: 1e-11, 4: 1e-8, 5: 1e-6}.get(max(degree, 3), 1e-2), abs=1e-11, nan_ok=True
            )


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e5, 1e200])
def test_intervals_are_as_one_over_the_slopes(scale: float) -> None:
    states, slopes = draw(np.random.default_rng(1), 500, 4, 2)
    one, other = properties(states, slopes), properties(states, scale * slopes)
    assert other.real_interval * scale == pytest.approx(one.real_interval, rel=1e-9)
    assert other.imaginary_interval * scale == pytest.approx(one.imaginary_interval, rel=1e-9)


def test_blocks_and_neighbours_change_nothing() -> None:
    states, slopes = draw(np.random.default_rng(2), BLOCK + 3, 3, 1)
    whole = properties(states, slopes)
    for rows in (slice(BLOCK - 2, BLOCK + 3), slice(7, 8), slice(5, 5)):
        part = properties(states[rows], slopes[rows])
        for name in Properties._fields:
            assert getattr(part, name) == pytest.approx(getattr(whole, name)[rows], rel=1e-13)
            assert getattr(part, name).dtype == getattr(whole, name).dtype
    for mine, theirs in zip(feasibility(states, slopes), whole[:2], strict=True):
        assert (mine == theirs).all()


@pytest.mark.parametrize(
    ("states", "slopes", "message"),
    [
        ([1.0], [1.0], "`states` has the shape (1,), but needs (n, k) with k from 1 to 5"),
        (np.eye(6), np.eye(6), "`states` has the shape (6, 6), but needs (n, k) with k from 1 to 5"),
        ([[1.0]], [[1.0, 0.0]], "`slopes` has the shape (1, 2), but needs that of `states`, (1, 1)"),
        ([[1.0], [0.5]], [[1.0], [1.0]], "`states` of method 1 are [0.5], but must sum to 1"),
        ([[1.0], [1.0]], [[1.0], [math.nan]], "`slopes` of method 1 are [nan], but must be finite"),
        ([["a"]], [[1.0]], "`states` must be an array of numbers of shape (n, k)"),
        ([[1.0], [1.0, 2.0]], [[1.0]], "`states` must be an array of numbers of shape (n, k)"),
    ],
)
def test_bad_input(states: Any, slopes: Any, message: str) -> None:
    for measure in (properties, feasibility):
        with pytest.raises(OdenasError) as raised:
            measure(states, slopes)
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"steps": 6}, "steps"),
        ({"steps": 0}, "steps"),
        ({"order": 4}, "order"),
        ({"order": 0}, "order"),
        ({"count": -1}, "count"),
        ({"reflection": (-1, 0.5)}, "reflection"),
        ({"reflection": (0.5, 0.4)}, "reflection"),
        ({"reflection": (1, 1)}, "reflection"),
        ({"slope": (0, math.inf)}, "slope"),
        ({"slope": (math.nan, 1)}, "slope"),
    ],
)
def test_bad_draws(given: dict[str, Any], field: str) -> None:
    with pytest.raises(OdenasError, match=f"^`{field}` is .* needs? "):
        draw(np.random.default_rng(0), **{"count": 1, "steps": 3, "order": 3, **given})
