"""Implicit linear multistep methods as values, and the classical ones by name.

A network steps by one through a predictor or a truncated fixed-point iteration: `odenas.space.predictor_corrector`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from odenas.space.errors import OdenasError, table, unknown
from odenas.space.order import error_constant, order
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_angle import stability_angle
from odenas.space.stability_polynomial import Table, stability_polynomial
from odenas.space.tableau import Tableau, number, plain
from odenas.space.zero_stability import zero_stable


@dataclass(frozen=True)
class ImplicitMultistep:
    """x_{n+1} = Σ_j states[j] x_{n−j} + h (slopes[0] f(x_{n+1}) + Σ_j slopes[j+1] f(x_{n−j})), over k steps.

    `states` has k entries and `slopes` k + 1; whichever is too short is filled up with zeros. Entries may be given
    as int, Fraction, a string such as "3/2", or a float, which counts as the dyadic number it is: all are kept as
    Fractions, and everything but the stability angle is decided without rounding.

    Raises:
        OdenasError: an entry is not finite, slopes[0] is 0 (the method is explicit), or Σ states ≠ 1.
    """

    states: tuple[Fraction, ...]
    slopes: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        states, slopes = (_row(name, getattr(self, name)) for name in ("states", "slopes"))
        steps = max(len(states), len(slopes) - 1)
        object.__setattr__(self, "states", states + (Fraction(0),) * (steps - len(states)))
        object.__setattr__(self, "slopes", slopes + (Fraction(0),) * (steps + 1 - len(slopes)))
        if not self.slopes[0]:
            raise OdenasError(
                "`slopes` begins with 0, but the weight of f(x_{n+1}) must not be 0; see Tableau.multistep"
            )
        if sum(self.states) != 1:
            raise OdenasError(f"`states` is ({', '.join(map(str, self.states))}), but must sum to 1")

    @property
    def steps(self) -> int:
        """Number k of states that a step reads."""
        return len(self.states)

    @property
    def stages(self) -> int:
        """Number of evaluations in a step, one that is solved for."""
        return 1

    @property
    def exact(self) -> bool:
        """Whether all entries are rational as given: always."""
        return True

    @property
    def entries(self) -> tuple[Fraction, ...]:
        """All entries; Fractions, so that the method is known exactly."""
        return self.states + self.slopes

    @cached_property
    def order(self) -> int:
        """The largest p such that a step is exact for all polynomials of degree p; at most 2k."""
        return order(self)

    @cached_property
    def error_constant(self) -> float:
        """The normalised error constant C_{p+1}/σ(1); infinite where σ(1) = 0."""
        return error_constant(self)

    @cached_property
    def zero_stable(self) -> bool:
        """Whether the root condition holds for ρ."""
        return zero_stable(self)

    @cached_property
    def real_interval(self) -> float:
        """Length x of the interval (−x, 0) of z = hλ with absolute stability; may be infinite."""
        return real_interval(self)

    @cached_property
    def imaginary_interval(self) -> float:
        """Length y such that there is absolute stability for z = hλ on (−iy, iy); may be infinite."""
        return imaginary_interval(self)

    @cached_property
    def stability_angle(self) -> float:
        """The α of A(α)-stability in degrees: 90 if A-stable, 0 if there is none."""
        return stability_angle(self)

    def stability_polynomial(self) -> Table:
        """Return ρ(ζ) − zσ(ζ) without its roots ζ = 0: entry [i][j] is the coefficient of ζⁱ zʲ."""
        return stability_polynomial(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the method as JSON-ready lists; Fractions become integers or strings such as "3/2"."""
        return {"states": [plain(entry) for entry in self.states], "slopes": [plain(entry) for entry in self.slopes]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImplicitMultistep:
        """Return the method that `to_dict` wrote.

        Raises:
            OdenasError: a key is missing or unknown, or the values are not an implicit method.
        """
        return cls(**table("implicit method", data, ("states", "slopes")))


@order.register(ImplicitMultistep)
def _order(method: ImplicitMultistep, highest: int | None = None) -> int:
    """Return the largest p such that a step is exact for all polynomials of degree p; it is at most 2k."""
    limit = 2 * method.steps if highest is None else highest
    return next((q for q in range(1, limit + 1) if _defect(method, q)), limit + 1) - 1


@error_constant.register(ImplicitMultistep)
def _error_constant(method: ImplicitMultistep) -> float:
    """Return C_{p+1}/σ(1); infinite where σ(1) = 0."""
    total, q = sum(method.slopes), order(method) + 1
    return float(_defect(method, q) / math.factorial(q) / total) if total else math.inf


@zero_stable.register(ImplicitMultistep)
def _zero_stable(method: ImplicitMultistep) -> bool:
    """Return the answer for the explicit method with the same ρ."""
    return zero_stable(Tableau.multistep(method.states, (1,)))


@stability_polynomial.register(ImplicitMultistep)
@lru_cache(maxsize=256)
def _stability_polynomial(method: ImplicitMultistep) -> Table:
    """Return ρ(ζ) − zσ(ζ); its leading coefficient 1 − slopes[0] z vanishes at one z, where a step has no solution."""
    rows = [(-v, -b) for v, b in zip(method.states, method.slopes[1:], strict=True)]
    while not any(rows[-1]):
        rows.pop()
    return (*reversed(rows), (Fraction(1), -method.slopes[0]))


def _defect(method: ImplicitMultistep, q: int) -> Fraction:
    """Return q! C_q: by how much a step from the exact history of x = t^q, with t_n = 0 and h = 1, misses x(1) = 1.

    (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., III.2.)
    """
    states = sum((weight * (-j) ** q for j, weight in enumerate(method.states)), Fraction(0))
    slopes = sum((weight * (1 - j) ** (q - 1) for j, weight in enumerate(method.slopes)), Fraction(0))
    return 1 - states - q * slopes


def _row(name: str, values: Any) -> tuple[Fraction, ...]:
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise OdenasError(f"`{name}` is {values!r}, but must be a list of numbers")
    row = tuple(Fraction(number(name, value)) for value in values)
    if not row:
        raise OdenasError(f"`{name}` is empty, but needs at least one number")
    return row


class ImplicitEntry(NamedTuple):
    """A named implicit method: one line that says what it is, with its source, and the method."""

    about: str
    method: ImplicitMultistep


def _entry(about: str, states: str, slopes: str) -> ImplicitEntry:
    return ImplicitEntry(about, ImplicitMultistep(_numbers(states), _numbers(slopes)))


def _numbers(text: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, text.split()))


