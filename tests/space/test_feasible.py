"""The feasible coordinates: exact laws over Fractions, the same source for arrays and tensors, published tables."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nodepy import linear_multistep_method as lmm

from odenas.space.feasible import (
    errors_of_slopes,
    reflections_from_states,
    slopes_of_errors,
    slopes_of_order,
    states_from_reflections,
)
from odenas.space.order import defects, error_constant, order
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.tableau import Tableau
from odenas.space.zero_stability import zero_stable

F = Fraction

inside = st.one_of(
    st.fractions(-1, 1, max_denominator=60).filter(lambda kappa: abs(kappa) < 1),
    st.sampled_from([F(999, 1000), F(-999, 1000), F(0), 1 - F(1, 10**9), F(1, 10**9) - 1]),
)
interiors = st.lists(inside, max_size=4)
boxes = st.builds(lambda kappas, top: kappas + top, interiors, st.sampled_from([[], [F(1)]]))
weights = st.fractions(-3, 3, max_denominator=30)


@st.composite
def methods(draw: st.DrawFn) -> tuple[list[Fraction], list[Fraction], int]:
    """Draw the reflections, the free slopes and the order of a method."""
    kappas = draw(boxes)
    p = draw(st.integers(1, len(kappas) + 1))
    free = len(kappas) + 1 - p
    return kappas, draw(st.lists(weights, min_size=free, max_size=free)), p


def product_of(*factors: Sequence[Fraction | int]) -> list[Fraction]:
    """Return V of ρ(ζ) = (ζ − 1) Π factors, highest power first."""
    rho = np.array([F(1), F(-1)], dtype=object)
    for factor in factors:
        rho = np.convolve(rho, np.array(factor, dtype=object))
    return [-F(alpha) for alpha in rho[1:]]


@settings(deadline=None)
@given(boxes)
def test_every_point_of_the_box_is_zero_stable(kappas: list[Fraction]) -> None:
    states = states_from_reflections(kappas)
    assert len(states) == len(kappas) + 1
    assert sum(states) == 1
    assert zero_stable(Tableau.multistep(states, (1,)))


@settings(deadline=None)
@given(interiors, st.fractions(-3, 3, max_denominator=60).filter(lambda kappa: abs(kappa) >= 1), st.booleans())
def test_no_point_outside_the_box_is_zero_stable(kappas: list[Fraction], kappa: Fraction, below: bool) -> None:
    """A last coefficient below or at −1 or above 1; a lower one at or beyond ±1."""
    assume(below or kappa != 1)
    outer = [*kappas, kappa] if not below else [kappa, *kappas, F(1, 2)]
    assume(not (below and kappa == 1))  # a root on the circle beside one in it, which is zero-stable
    assert not zero_stable(Tableau.multistep(states_from_reflections(outer), (1,)))


@settings(deadline=None)
@given(interiors)
def test_the_inverse_undoes_the_map_inside(kappas: list[Fraction]) -> None:
    assert reflections_from_states(states_from_reflections(kappas)) == kappas


@settings(deadline=None)
@given(interiors)
def test_the_inverse_leads_back_to_the_method_with_all_roots_on_the_circle(kappas: list[Fraction]) -> None:
    states = states_from_reflections([*kappas, F(1)])
    found = reflections_from_states(states)
    assert states_from_reflections(found) == states
    assert found[-1] == 1
    assert all(-1 < kappa < 1 for kappa in found[:-1])
    if len(kappas) < 2:
        assert found[:-1] == kappas


@pytest.mark.parametrize("seed", range(200))
def test_every_schur_polynomial_has_its_reflections_inside(seed: int) -> None:
    """Real and complex roots anywhere in the disc: the box leaves no such method out."""
    rng = np.random.default_rng(seed)
    roots: list[complex] = []
    while len(roots) < 1 + seed % 5:
        radius = 0.995 * np.sqrt(rng.random())
        if rng.random() < 0.5:
            roots.append(radius * rng.choice([-1.0, 1.0]))
        else:
            z = radius * np.exp(1j * rng.uniform(0, np.pi))
            roots += [z, z.conjugate()]
    states = [F(v) for v in -np.poly([1.0, *roots]).real[1:]]
    states[0] += 1 - sum(states)
    kappas = reflections_from_states(states)
    assert all(-1 < kappa < 1 for kappa in kappas)
    assert states_from_reflections(kappas) == states


CIRCLE = [(1, 1), (1, 0, 1), (1, 1, 1), (1, -1, 1), (1, F(-6, 5), 1), (1, F(8, 5), 1)]


@pytest.mark.parametrize("factors", [c for n in (1, 2, 3) for c in combinations(CIRCLE, n)])
def test_simple_roots_on_the_circle_belong_to_the_box(factors: tuple[Any, ...]) -> None:
    states = product_of(*factors)
    kappas = reflections_from_states(states)
    assert kappas[-1] == 1
    assert all(-1 < kappa < 1 for kappa in kappas[:-1])
    assert states_from_reflections(kappas) == states


@pytest.mark.parametrize("factor", [(1, F(6, 5)), (1, -2), (1, F(1001, 1000)), (1, 0, F(11, 10)), (1, -3, 1)])
def test_a_root_outside_leaves_the_box(factor: tuple[Any, ...]) -> None:
    for others in ([], [(1, F(-1, 3))], [(1, -1, F(1, 3))], [(1, 1)], [(1, 1, 1), (1, F(1, 7))]):
        try:
            kappas = reflections_from_states(product_of(factor, *others))
        except ZeroDivisionError:  # on an edge that is not part of the box
            continue
        assert not all(-1 < kappa < 1 for kappa in kappas[:-1]) or not -1 < kappas[-1] <= 1


@pytest.mark.parametrize(
    "factors",
    [((1, -1),), ((1, -1), (1, F(1, 2))), ((1, 1), (1, F(1, 2))), ((1, 1, 1), (1, 0)), ((1, 1), (1, 1), (1, 0))],
)
def test_no_reflections_on_other_edges(factors: tuple[Any, ...]) -> None:
    """A double root at 1, roots on the circle beside roots in it, zero-stable or not."""
    with pytest.raises(ZeroDivisionError):
        reflections_from_states(product_of(*factors))


@settings(deadline=None)
@given(methods())
def test_slopes_give_the_order(method: tuple[list[Fraction], list[Fraction], int]) -> None:
    kappas, free, p = method
    states = states_from_reflections(kappas)
    slopes = slopes_of_order(states, free, p)
    tableau = Tableau.multistep(states, slopes)
    assert tableau.exact
    assert len(slopes) == tableau.steps
    assert slopes[p:] == free
    assert order(tableau) >= p
    # First Dahlquist barrier: no zero-stable explicit method has an order above its number of steps.
    assert order(tableau) <= tableau.steps


@settings(deadline=None)
@given(methods(), st.integers(0, 4), weights.filter(bool))
def test_other_slopes_do_not_give_the_order(
    method: tuple[list[Fraction], list[Fraction], int], index: int, change: Fraction
) -> None:
    kappas, free, p = method
    states = states_from_reflections(kappas)
    slopes = slopes_of_order(states, free, p)
    slopes[index % p] += change
    assert order(Tableau.multistep(states, slopes)) < p


@settings(deadline=None)
@given(methods())
def test_errors_and_slopes_undo_each_other(method: tuple[list[Fraction], list[Fraction], int]) -> None:
    """Every method of order p has its defects C_{p+1} … C_k, and they have it alone: a box of the same size."""
    kappas, free, p = method
    states = states_from_reflections(kappas)
    slopes = slopes_of_order(states, free, p)
    errors = errors_of_slopes(states, slopes, p)
    assert len(errors) == len(states) - p
    assert slopes_of_errors(states, errors, p) == slopes
    # And from the other side, with the same numbers as errors.
    reached = slopes_of_errors(states, free, p)
    assert errors_of_slopes(states, reached, p) == free
    assert all(isinstance(weight, Fraction) for weight in reached)


@settings(deadline=None)
@given(methods())
def test_errors_are_the_defects_of_a_method_of_the_order(method: tuple[list[Fraction], list[Fraction], int]) -> None:
    """C_q is what the B-series has for the bushy tree with q vertices, over (q − 1)!; the first one makes the order."""
    kappas, free, p = method
    states = states_from_reflections(kappas)
    tableau = Tableau.multistep(states, slopes_of_errors(states, free, p))
    nonzero = [q for q, error in enumerate(free, start=p + 1) if error]
    assert order(tableau, len(states)) == (min(nonzero) - 1 if nonzero else len(states))
    for q, error in enumerate(free, start=p + 1):
        bushy = ((),) * (q - 1)
        assert defects(tableau, q)[bushy] == error * factorial(q - 1)
    if nonzero:
        first = min(nonzero)
        assert error_constant(tableau) == pytest.approx(float(free[first - p - 1] / sum(tableau.slopes)), rel=1e-12)


@pytest.mark.parametrize("k", range(1, 6))
def test_no_errors_are_order_k(k: int) -> None:
    for kappas in ([F(0)] * (k - 1), [F(1, 3)] * (k - 1)):
        states = states_from_reflections(kappas)
        for p in range(1, k + 1):
            assert slopes_of_errors(states, [F(0)] * (k - p), p) == slopes_of_order(states, [], k)
    assert errors_of_slopes([F(1), F(0)], [F(1), F(0)], 1) == [F(1, 2)]  # forward Euler


@settings(deadline=None, max_examples=50)
@given(methods())
def test_order_and_stability_as_nodepy(method: tuple[list[Fraction], list[Fraction], int]) -> None:
    kappas, free, p = method
    assume(all(abs(kappa) < F(19, 20) or kappa == 1 for kappa in kappas))
    states = states_from_reflections(kappas)
    tableau = Tableau.multistep(states, slopes_of_order(states, free, p))
    alpha = np.array([-float(v) for v in reversed(states)] + [1.0])
    other = lmm.LinearMultistepMethod(alpha, np.array([float(b) for b in reversed(tableau.slopes)] + [0.0]))
    assert other.order(tol=1e-9) == order(tableau)
    assert other.is_zero_stable(tol=1e-5)


# Tables of theory.


@pytest.mark.parametrize(
    ("k", "interval"),
    [
        ("-9/10", 38),
        ("-1/2", 6),
        ("-1/10", F(22, 9)),
        ("-1/20", F(42, 19)),
        ("0", 2),
        ("1/10", F(18, 11)),
        ("1/2", F(2, 3)),
        ("9/10", F(2, 19)),
        ("1", 0),
    ],
)
def test_two_steps_of_order_one(k: str, interval: Fraction | int) -> None:
    """x ← (1 − k) x + k x_prev + (1 + k) h f: real interval 2(1 − k)/(1 + k), error constant (1 − k)/(2(1 + k))."""
    K = F(k)
    states = states_from_reflections([K])
    slopes = slopes_of_order(states, [F(0)], 1)
    assert (states, slopes) == ([1 - K, K], [1 + K, 0])
    tableau = Tableau.multistep(states, slopes)
    assert interval == 2 * (1 - K) / (1 + K)
    assert order(tableau) == (2 if K == 1 else 1)
    assert real_interval(tableau) == pytest.approx(float(interval), rel=1e-13, abs=0)
    assert imaginary_interval(tableau) == (1 if K == 1 else 0)
    if K != 1:
        assert error_constant(tableau) == pytest.approx(float((1 - K) / (2 * (1 + K))), rel=1e-15)


@pytest.mark.parametrize("k", ["-9/10", "-1/2", "-1/10", "0", "1/3", "9/10", "1"])
def test_two_steps_of_order_two(k: str) -> None:
    """β = ((3 + k)/2, (k − 1)/2): real interval 1 − k, error constant (5 − k)/(12(1 + k))."""
    K = F(k)
    states = states_from_reflections([K])
    slopes = slopes_of_order(states, [], 2)
    assert slopes == [(3 + K) / 2, (K - 1) / 2]
    tableau = Tableau.multistep(states, slopes)
    assert order(tableau) == 2
    assert real_interval(tableau) == pytest.approx(float(1 - K), rel=1e-13, abs=0)
    assert error_constant(tableau) == pytest.approx(float((5 - K) / (12 * (1 + K))), rel=1e-15)


@pytest.mark.parametrize("k", ["-9/10", "0", "1/2"])
def test_the_two_step_family_of_order_one(k: str) -> None:
    """β_0 + β_1 = 1 + k, the older slope being free; order 2 exactly where it is (k − 1)/2."""
    K = F(k)
    states = states_from_reflections([K])
    for free in (F(-2), F(-1, 7), F(0), F(1), (K - 1) / 2):
        slopes = slopes_of_order(states, [free], 1)
        assert sum(slopes) == 1 + K
        assert order(Tableau.multistep(states, slopes)) == (2 if free == (K - 1) / 2 else 1)


@pytest.mark.parametrize(
    "slopes",
    [
        "1",
        "3/2 -1/2",
        "23/12 -4/3 5/12",
        "55/24 -59/24 37/24 -3/8",
        "1901/720 -1387/360 109/30 -637/360 251/720",
    ],
)
def test_adams_bashforth(slopes: str) -> None:
    expected = [F(entry) for entry in slopes.split()]
    k = len(expected)
    states = [F(1)] + [F(0)] * (k - 1)
    assert states_from_reflections([F(0)] * (k - 1)) == states
    assert slopes_of_order(states, [], k) == expected


@pytest.mark.parametrize("slopes", ["2 0", "7/3 -2/3 1/3", "8/3 -5/3 4/3 -1/3", "269/90 -133/45 49/15 -73/45 29/90"])
def test_nystroem(slopes: str) -> None:
    expected = [F(entry) for entry in slopes.split()]
    k = len(expected)
    assert slopes_of_order([F(0), F(1)] + [F(0)] * (k - 2), [], k) == expected


@pytest.mark.parametrize("k", [3, 4, 5])
def test_strong_stability_preserving_methods_of_order_two(k: int) -> None:
    """x ← (1 − 1/(k−1)²) x_n + x_{n+1−k}/(k−1)² + k/(k−1) h f_n; Lenferink, Numer. Math. 55 (1989)."""
    w = F(1, (k - 1) ** 2)
    states = [1 - w, *[F(0)] * (k - 2), w]
    assert slopes_of_order(states, [F(0)] * (k - 2), 2) == [F(k, k - 1), *[0] * (k - 1)]
    kappas = reflections_from_states(states)
    assert all(abs(kappa) < 1 for kappa in kappas)


def test_the_last_coefficient_is_the_momentum_of_lm_resnet() -> None:
    assert states_from_reflections([F(-1, 10)]) == [F(11, 10), F(-1, 10)]
    assert reflections_from_states([F(11, 10), F(-1, 10)]) == [F(-1, 10)]
    assert states_from_reflections([]) == [1]


# One source for Fractions, arrays and tensors.


def samples(k: int, p: int, count: int) -> tuple[list[list[Fraction]], list[list[Fraction]]]:
    rng = np.random.default_rng(10 * k + p)
    kappas = [[F(int(n), 1000) for n in row] for row in rng.integers(-999, 1000, (k - 1, count))]
    free = [[F(int(n), 1000) for n in row] for row in rng.integers(-2000, 2001, (k - p, count))]
    return kappas, free


CASES = [(k, p) for k in range(1, 6) for p in range(1, k + 1)]


@pytest.mark.parametrize(("k", "p"), CASES)
@pytest.mark.parametrize("kind", ["float", "numpy", "torch"])
def test_floats_arrays_and_tensors_agree_with_fractions(k: int, p: int, kind: str) -> None:
    kappas, free = samples(k, p, 12)
    make: Any = {
        "float": lambda row: [float(entry) for entry in row],
        "numpy": lambda row: np.array(row, dtype=float),
        "torch": lambda row: torch.tensor([float(entry) for entry in row], dtype=torch.float64),
    }[kind]

    def both(reflections: list[Any], rest: list[Any]) -> list[Any]:
        states = states_from_reflections(reflections)
        return [*states, *slopes_of_order(states, rest, p), *slopes_of_errors(states, rest, p)]

    def one_by_one(reflections: Any, rest: Any) -> list[list[Any]]:
        return [both([row[i] for row in reflections], [row[i] for row in rest]) for i in range(12)]

    given_kappas, given_free = [make(row) for row in kappas], [make(row) for row in free]
    if kind == "float":
        found: Any = one_by_one(given_kappas, given_free)
    else:
        entries = [np.asarray(entry, dtype=float) for entry in both(given_kappas, given_free)]
        found = np.stack([np.broadcast_to(entry, (12,)) for entry in entries], axis=-1)
    expected = np.array(one_by_one(kappas, free), dtype=float)
    assert np.asarray(found).shape == (12, 3 * k)
    assert np.asarray(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("k", "p"), [(k, p) for k, p in CASES if k > 1])
def test_gradients_through_the_map(k: int, p: int) -> None:
    kappas, free = samples(k, p, 3)
    tensors = [torch.tensor([float(x) for x in row], dtype=torch.float64, requires_grad=True) for row in kappas + free]

    def weights_of(*values: Any) -> Any:
        states = states_from_reflections(values[: k - 1])
        rest = values[k - 1 :]
        return torch.stack([*states, *slopes_of_order(states, rest, p), *slopes_of_errors(states, rest, p)])

    assert weights_of(*tensors).shape == (3 * k, 3)
    assert torch.autograd.gradcheck(weights_of, tensors)


def test_the_type_given_is_the_type_returned() -> None:
    half = torch.full((2, 3), 0.5, dtype=torch.float32)
    states = states_from_reflections([half, half])
    slopes = [*slopes_of_order(states, [half], 2), *slopes_of_errors(states, [half], 2)]
    assert all(weight.dtype == torch.float32 and weight.shape == (2, 3) for weight in states + slopes)
    assert all(isinstance(weight, Fraction) for weight in slopes_of_order([1, 0], [], 2))
    assert all(isinstance(weight, Fraction) for weight in slopes_of_errors([1, 0], [2], 1))
