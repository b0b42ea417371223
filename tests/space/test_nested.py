"""PolyNet's modules and FractalNet's expansion: that the tableaus do what the networks do, and what they are worth."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from odenas.space.errors import OdenasError
from odenas.space.integrate import integrate
from odenas.space.nested import NESTED, fractal, polynomial
from odenas.space.scheme import Scheme
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Tableau

Array = NDArray[Any]
X = np.array([0.3, -0.2])


def F(x: Array) -> Array:
    return np.array([np.sin(x[1]), x[0] ** 2 - 2 * x[1]])


def step(method: Any, x: Array) -> Array:
    (_, after) = integrate(method, lambda t, y: F(y), x, 1.0, 1)
    return np.asarray(after)


def columns_of(number: int, length: float, x: Array) -> list[Array]:
    """Return what arrives at the last join of f_C, as the paper draws it: the deepest column first."""
    if number == 1:
        return [x + length * F(x)]
    middle = np.mean(columns_of(number - 1, length / 2, x), axis=0)
    return [*columns_of(number - 1, length / 2, middle), x + length * F(x)]


def slope_seen(scheme: Scheme, f: Callable[[float, Array], Array], exact: float) -> float:
    errors = [abs(scheme.integrate(f, 0.5, 2.0**-n, 2**n)[-1] - exact) for n in (9, 10)]
    return float(np.log2(errors[0] / errors[1]))


def test_polynet_modules() -> None:
    assert step(NESTED["poly2"].make().tableau, X) == pytest.approx(X + F(X) + F(F(X)), rel=1e-14)
    assert step(NESTED["poly3"].make().tableau, X) == pytest.approx(X + F(X) + F(F(X)) + F(F(F(X))), rel=1e-14)
    assert step(NESTED["two_way"].make().tableau, X) == pytest.approx(X + F(X) / 2 + F(X) / 2, rel=1e-14)
    assert NESTED["mpoly2"].make().tableau == NESTED["poly2"].make().tableau
    assert {name: entry.make().tying for name, entry in NESTED.items()} == {
        "poly2": "stages", "poly3": "stages", "mpoly2": "none", "two_way": "none", "fractal": "none"
    }  # fmt: skip


@pytest.mark.parametrize("terms", [1, 2, 3, 4])
def test_polynomial_is_the_geometric_series(terms: int) -> None:
    tableau = polynomial(terms, "stages").tableau
    assert [list(row) for row in stability_polynomial(tableau)] == [[-1] * (terms + 1), [1] + [0] * terms]


def test_less_stable_than_forward_euler() -> None:
    """|1 + z + … + z^m| = 1 first where the polynomial is ±1: at −1 for m = 2, at z³ + z² + z + 2 = 0 for m = 3."""
    assert real_interval(NESTED["poly2"].make().tableau) == 1
    root = min(np.roots([1, 1, 1, 2]), key=lambda r: abs(r.imag)).real
    assert real_interval(NESTED["poly3"].make().tableau) == pytest.approx(-root, rel=1e-14)
    assert -root == pytest.approx(1.353, abs=5e-4)
    assert imaginary_interval(NESTED["poly2"].make().tableau) == 1  # (1 − y²)² + y² = 1


@pytest.mark.parametrize("name", NESTED)
def test_order_one_where_f_vanishes_at_the_origin(name: str) -> None:
    s = NESTED[name].make()
    assert s.order == s.coefficients.order == 1
    assert s.zero_stable
    assert slope_seen(s, lambda t, x: x * (1 - x), 1 / (1 + np.exp(-1))) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("name", "order"), [("poly2", 0), ("poly3", 0), ("mpoly2", 0), ("two_way", 1), ("fractal", 1)])
def test_polynomials_are_inconsistent_elsewhere(name: str, order: int) -> None:
    s = NESTED[name].make()
    assert (s.error_constant == float("inf")) is (order == 0)
    assert slope_seen(s, lambda t, x: 1 - x, 1 - 0.5 / np.e) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_fractal_expansion(columns: int) -> None:
    tableau = fractal(columns).tableau
    assert tableau.stages == 2**columns - 1
    assert tableau.exact
    assert step(tableau, X) == pytest.approx(np.mean(columns_of(columns, 1.0, X), axis=0), rel=1e-13)


def test_fractals_by_hand() -> None:
    assert fractal(1).tableau == Tableau.multistep((1,), (1,))
    half = Fraction(1, 2)
    two = Tableau.runge_kutta(((0, 0, 0), (half, 0, 0), (0, 0, 0)), (half / 2, half / 2, half))
    assert fractal(2).tableau == two
    assert real_interval(two) == pytest.approx(8, rel=1e-6)  # 1 + z + z²/8 is −1 at −4, and turns there
    assert fractal().tableau == fractal(3).tableau


@pytest.mark.parametrize("name", NESTED)
def test_rows(name: str) -> None:
    s = NESTED[name].make()
    assert NESTED[name].family == "nested"
    assert Scheme.from_dict(s.to_dict()) == s


@pytest.mark.parametrize("columns", [0, 6, 1.5, True, "3", None])
def test_bad_columns_are_refused_in_one_line(columns: Any) -> None:
    with pytest.raises(OdenasError, match=re.escape(f"`columns` is {columns!r}, but must be an integer from 1 to 5")):
        fractal(columns)
