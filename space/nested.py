"""Networks of branches within branches, as Runge–Kutta tableaus: PolyNet's modules and FractalNet's expansion."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import NamedTuple

from odenas.space.entry import Entry
from odenas.space.errors import integer
from odenas.space.scheme import Scheme
from odenas.space.tableau import Matrix, Row, Tableau

ZERO, ONE = Fraction(0), Fraction(1)


class Columns(NamedTuple):
    """Runge–Kutta methods with common stages: the matrix A (s×s), and the weights (s) of each."""

    A: Matrix
    weights: tuple[Row, ...]


def polynomial(terms: int, tying: str) -> Scheme:
    """Return x + F(x) + F(F(x)) + … with `terms` powers of F: every stage after the first reads the slope before it.

    Backward Euler's (I − hf)⁻¹ cut off after the power `terms` (Zhang, Li, Loy, Lin, PolyNet, 2017). Its order is 1
    for any number of terms, and its stability function 1 + z + … + z^terms. Later stages read slopes and no state, so
    that for a field that does not vanish at 0 it follows x' = f(x) + f(0) instead of x' = f(x).
    """
    rows = [[ONE if j == i - 1 else ZERO for j in range(terms)] for i in range(terms)]
    tableau = Tableau(
        V=(ONE,),
        B=(ONE,) * terms,
        A=tuple(map(tuple, rows)),
        U=tuple((ONE if i == 0 else ZERO,) for i in range(terms)),
    )
    return Scheme(tableau, tying=tying)


def two_way() -> Scheme:
    """Return x + (F(x) + G(x))/2, two branches of weights of their own at the same place."""
    return Scheme(Tableau.runge_kutta(((0, 0), (0, 0)), ("1/2", "1/2")))


def fractal(columns: int = 3) -> Scheme:
    """Return FractalNet's f_C as a Runge–Kutta method, with C = `columns` from 1 to 5 and 2^C − 1 stages.

    f_1 is a forward Euler step and f_{C+1} = (f_C ∘ f_C) ⊕ f_1, where ⊕ is the mean of all columns that end there, so
    that the last join of the second f_C and the new column make one mean (Larsson, Maire, Shakhnarovich, FractalNet,
    2017). All columns must arrive at the same time: both f_C of f_C ∘ f_C make half a step. As read here, a unit is
    x + h f(x) with its column's step h; in the paper it is a plain convolution.

    Raises:
        OdenasError: `columns` is no integer from 1 to 5.
    """
    euler = Columns(((ZERO,),), ((ONE,),))
    columns, made = integer("columns", columns, 1, 5), euler
    for _ in range(columns - 1):
        half = scaled(made, Fraction(1, 2))
        made = beside(composed(half, half), euler)
    return Scheme(Tableau.runge_kutta(made.A, mean(made)))


def scaled(methods: Columns, factor: Fraction) -> Columns:
    """Return the methods with steps of the length `factor`."""
    return Columns(
        tuple(tuple(factor * Fraction(a) for a in row) for row in methods.A),
        tuple(tuple(factor * Fraction(w) for w in row) for row in methods.weights),
    )


def mean(methods: Columns) -> Row:
    """Return the weights of the method whose step is the mean of all the methods' steps."""
    return tuple(
        sum(map(Fraction, column), ZERO) / len(methods.weights) for column in zip(*methods.weights, strict=True)
    )


def composed(first: Columns, then: Columns) -> Columns:
    """Return each method of `then` after the mean of `first`.

    Where A and b act first, then A' and b', the matrix is [A 0; 1bᵀ A'] and the weights are (b, b') (Hairer, Nørsett,
    Wanner, Solving Ordinary Differential Equations I, 2nd ed., II.12).
    """
    b, after = mean(first), len(then.A)
    return Columns(
        (*((*row, *(ZERO,) * after) for row in first.A), *((*b, *row) for row in then.A)),
        tuple((*b, *weights) for weights in then.weights),
    )


def beside(left: Columns, right: Columns) -> Columns:
    """Return the methods of both, each with its own stages, in one table."""
    before, after = (ZERO,) * len(left.A), (ZERO,) * len(right.A)
    return Columns(
        (*((*row, *after) for row in left.A), *((*before, *row) for row in right.A)),
        (*((*weights, *after) for weights in left.weights), *((*before, *weights) for weights in right.weights)),
    )


NESTED = {
    "poly2": Entry(
        "nested",
        "PolyNet's poly-2, x + F(x) + F(F(x)) with one F: backward Euler cut off (Zhang et al. 2017)",
        partial(polynomial, 2, "stages"),
    ),
    "poly3": Entry(
        "nested",
        "PolyNet's poly-3, x + F(x) + F(F(x)) + F(F(F(x))) with one F: backward Euler cut off (Zhang et al. 2017)",
        partial(polynomial, 3, "stages"),
    ),
    "mpoly2": Entry(
        "nested",
        "PolyNet's mpoly-2, x + F(x) + G(F(x)) with F and G of weights of their own (Zhang et al. 2017)",
        partial(polynomial, 2, "none"),
    ),
    "two_way": Entry(
        "nested",
        "PolyNet's 2-way, x + F(x) + G(x), as x + (F(x) + G(x))/2: learned branches absorb the factor "
        "(Zhang et al. 2017)",
        two_way,
    ),
    "fractal": Entry(
        "nested",
        "FractalNet's expansion f_{C+1} = (f_C ∘ f_C) ⊕ f_1 with C `columns`, units x + h f(x) and ⊕ the mean "
        "(Larsson et al. 2017)",
        fractal,
    ),
}
