"""The table of coefficients of a partitioned Runge–Kutta method for a separable system, explicit in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

from odenas.space.errors import OdenasError, table
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.tableau import Matrix, Number, Row, exact, matrix, numbers, plain_row, show


@dataclass(frozen=True)
class Partitioned:
    """Coefficients of a partitioned Runge–Kutta method with s stages for y' = f(t, z), z' = g(t, y).

        Z_i     = z_n + h Σ_{j<i} A2_ij g(Y_j),    Y_i     = y_n + h Σ_{j≤i} A_ij f(Z_j),        i = 1…s
        y_{n+1} = y_n + h Σ_i b_i f(Z_i),          z_{n+1} = z_n + h Σ_i b2_i g(Y_i).

    Explicit in the order f(Z_1), g(Y_1), f(Z_2), g(Y_2), …: A (s×s) is lower triangular, with its diagonal, and A2
    (s×s) strictly so; b and b2 have s entries. Every explicit order of evaluation is of this form, with zeros where
    an evaluation is left out. (Hairer, Lubich, Wanner, Geometric Numerical Integration, 2nd ed., II.2.)

    Entries are given and kept as those of a Tableau: exactly, but for floats.

    Raises:
        OdenasError: a shape is wrong, an entry is not finite, or A or A2 has an entry above its triangle.
    """

    A: Matrix
    b: Row
    A2: Matrix
    b2: Row

    def __post_init__(self) -> None:
        for name in ("b", "b2"):
            object.__setattr__(self, name, numbers(name, getattr(self, name)))
        sizes = len(self.b), len(self.b2)
        if sizes[0] < 1 or sizes[0] != sizes[1]:
            raise OdenasError(f"`b` and `b2` have {sizes[0]} and {sizes[1]} entries, but need equally many, 1 at least")
        for name, diagonal in (("A", 1), ("A2", 0)):
            entries = matrix(name, getattr(self, name), self.stages, self.stages)
            object.__setattr__(self, name, entries)
            for i, weights in enumerate(entries):
                if any(weights[i + diagonal :]):
                    strictly = "" if diagonal else "strictly "
                    raise OdenasError(
                        f"`{name}` is not {strictly}lower triangular in row {i}: {show(weights)}; f and g are "
                        "evaluated in turn, f first"
                    )

    @classmethod
    def in_turn(cls, f_steps: Sequence[Number | int | str], g_steps: Sequence[Number | int | str]) -> Partitioned:
        """Return the method that adds h f_steps[0] f(z) to y, h g_steps[0] g(y) to z, h f_steps[1] f(z) to y, …

        A composition of the flows of the two parts, hence symplectic (Geometric Numerical Integration, II.5).
        """
        b, b2 = numbers("f_steps", f_steps), numbers("g_steps", g_steps)
        zero = Fraction(0)
        return cls(
            A=tuple(tuple(w if j <= i else zero for j, w in enumerate(b)) for i in range(len(b))),
            b=b,
            A2=tuple(tuple(w if j < i else zero for j, w in enumerate(b2)) for i in range(len(b2))),
            b2=b2,
        )

    @property
    def steps(self) -> int:
        """Number of states that a step reads: 1."""
        return 1

    @property
    def stages(self) -> int:
        """Number s of pairs of stages."""
        return len(self.b)

    @property
    def used(self) -> list[tuple[bool, bool]]:
        """For each stage whether f is evaluated and whether g is: where the slope has a weight at all."""
        columns = (zip(*(*A, b), strict=True) for A, b in ((self.A, self.b), (self.A2, self.b2)))
        return list(zip(*(map(any, weights) for weights in columns), strict=True))

    @property
    def evaluations(self) -> int:
        """Number of evaluations of f and of g in a step, each of half the state, together."""
        return sum(map(sum, self.used))

    @property
    def abscissae(self) -> list[tuple[Number, Number]]:
        """For each stage the times of Z_i and Y_i, in steps after t_n, at which f and g are evaluated."""
        return [(sum(Z, Fraction(0)), sum(Y, Fraction(0))) for Z, Y in zip(self.A2, self.A, strict=True)]

    @property
    def entries(self) -> Row:
        """All entries, row by row."""
        return tuple(chain(*self.A, self.b, *self.A2, self.b2))

    @property
    def exact(self) -> bool:
        """Whether every entry is a Fraction, so that what is proved of the method is proved exactly."""
        return exact(self.entries)

    @property
    def symplectic(self) -> bool:
        """Whether b_i A2_ij + b2_j A_ji = b_i b2_j for all i, j, as far as the entries are known.

        Then the step is symplectic for every separable Hamiltonian H(y, z) = T(z) + U(y), for which b = b2 is not
        needed (Geometric Numerical Integration, VI.4); without stages that could be left out it is so only then.
        """
        allowed = 16 * unit_roundoff(self)
        A, A2 = ([rationals(weights) for weights in A] for A in (self.A, self.A2))
        b, b2 = rationals(self.b), rationals(self.b2)
        terms = (
            (b[i] * A2[i][j], b2[j] * A[j][i], -b[i] * b2[j]) for i in range(self.stages) for j in range(self.stages)
        )
        return all(abs(sum(three, Fraction(0))) <= allowed * sum(map(abs, three), Fraction(0)) for three in terms)

    def to_dict(self) -> dict[str, Any]:
        """Return the method as JSON-ready lists; Fractions become integers or strings such as "3/2"."""
        return {
            "A": [plain_row(weights) for weights in self.A],
            "b": plain_row(self.b),
            "A2": [plain_row(weights) for weights in self.A2],
            "b2": plain_row(self.b2),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Partitioned:
        """Return the method that `to_dict` wrote.

        Raises:
            OdenasError: a key is missing or unknown, or the values are no such method.
        """
        return cls(**table("partitioned method", data, ("A", "b", "A2", "b2")))
