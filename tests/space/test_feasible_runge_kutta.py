"""The Runge–Kutta boxes: exact order at every point, exact inverse, one source for numbers, arrays and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, product
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nodepy.runge_kutta_method import ExplicitRungeKuttaMethod
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.feasible_runge_kutta import RUNGE_KUTTA_FAMILIES, Family
from odenas.space.order import order
from odenas.space.tableau import Tableau

F = Fraction
CONDITIONS = {1: 1, 2: 2, 3: 4, 4: 8}
LARGEST = 20.0
FAMILIES = list(RUNGE_KUTTA_FAMILIES)
WITH_COORDINATES = [name for name in FAMILIES if RUNGE_KUTTA_FAMILIES[name].free]


def points(family: Family) -> st.SearchStrategy[list[Fraction]]:
    """Points with three decimals, ends of the intervals often among them."""
    coordinates = []
    for low, high in family.box.values():
        first, last = int(low * 1000), int(high * 1000)
        coordinates.append(
            st.one_of(st.sampled_from([first, last]), st.integers(first, last)).map(lambda n: F(n, 1000))
        )
    return st.tuples(*coordinates).map(list)


def drawn(family: Family, count: int, seed: int = 0) -> list[list[Fraction]]:
    """Return for each coordinate `count` values of three decimals."""
    rng = np.random.default_rng(seed)
    ends = [(int(low * 1000), int(high * 1000)) for low, high in family.box.values()]
    return [[F(int(n), 1000) for n in rng.integers(*pair, size=count, endpoint=True)] for pair in ends]


def flat(tableau: tuple[list[list[Any]], list[Any]]) -> list[Any]:
    A, b = tableau
    return [entry for row in A for entry in row] + list(b)


def lower(rows: Sequence[str], b: str) -> tuple[list[list[Fraction]], list[Fraction]]:
    """Return A and b, the rows below the first being written without their zeros."""
    stages = len(rows) + 1
    parts = [[F(entry) for entry in row.split()] for row in ["", *rows]]
    return [[*row, *[F(0)] * (stages - len(row))] for row in parts], [F(entry) for entry in b.split()]


# Proof of the boxes.


@pytest.mark.parametrize("name", FAMILIES)
def test_every_point_has_the_order_and_the_inverse_leads_back(name: str) -> None:
    family = RUNGE_KUTTA_FAMILIES[name]

    @settings(deadline=None, max_examples=20)
    @given(points(family))
    def check(point: list[Fraction]) -> None:
        A, b = family.tableau(point)
        tableau = Tableau.runge_kutta(A, b)  # refuses what is not strictly lower triangular
        assert tableau.exact
        assert tableau.stages == len(A) == family.stages
        assert order(tableau, highest=family.order) == family.order
        assert family.coordinates(tableau.A, tableau.B) == point
        assert all(abs(entry) <= LARGEST for entry in flat((A, b)))

    check()


@pytest.mark.parametrize("name", WITH_COORDINATES)
def test_entries_are_bounded_over_the_box(name: str) -> None:
    """At most 20 at the corners (all of them, up to 11 coordinates) and at random points."""
    family = RUNGE_KUTTA_FAMILIES[name]
    rng = np.random.default_rng(0)
    few = family.free <= 11
    corners = np.array(list(product((0, 1), repeat=family.free))) if few else rng.integers(0, 2, (2048, family.free))
    for shares in (corners, rng.random((2048, family.free))):
        rows = [
            float(low) + share * float(high - low)
            for share, (low, high) in zip(shares.T, family.box.values(), strict=True)
        ]
        entries = flat(family.tableau(rows))
        assert all(np.isfinite(entry).all() for entry in entries)
        assert max(np.abs(entry).max() for entry in entries) <= LARGEST


def test_the_margins_of_the_docstring() -> None:
    """The lower bounds of the weights that divide, exactly, at the corners and where u = d; nodes are apart."""
    for name, family in RUNGE_KUTTA_FAMILIES.items():
        s, p, box = family.stages, family.order, family.box
        extras = range(2, s - p + 2)
        core = [box[f"c{i}"] for i in range(s - p + 2, s + 1) if f"c{i}" in box]
        if p < 2 or not core:
            assert p == 1 or min(low for low, _ in box.values()) >= F(1, 20)
            continue
        assert all(high <= 1 if p < 4 else high < 1 for _, high in core)
        nodes = [(F(0), F(0)), *sorted(core)]
        assert all(left[1] + F(1, 20) <= right[0] for left, right in pairwise(nodes))
        if p == 2:
            continue
        B = sum((box[f"b{i}"][1] for i in extras), F(0))
        d = max((box[f"c{i}"][1] for i in extras), default=F(0))
        assert all(box[f"{letter}{i}"][0] >= 0 for letter in "bc" for i in extras)
        falling = core[0] > core[1]
        assert falling or d <= min(F(1, 2), core[1][0])
        assert falling == name.endswith("falling")
        assert not (falling and p == 4 and extras)
        between = [d] if core[0][0] < d < core[0][1] else []
        margins = []
        for u, v in product([*core[0], *between], core[1]):
            above = max(d - u, F(0))
            if p == 3:
                margins.append(u / 2 - F(1, 3) - B * u**2 / 4 if falling else F(1, 3) - u / 2 - B * d * above)
            else:
                margins.append(2 * u - 1 if falling else 1 - 2 * u - 12 * B * d * (1 - d) * above)
                margins.append(3 - 4 * (u + v) + 6 * u * v - 3 * B * u**2 * v)
        assert min(margins) >= F(1, 40), name


@pytest.mark.parametrize("name", [name for name in FAMILIES if name[-1].isdigit() or name.endswith("falling")])
def test_no_freedom_is_lost(name: str) -> None:
    """As many coordinates as entries less conditions; for order 4 with more than 4 stages D(1) costs s − 4 of them."""
    family = RUNGE_KUTTA_FAMILIES[name]
    s, p = family.stages, family.order
    assert family.free == s * (s - 1) // 2 + s - CONDITIONS[p] - (s - 4 if p == 4 else 0)


def test_all_stages_and_orders_have_a_row() -> None:
    pairs = {(family.stages, family.order) for family in RUNGE_KUTTA_FAMILIES.values()}
    assert pairs == {(s, p) for s in range(1, 7) for p in range(1, min(s, 4) + 1)}
    assert all(name.startswith(f"rk{family.stages}{family.order}") for name, family in RUNGE_KUTTA_FAMILIES.items())
    for family in RUNGE_KUTTA_FAMILIES.values():
        assert all(low < high for low, high in family.box.values())
        assert all(1000 % end.denominator == 0 for interval in family.box.values() for end in interval)


# Named methods: Hairer, Nørsett & Wanner I, II.1; Butcher §320, §322; Shu & Osher 1988; Spiteri & Ruuth 2002.

NAMED: dict[str, tuple[str, tuple[list[list[Fraction]], list[Fraction]], dict[str, str]]] = {
    "euler": ("rk11", lower([], "1"), {}),
    "midpoint, order 1": ("rk21", lower(["1/2"], "0 1"), {"c2": "1/2", "b2": "1"}),
    "midpoint": ("rk22", lower(["1/2"], "0 1"), {"c2": "1/2"}),
    "heun2": ("rk22", lower(["1"], "1/2 1/2"), {"c2": "1"}),
    "ralston2": ("rk22", lower(["2/3"], "1/4 3/4"), {"c2": "2/3"}),
    "ssp32": ("rk32", lower(["1/2", "1/2 1/2"], "1/3 1/3 1/3"), {"c3": "1", "b2": "1/3", "a32": "1/2"}),
    "heun3": ("rk33", lower(["1/3", "0 2/3"], "1/4 0 3/4"), {"c2": "1/3", "c3": "2/3"}),
    "kutta3": ("rk33", lower(["1/2", "-1 2"], "1/6 2/3 1/6"), {"c2": "1/2", "c3": "1"}),
    "ralston3": ("rk33", lower(["1/2", "0 3/4"], "2/9 1/3 4/9"), {"c2": "1/2", "c3": "3/4"}),
    "ssp33": ("rk33-falling", lower(["1", "1/4 1/4"], "1/6 1/6 2/3"), {"c2": "1", "c3": "1/2"}),
    "ssp43": ("rk43-falling", lower(["1/2", "1/2 1/2", "1/6 1/6 1/6"], "1/6 1/6 1/6 1/2"), {"b2": "1/6"}),
    "nystroem3": ("rk33-equal", lower(["2/3", "0 2/3"], "1/4 3/8 3/8"), {"b3": "3/8"}),
    "rk4": ("rk44-equal", lower(["1/2", "0 1/2", "0 0 1"], "1/6 1/3 1/3 1/6"), {"b3": "1/3"}),
    "rk4, order 3": ("rk43", lower(["1/2", "0 1/2", "0 0 1"], "1/6 1/3 1/3 1/6"), {"b2": "1/3", "a32": "1/2"}),
    "3/8 rule": ("rk44", lower(["1/3", "-1/3 1", "1 -1 1"], "1/8 3/8 3/8 1/8"), {"c2": "1/3", "c3": "2/3"}),
    "one weight zero": ("rk44", lower(["1/4", "0 1/2", "1 -2 2"], "1/6 0 2/3 1/6"), {"c2": "1/4", "c3": "1/2"}),
    "merson": (
        "rk54",
        lower(["1/3", "1/6 1/6", "1/8 0 3/8", "1/2 0 -3/2 2"], "1/6 0 0 2/3 1/6"),
        {"c2": "1/3", "c3": "1/3", "c4": "1/2", "b2": "0", "a32": "1/6", "a42": "0"},
    ),
}


@pytest.mark.parametrize("method", NAMED)
def test_named_methods_lie_inside(method: str) -> None:
    name, (A, b), known = NAMED[method]
    family = RUNGE_KUTTA_FAMILIES[name]
    found = family.coordinates(A, b)
    assert family.tableau(found) == (A, b)
    assert {key: dict(zip(family.box, found, strict=True))[key] for key in known} == {k: F(v) for k, v in known.items()}


def test_irrational_methods_lie_inside() -> None:
    """Gill 1951; Ralston 1962, of least error bound for order 4: c = (0, 2/5, 7/8 − 3√5/16, 1)."""
    r = sqrt(2)
    gill = [[0.0] * 4, [0.5, 0, 0, 0], [(r - 1) / 2, 1 - r / 2, 0, 0], [0, -r / 2, 1 + r / 2, 0]]
    weights = [1 / 6, (2 - r) / 6, (2 + r) / 6, 1 / 6]
    assert RUNGE_KUTTA_FAMILIES["rk44-equal"].coordinates(gill, weights) == [(2 + r) / 6]
    ralston = RUNGE_KUTTA_FAMILIES["rk44"]
    point = [0.4, 7 / 8 - 3 * sqrt(5) / 16]
    A, b = ralston.tableau(point)
    assert [b[0], b[3], A[3][2]] == pytest.approx([0.17476028, 0.17118478, 3.83286476], abs=5e-9)
    assert ralston.coordinates(A, b) == pytest.approx(point, rel=1e-14)


def test_a_fourth_order_method_is_one_of_more_stages() -> None:
    """An extra stage that nothing uses changes nothing: the families are nested."""
    four = RUNGE_KUTTA_FAMILIES["rk44"].tableau([F(1, 3), F(3, 5)])
    five = RUNGE_KUTTA_FAMILIES["rk54"].tableau([F(1, 7), F(1, 3), F(3, 5), F(0), F(0), F(0)])
    kept = [0, 2, 3, 4]
    assert [[five[0][i][j] for j in kept] for i in kept] == four[0]
    assert [five[1][i] for i in kept] == four[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_order_as_nodepy(name: str) -> None:
    family = RUNGE_KUTTA_FAMILIES[name]
    A, b = family.tableau([row[0] for row in drawn(family, 1, seed=3)])
    other = ExplicitRungeKuttaMethod(np.array(A, dtype=float), np.array(b, dtype=float))
    assert other.order(tol=1e-12) == order(Tableau.runge_kutta(A, b), highest=6) == family.order


# One source for Fractions, floats, arrays and tensors.


@pytest.mark.parametrize("kind", ["float", "numpy", "torch"])
@pytest.mark.parametrize("name", WITH_COORDINATES)
def test_floats_arrays_and_tensors_agree_with_fractions(name: str, kind: str) -> None:
    family, count = RUNGE_KUTTA_FAMILIES[name], 6
    rows = drawn(family, count)
    columns = list(zip(*rows, strict=True))
    expected = np.array([flat(family.tableau(column)) for column in columns], dtype=float)
    found: NDArray[Any]
    if kind == "float":
        results = [flat(family.tableau([float(x) for x in column])) for column in columns]
        assert all(isinstance(entry, float) for entry in results[0])
        found = np.array(results)
    elif kind == "numpy":
        entries = flat(family.tableau([np.array(row, dtype=float) for row in rows]))
        assert all(entry.shape == (count,) and entry.dtype == float for entry in entries)
        found = np.stack(entries, axis=-1)
    else:
        tensors = [torch.tensor([float(x) for x in row], dtype=torch.float64) for row in rows]
        found = torch.stack(flat(family.tableau(tensors)), dim=-1).numpy()
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", WITH_COORDINATES)
def test_gradients_through_the_map(name: str) -> None:
    family = RUNGE_KUTTA_FAMILIES[name]
    rows = drawn(family, 1, seed=1)
    tensors = [torch.tensor([float(x) for x in row], dtype=torch.float64, requires_grad=True) for row in rows]
    assert torch.autograd.gradcheck(lambda *values: torch.cat(flat(family.tableau(values))), tensors, fast_mode=True)


def test_every_entry_has_the_type_and_shape_of_the_coordinates() -> None:
    family = RUNGE_KUTTA_FAMILIES["rk44"]
    u, v = torch.full((2, 1), 0.25, dtype=torch.float32), torch.full((3,), 0.5, dtype=torch.float32)
    assert all(entry.dtype == torch.float32 and entry.shape == (2, 3) for entry in flat(family.tableau([u, v])))
    assert all(isinstance(entry, Fraction) for entry in flat(RUNGE_KUTTA_FAMILIES["rk22"].tableau([1])))
    assert flat(RUNGE_KUTTA_FAMILIES["rk11"].tableau([])) == [F(0), F(1)]


# What lies outside.


@pytest.mark.parametrize("name", FAMILIES)
def test_any_entry_that_the_coordinates_do_not_give_is_refused(name: str) -> None:
    family = RUNGE_KUTTA_FAMILIES[name]
    point = [row[0] for row in drawn(family, 1, seed=2)]
    for place in range(family.stages * (family.stages + 1)):
        A, b = family.tableau(point)
        row = [*A, b][place // family.stages]
        row[place % family.stages] += F(1, 10**6)
        try:
            moved = family.coordinates(A, b)
        except OdenasError:
            continue
        assert family.tableau(moved) == (A, b)  # of a family of order 1, which asks Σb = 1 alone
        assert family.order == 1


@pytest.mark.parametrize(
    ("name", "A", "b", "message"),
    [
        ("rk22", [["0", "0"], ["1/5", "0"]], ["-3/2", "5/2"], r"`c2` is 1/5, but must be from 0\.25 to 1$"),
        ("rk22", [["0", "0"], ["1/2", "0"]], ["0", "1/2"], r"`b2` is 1/2, but must be 1 in this family of order 2$"),
        ("rk22", [["0", "0"], ["1/2", "1"]], ["0", "1"], r"`a22` is 1, but must be 0 in this family of order 2$"),
        ("rk11", [["0", "0"], ["1/2", "0"]], ["0", "1"], r"`b` has 2 entries and `A` 2 rows, but both need 1$"),
    ],
)
def test_a_method_outside_is_refused(name: str, A: list[list[str]], b: list[str], message: str) -> None:
    with pytest.raises(OdenasError, match=message):
        RUNGE_KUTTA_FAMILIES[name].coordinates([[F(x) for x in row] for row in A], [F(x) for x in b])


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ([0.3], "`coordinates` are 1, but need 2: c2, c3$"),
        ([F(1, 3), 2], r"`c3` is 2, but must be from 0\.45 to 0\.7$"),
        ([0.19, 0.5], r"`c2` is 0\.19, but must be from 0\.2 to 0\.4$"),
        ([float("nan"), 0.5], "`c2` is nan, but"),
    ],
)
def test_a_point_outside_is_refused(point: list[Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message):
        RUNGE_KUTTA_FAMILIES["rk44"].tableau(point)


def test_the_ends_of_an_interval_may_be_given_as_floats() -> None:
    for name in WITH_COORDINATES:
        family = RUNGE_KUTTA_FAMILIES[name]
        for end in (0, 1):
            point = [float(interval[end]) for interval in family.box.values()]
            assert family.coordinates(*family.tableau(point)) == pytest.approx(point, rel=1e-13, abs=1e-13)
