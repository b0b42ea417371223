"""What becomes of a tableau's coefficients in a network."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from odenas.space.errors import OdenasError, integer, one_of, real
from odenas.space.precision import rationals
from odenas.space.tableau import Number, Row, number

LEARNING = {
    "fixed": "the tableau stays as it is",
    "scheduled": "over the steps of a stage the reflection coefficients go evenly from the tableau's to the target",
    "learned": "training changes it, from the tableau on",
}
SHARING = {
    "shared": "one set of coefficients for the whole network",
    "step": "a set for each step",
    "channel": "a set for each step and channel",
}
CONSTRAINTS = {
    "none": "the weights of the earlier states learn freely, those of the slopes stay (Lu et al. 2018, LM-ResNet)",
    "order": "the weights of the earlier states learn freely, and those of the slopes follow so that the order stays",
    "zero-stable": "the scheme stays zero-stable and of its stated order, by parametrisation",
}
MARGIN = 0.999


@dataclass(frozen=True)
class Coefficients:
    """Whether the tableau's coefficients stay, follow a schedule or learn, and what they keep.

    Args:
        learning: one of LEARNING.
        sharing: one of SHARING; where coefficients learn.
        constraint: one of CONSTRAINTS; a fixed tableau must satisfy it too.
        order: the order that the scheme states; it is checked against the tableau, and the constraints "order" and
            "zero-stable" keep it where coefficients learn or follow a schedule.
        spread: half the width of the uniform noise added to each learned coordinate when a network is made.
        bound: under the constraint "zero-stable" every reflection coefficient κ keeps |κ| < bound ≤ 0.999 while it
            learns; a tableau that lies outside starts just inside. For two steps all products of the layers' companion
            matrices then stay below (1 + bound)/(1 − bound) in the maximum norm
            (`odenas.space.companion_products`).
        target: the k − 1 reflection coefficients of the last step, where the coefficients follow a schedule.
    """

    learning: str = "fixed"
    sharing: str = "step"
    constraint: str = "zero-stable"
    order: int = 1
    spread: float = 0.0
    bound: float = MARGIN
    target: Row = ()

    def __post_init__(self) -> None:
        one_of("learning", self.learning, LEARNING)
        one_of("sharing", self.sharing, SHARING)
        one_of("constraint", self.constraint, CONSTRAINTS)
        # JSON knows no numpy integers.
        object.__setattr__(self, "order", integer("order", self.order, 1, 10))
        real("spread", self.spread, 0, 1)
        real("bound", self.bound, 0.001, MARGIN)
        if isinstance(self.target, str) or not hasattr(self.target, "__iter__"):
            raise OdenasError(f"`target` is {self.target!r}, but must be a list of numbers")
        target: tuple[Number, ...] = tuple(number("target", kappa) for kappa in self.target)
        object.__setattr__(self, "target", target)
        if (self.learning == "scheduled") != bool(target):
            raise OdenasError(
                f"`target` has {len(target)} entries with learning {self.learning!r}, but belongs to 'scheduled' alone"
            )
        if any(not -1 < kappa < 1 for kappa in target):
            raise OdenasError(f"`target` is {[float(kappa) for kappa in target]}, but must be numbers within (-1, 1)")
        if self.learning == "scheduled" and self.constraint != "zero-stable":
            raise OdenasError(
                f"`constraint` is {self.constraint!r} with learning 'scheduled', but a schedule keeps 'zero-stable'"
            )

    def scheduled(self, reflections: tuple[Fraction, ...], steps: int) -> list[list[Fraction]]:
        """Return the reflection coefficients of each of a number of steps, evenly from the first to the target."""
        last = max(1, steps - 1)
        ends = list(zip(reflections, rationals(self.target), strict=True))
        return [[a + (b - a) * Fraction(i, last) for a, b in ends] for i in range(steps)]
