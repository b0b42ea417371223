"""Störmer's methods: their stability on the oscillator, and what the rows say."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from odenas.space.scheme import Scheme
from odenas.space.stability import imaginary_interval, is_stable_at, real_interval
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.stormer import STORMER
from odenas.space.tableau import Tableau


def scanned(tableau: Tableau) -> float:
    """Return the last y on a grid to 2.5 before a root of ρ(ζ) + y²σ(ζ) leaves the unit disc."""
    rho = np.array([1.0, *(-float(v) for v in tableau.V)])
    sigma = np.array([0.0, *map(float, tableau.slopes)])
    grid = np.linspace(0, 2.5, 2501)[1:]
    stable = [abs(np.roots(rho + y * y * sigma)).max() <= 1 + 1e-6 for y in grid]
    return float(grid[np.argmin(stable)])


@pytest.mark.parametrize("name", STORMER)
def test_rows(name: str) -> None:
    s = STORMER[name].make()
    assert STORMER[name].family == "second order"
    assert s.tableau.steps == {"verlet": 2, "stormer3": 3, "stormer4": 4}[name]
    assert s.order == s.coefficients.order == s.tableau.steps
    assert s.zero_stable
    assert s.start == "copy"
    assert Scheme.from_dict(s.to_dict()) == s


@pytest.mark.parametrize("name", STORMER)
def test_intervals_as_scanned(name: str) -> None:
    tableau = STORMER[name].make().tableau
    assert isinstance(tableau, Tableau)
    assert imaginary_interval(tableau) == pytest.approx(scanned(tableau), abs=0.002)
    assert real_interval(tableau) == 0  # λ² > 0 makes x'' = λ²x grow


def test_verlet_on_the_oscillator() -> None:
    tableau = Tableau.multistep((2, -1), (1,), derivative=2)
    assert [list(row) for row in stability_polynomial(tableau)] == [[1, 0, 0], [-2, 0, -1], [1, 0, 0]]
    assert imaginary_interval(tableau) == 2
    assert is_stable_at(tableau, 0, Fraction(199, 100))
    assert not is_stable_at(tableau, 0, 2)  # a double root −1
    assert not is_stable_at(tableau, 0, Fraction(201, 100))


@pytest.mark.parametrize("r", [Fraction(-1, 10), Fraction(-1, 3), Fraction(-7, 10)])
def test_rounding_does_not_shorten_the_interval(r: Fraction) -> None:
    """ρ = (ζ − 1)²(ζ − r): rounded, its two roots near 1 are apart."""
    exact = Tableau.multistep((2 + r, -1 - 2 * r, r), (1 - r,), derivative=2)
    rounded = Tableau.multistep(list(map(float, exact.V)), list(map(float, exact.slopes)), derivative=2)
    assert imaginary_interval(exact) > 0.5
    assert imaginary_interval(rounded) == pytest.approx(imaginary_interval(exact), rel=1e-9)
