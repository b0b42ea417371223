"""What the methods of every kind have in common, and what functions of a method dispatch on."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

from odenas.space.errors import OdenasError


class Method(Protocol):
    """A numerical method of any kind: a tableau, a partitioned method, an implicit one.

    `order`, `error_constant`, `zero_stable`, `stability_polynomial` and `integrate` are `functools.singledispatch`
    functions of it, and every kind registers its own.
    """

    @property
    def entries(self) -> Iterable[Fraction | float]:
        """Every coefficient, in any order; floats among them tell the precision that the method is known to."""


def no_method(value: object, question: str) -> OdenasError:
    """Return the error for a `value` of a kind for which nothing is registered under `question`."""
    return OdenasError(f"`method` is a {type(value).__name__}, but {question} needs a Tableau or another known method")