IMPLICIT: dict[str, ImplicitEntry] = {
    "backward_euler": _entry("Backward Euler, x ← x + f(x_next): A-stable. Order 1.", "1", "1"),
    "trapezoid": _entry(
        "Trapezoidal rule, the A-stable method of order 2 with the least error constant (Dahlquist 1963). Order 2.",
        "1",
        "1/2 1/2",
    ),
    "adams_moulton2": _entry(
        "Adams–Moulton with 2 steps (Hairer, Nørsett & Wanner I, III.1). Order 3.", "1", "5/12 2/3 -1/12"
    ),
    "adams_moulton3": _entry(
        "Adams–Moulton with 3 steps (Hairer, Nørsett & Wanner I, III.1). Order 4.", "1", "3/8 19/24 -5/24 1/24"
    ),
    "adams_moulton4": _entry(
        "Adams–Moulton with 4 steps (Hairer, Nørsett & Wanner I, III.1). Order 5.",
        "1",
        "251/720 323/360 -11/30 53/360 -19/720",
    ),
    "adams_moulton5": _entry(
        "Adams–Moulton with 5 steps (Hairer, Nørsett & Wanner I, III.1). Order 6.",
        "1",
        "95/288 1427/1440 -133/240 241/720 -173/1440 3/160",
    ),
    "bdf2": _entry(
        "Backward differentiation with 2 steps, A-stable (Hairer, Nørsett & Wanner I, III.1). Order 2.",
        "4/3 -1/3",
        "2/3",
    ),
    "bdf3": _entry(
        "Backward differentiation with 3 steps (Hairer, Nørsett & Wanner I, III.1). Order 3.",
        "18/11 -9/11 2/11",
        "6/11",
    ),
    "bdf4": _entry(
        "Backward differentiation with 4 steps (Hairer, Nørsett & Wanner I, III.1). Order 4.",
        "48/25 -36/25 16/25 -3/25",
        "12/25",
    ),
    "bdf5": _entry(
        "Backward differentiation with 5 steps (Hairer, Nørsett & Wanner I, III.1). Order 5.",
        "300/137 -300/137 200/137 -75/137 12/137",
        "60/137",
    ),
    "bdf6": _entry(
        "Backward differentiation with 6 steps, the last zero-stable one (Hairer, Nørsett & Wanner I, III.3). Order 6.",
        "360/147 -450/147 400/147 -225/147 72/147 -10/147",
        "60/147",
    ),
    "milne": _entry(
        "Milne–Simpson with 2 steps, of the highest order that zero-stability allows "
        "(Hairer, Nørsett & Wanner I, III.1). Order 4.",
        "0 1",
        "1/3 4/3 1/3",
    ),
    "milne4": _entry(
        "Milne–Simpson with 4 steps (Hairer, Nørsett & Wanner I, III.1). Order 5.", "0 1", "29/90 62/45 4/15 2/45 -1/90"
    ),
}


def implicit(name: str) -> ImplicitMultistep:
    """Return the named implicit method.

    Raises:
        OdenasError: the name is not in IMPLICIT.
    """
    if not isinstance(name, str) or name not in IMPLICIT:
        raise unknown("implicit method", name, IMPLICIT)
    return IMPLICIT[name].method
