"""What the entries of a tableau stand for: exact rational numbers, or floats known to a unit roundoff."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction

from odenas.space.method import Method
from odenas.space.tableau import Number

SINGLE = Fraction(1, 2**24)
DOUBLE = Fraction(1, 2**53)


def unit_roundoff(method: Method) -> Fraction:
    """Return the relative error with which the entries of `method` are known.

    It is 0 where every entry is a Fraction; 2⁻²⁴ where every float is a float32 number, as coefficients read from
    a network are; else 2⁻⁵³ (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., table 2.1).
    """
    floats = [entry for entry in method.entries if isinstance(entry, float)]
    if not floats:
        return Fraction(0)
    return SINGLE if all(map(_single, floats)) else DOUBLE


def rationals(row: Iterable[Number]) -> tuple[Fraction, ...]:
    """Return `row` as Fractions; a float, being a dyadic rational, is converted without error."""
    return tuple(Fraction(entry) for entry in row)


def _single(value: float) -> bool:
    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] == value)
    except OverflowError:
        return False
