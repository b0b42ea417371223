"""The table of coefficients of an explicit general linear method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from odenas.space.errors import OdenasError, table

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

    Entries may be given as int, Fraction, float, or a string such as "3/2" or "0.1". All but floats are kept
    exactly, as Fractions; a float stays a float and marks a value known only to its own precision.

    Raises:
        OdenasError: a shape is wrong, an entry is not finite, A is not strictly lower triangular, or ΣV ≠ 1
            (a constant solution would not stay constant).
    """

    V: Row
    B: Row
    R: Row = ()
    A: Matrix = ()
    U: Matrix = ()
    W: Matrix = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("V", "B", "R"):
            put(self, name, _row(name, getattr(self, name)))
        steps, stages = len(self.V), len(self.B)
        if steps < 1 or stages < 1:
            raise OdenasError(f"`V` and `B` need at least one entry each, but have {steps} and {stages}")
        put(self, "R", self.R or (Fraction(0),) * (steps - 1))
        put(self, "A", _matrix("A", self.A, stages, stages))
        put(self, "U", _matrix("U", self.U, stages, steps, first=1))
        put(self, "W", _matrix("W", self.W, stages, steps - 1))
        if len(self.R) != steps - 1:
            raise OdenasError(f"`R` has {len(self.R)} entries, but needs {steps - 1}: one fewer than `V`")
        for i, row in enumerate(self.A):
            if any(entry != 0 for entry in row[i:]):
                raise OdenasError(
                    f"`A` is not strictly lower triangular in row {i}: {_show(row)}; explicit methods only"
                )
        off = abs(sum((Fraction(weight) for weight in self.V), Fraction(-1)))
        if off > (0 if exact(self.V) else Fraction(1, 10**5)):
            raise OdenasError(f"`V` is {_show(self.V)}, but must sum to 1")

    @classmethod
    def multistep(cls, states: Sequence[Number | int | str], slopes: Sequence[Number | int | str]) -> Tableau:
        """Return the linear multistep method x_{n+1} = Σ_j states[j] x_{n−j} + h Σ_j slopes[j] f(x_{n−j}).

        The shorter of the two sequences is filled up with zeros.
        """
        steps = max(len(states), len(slopes))
        V = tuple(states) + (0,) * (steps - len(states))
        beta = tuple(slopes) + (0,) * (steps - len(slopes))
        return cls(V=V, B=beta[:1], R=beta[1:])  # type: ignore[arg-type]  # __post_init__ makes Fractions of them

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
        return all(exact(row) for row in (self.V, self.R, self.B, *self.A, *self.U, *self.W))

    def to_dict(self) -> dict[str, Any]:
        """Return the tableau as JSON-ready lists; Fractions become integers or strings such as "3/2"."""
        return {
            "V": _plain(self.V),
            "R": _plain(self.R),
            "B": _plain(self.B),
            "A": [_plain(row) for row in self.A],
            "U": [_plain(row) for row in self.U],
            "W": [_plain(row) for row in self.W],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tableau:
        """Return the tableau that `to_dict` wrote.

        Raises:
            OdenasError: a key is missing or unknown, or the values are not a tableau.
        """
        return cls(**table("tableau", data, ("V", "R", "B", "A", "U", "W")))


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


def _row(field: str, values: object) -> Row:
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise OdenasError(f"`{field}` is {values!r}, but must be a list of numbers")
    return tuple(number(field, value) for value in values)


def _matrix(field: str, rows: Any, height: int, width: int, first: int = 0) -> Matrix:
    """Return `rows` as a matrix; where there are none, each row is (first, 0, 0, …)."""
    if not hasattr(rows, "__iter__") or isinstance(rows, str | Mapping):
        raise OdenasError(f"`{field}` is {rows!r}, but must be a list of rows")
    default = ((Fraction(first), *(Fraction(0),) * (width - 1))[:width],) * height
    matrix = tuple(_row(field, row) for row in rows) or default
    if len(matrix) != height or any(len(row) != width for row in matrix):
        raise OdenasError(
            f"`{field}` has rows of {[len(row) for row in matrix]} entries, but needs {height} of {width}"
        )
    return matrix


def _sum(row: Sequence[Number]) -> Number:
    return sum(row, Fraction(0))


def _plain(row: Row) -> list[int | float | str]:
    return [plain(entry) for entry in row]


def _show(row: Row) -> str:
    return "(" + ", ".join(str(entry) for entry in row) + ")"
