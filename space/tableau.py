"""The table of coefficients of an explicit general linear method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from odenas.space.errors import OdenasError, integer, table

Number = Fraction | float
Row = tuple[Number, ...]
Matrix = tuple[Row, ...]


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit method with k past states, their first-stage slopes, and s stages.

    With x_{n−j} the state j steps back and F_{n−j} = h f(first stage of step n−j), one step is

        Y_i     = Σ_j U_ij x_{n−j} + Σ_{j≥1} W_ij F_{n−j} + h Σ_{l<i} A_il f(Y_l),       i = 1…s
        x_{n+1} = Σ_j V_j  x_{n−j} + Σ_{j≥1} R_j  F_{n−j} + h Σ_i B_i f(Y_i).

    Shapes: V (k), R (k−1), B (s), U (s×k), W (s×(k−1)), A (s×s, strictly lower triangular). Row j of V and U is
    the state j steps back, so V[0] weighs x_n; R[0] and W[·][0] weigh F_{n−1}.
    (Butcher, Numerical Methods for Ordinary Differential Equations, 3rd ed., §50, in the present notation.)

    With `derivative` 2 the method is one for x'' = f, F_{n−j} = h² f, and every h above is h²; this is defined for
    linear multistep methods alone (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed.,
    III.10).

    Entries may be given as int, Fraction, float, or a string such as "3/2" or "0.1". All but floats are kept
    exactly, as Fractions; a float stays a float and marks a value known only to its own precision.

    Raises:
        OdenasError: a shape is wrong, an entry is not finite, A is not strictly lower triangular, ΣV ≠ 1
            (a constant solution would not stay constant), or `derivative` is neither 1 nor, for a linear multistep
            method, 2.
    """

    V: Row
    B: Row
    R: Row = ()
    A: Matrix = ()
    U: Matrix = ()
    W: Matrix = ()
    derivative: int = 1

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("V", "B", "R"):
            put(self, name, numbers(name, getattr(self, name)))
        steps, stages = len(self.V), len(self.B)
        if steps < 1 or stages < 1:
            raise OdenasError(f"`V` and `B` need at least one entry each, but have {steps} and {stages}")
        put(self, "R", self.R or (Fraction(0),) * (steps - 1))
        put(self, "A", matrix("A", self.A, stages, stages))
        put(self, "U", matrix("U", self.U, stages, steps, first=1))
        put(self, "W", matrix("W", self.W, stages, steps - 1))
        if len(self.R) != steps - 1:
            raise OdenasError(f"`R` has {len(self.R)} entries, but needs {steps - 1}: one fewer than `V`")
        for i, row in enumerate(self.A):
            if any(entry != 0 for entry in row[i:]):
                raise OdenasError(
                    f"`A` is not strictly lower triangular in row {i}: {show(row)}; explicit methods only"
                )
        off = abs(sum((Fraction(weight) for weight in self.V), Fraction(-1)))
        if off > (0 if exact(self.V) else Fraction(1, 10**5)):
            raise OdenasError(f"`V` is {show(self.V)}, but must sum to 1")
        put(self, "derivative", integer("derivative", self.derivative, 1, 2))
        if self.derivative == 2 and not self.is_multistep:
            raise OdenasError(
                f"`derivative` is 2 for {self.stages} stage(s), but needs a linear multistep method: one stage, x_n"
            )

    @classmethod
    def multistep(
        cls,
        states: Sequence[Number | int | str],
        slopes: Sequence[Number | int | str],
        *,
        derivative: int = 1,
    ) -> Tableau:
        """Return the linear multistep method x_{n+1} = Σ_j states[j] x_{n−j} + h Σ_j slopes[j] f(x_{n−j}).

        With `derivative` 2 it is one for x'' = f, and h is h². The shorter sequence is filled up with zeros.
        """
        steps = max(len(states), len(slopes))
        V = tuple(states) + (0,) * (steps - len(states))
        beta = tuple(slopes) + (0,) * (steps - len(slopes))
        return cls(V=V, B=beta[:1], R=beta[1:], derivative=derivative)  # type: ignore[arg-type]  # __post_init__ makes Fractions of them

    @classmethod
    def runge_kutta(cls, A: Sequence[Sequence[Number | int | str]], b: Sequence[Number | int | str]) -> Tableau:
        """Return the explicit Runge–Kutta method with the Butcher matrix `A` (s×s) and the weights `b` (s)."""
        return cls(V=(Fraction(1),), B=tuple(b), A=tuple(tuple(row) for row in A))  # type: ignore[arg-type]

    @property
    def steps(self) -> int:
        """Number k of states that a step reads."""
        return len(self.V)

    @property
    def stages(self) -> int:
        """Number s of evaluations of f in a step."""
        return len(self.B)

    @property
    def slopes(self) -> Row:
        """The total weight of each slope, newest first: (Σ_i B_i, R_1, …, R_{k−1}); β of a multistep method."""
        return (_sum(self.B), *self.R)

    @property
    def abscissae(self) -> Row:
        """The times c_i, in steps after t_n, that the stages stand for (exact for x' = 1)."""
        return tuple(
            _sum([-j * u for j, u in enumerate(U)] + [*W, *A]) for U, W, A in zip(self.U, self.W, self.A, strict=True)
        )

    @property
    def is_multistep(self) -> bool:
        """Whether this is a linear multistep method: one stage, which is x_n."""
        return self.stages == 1 and self.U[0][0] == 1 and not any(self.U[0][1:]) and not any(self.W[0])

    @property
    def exact(self) -> bool:
        """Whether every entry is a Fraction, so that what is proved of the tableau is proved exactly."""
        return exact(self.entries)

    @property
    def entries(self) -> Row:
        """All entries, row by row: what unit roundoff and exactness are told from."""
        return tuple(chain(self.V, self.R, self.B, *self.A, *self.U, *self.W))

    def to_dict(self) -> dict[str, Any]:
        """Return the tableau as JSON-ready lists; Fractions become integers or strings such as "3/2"."""
        return {
            "V": plain_row(self.V),
            "R": plain_row(self.R),
            "B": plain_row(self.B),
            "A": [plain_row(row) for row in self.A],
            "U": [plain_row(row) for row in self.U],
            "W": [plain_row(row) for row in self.W],
            "derivative": self.derivative,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tableau:
        """Return the tableau that `to_dict` wrote; where it does not name the `derivative`, that is 1.

        Raises:
            OdenasError: a key is missing or unknown, or the values are not a tableau.
        """
        given = {"derivative": 1, **data} if isinstance(data, Mapping) else data
        return cls(**table("tableau", given, ("V", "R", "B", "A", "U", "W", "derivative")))


def exact(row: Sequence[Number]) -> bool:
    """Return whether every entry of `row` is an exact rational number."""
    return all(isinstance(entry, Fraction) for entry in row)


def number(field: str, value: object) -> Number:
    """Return `value` as a Fraction, or as a float if it is one.

    Raises:
        OdenasError: `value` is no finite real number, or beyond the range of a float.
    """
    try:
        if isinstance(value, str) and abs(int(value.lower().partition("e")[2] or 0)) > 1000:
            raise OverflowError  # before Fraction writes out all the digits
        entry = Fraction(value) if isinstance(value, str | int | Fraction) else float(value)  # type: ignore[arg-type]
        finite = math.isfinite(entry) and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        finite = False
    if not finite:
        raise OdenasError(f"`{field}` holds {value!r}, but needs finite numbers")
    return entry


def plain(value: Number) -> int | float | str:
    """Return `value` JSON-ready: a float, an integer, or a string such as "3/2"."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else str(value)
    return value


def plain_row(row: Row) -> list[int | float | str]:
    """Return `row` JSON-ready."""
    return [plain(entry) for entry in row]


def show(row: Row) -> str:
    """Return `row` as text for a message."""
    return "(" + ", ".join(str(entry) for entry in row) + ")"


def numbers(field: str, values: object) -> Row:
    """Return `values` as a row of Fractions and floats.

    Raises:
        OdenasError: they are no list, or one is no finite real number.
    """
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise OdenasError(f"`{field}` is {values!r}, but must be a list of numbers")
    return tuple(number(field, value) for value in values)


def matrix(field: str, rows: Any, height: int, width: int, first: int = 0) -> Matrix:
    """Return `rows` as a matrix; where there are none, each row is (first, 0, 0, …).

    Raises:
        OdenasError: the shape is not height × width, or an entry is no finite real number.
    """
    if not hasattr(rows, "__iter__") or isinstance(rows, str | Mapping):
        raise OdenasError(f"`{field}` is {rows!r}, but must be a list of rows")
    default = ((Fraction(first), *(Fraction(0),) * (width - 1))[:width],) * height
    entries = tuple(numbers(field, row) for row in rows) or default
    if len(entries) != height or any(len(row) != width for row in entries):
        raise OdenasError(
            f"`{field}` has rows of {[len(row) for row in entries]} entries, but needs {height} of {width}"
        )
    return entries


def _sum(row: Sequence[Number]) -> Number:
    return sum(row, Fraction(0))
