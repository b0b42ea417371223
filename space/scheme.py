"""A scheme: how a network steps from layer to layer, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError, table, unknown
from odenas.space.feasible import reflections_from_states
from odenas.space.integrate import integrate
from odenas.space.order import error_constant, order
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.tableau import Row, Tableau
from odenas.space.zero_stability import zero_stable

FORMAT = 1

LEARNING = {"fixed": "the tableau stays as it is", "learned": "training changes it, from the tableau on"}
SHARING = {
    "shared": "one set of coefficients for the whole network",
    "step": "a set for each step",
    "channel": "a set for each step and channel",
}
CONSTRAINTS = {
    "none": "the weights of the earlier states learn freely, those of the slopes stay (Lu et al. 2018, LM-ResNet)",
    "zero-stable": "the scheme stays zero-stable and of its stated order, by parametrisation",
}
SCALES = {
    "consistent": "the slopes' weights are the tableau's, so that the scheme approximates x' = f",
    "absorbed": "the slopes' weights are divided by their sum: the learned f absorbs the scale, as in LM-ResNet",
}
STARTS = {
    "euler": "forward Euler steps until there is history enough; the state before a stage's first block counts",
    "copy": "history begins after a stage's first block, with earlier states and slopes equal to the present ones",
}
STOCHASTICITIES = {
    "none": "every branch is always evaluated",
    "depth": "a branch is dropped for a whole batch, with a rate growing linearly from 0 at the first block "
    "(Huang et al. 2016); the linear part of the step stays",
}


@dataclass(frozen=True)
class Coefficients:
    """What becomes of the tableau's coefficients in training, and what they keep.

    Args:
        learning: one of LEARNING.
        sharing: one of SHARING; where coefficients learn.
        constraint: one of CONSTRAINTS; a fixed tableau must satisfy it too.
        order: the order that the scheme states; it is checked against the tableau, and learning under the
            constraint "zero-stable" keeps it.
        spread: half the width of the uniform noise added to each learned coordinate when a network is made.
    """

    learning: str = "fixed"
    sharing: str = "step"
    constraint: str = "zero-stable"
    order: int = 1
    spread: float = 0.0

    def __post_init__(self) -> None:
        _one_of("learning", self.learning, LEARNING)
        _one_of("sharing", self.sharing, SHARING)
        _one_of("constraint", self.constraint, CONSTRAINTS)
        _integer("order", self.order, 1, 10)
        object.__setattr__(self, "order", int(self.order))  # JSON knows no numpy integers
        _real("spread", self.spread, 0, 1)


@dataclass(frozen=True)
class Stochasticity:
    """Noise in training; at test there is none.

    Args:
        kind: one of STOCHASTICITIES.
        rate: probability in [0, 1) with which the last block's branch is dropped; 0 if and only if the kind is "none".
    """

    kind: str = "none"
    rate: float = 0.0

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, STOCHASTICITIES)
        _real("rate", self.rate, 0, 0.999)
        if (self.kind == "none") != (self.rate == 0):
            raise OdenasError(f"`rate` is {self.rate} with kind {self.kind!r}, but is 0 for none and above 0 otherwise")


@dataclass(frozen=True)
class Scheme:
    """A numerical scheme with all that a network needs to step by it. Frozen, comparable, hashable, JSON both ways.

    Args:
        tableau: the coefficients, or their initial values where they are learned.
        coefficients: whether and how they learn.
        scale: one of SCALES.
        start: one of STARTS; how history begins in a network, in every stage.
        stochasticity: noise in training.

    Raises:
        OdenasError: the tableau has not the stated order or breaks the stated constraint, or a field is out of range.
    """

    tableau: Tableau
    coefficients: Coefficients = field(default_factory=Coefficients)
    scale: str = "consistent"
    start: str = "euler"
    stochasticity: Stochasticity = field(default_factory=Stochasticity)

    def __post_init__(self) -> None:
        for name, kind in (("tableau", Tableau), ("coefficients", Coefficients), ("stochasticity", Stochasticity)):
            if not isinstance(getattr(self, name), kind):
                raise OdenasError(f"`{name}` is {getattr(self, name)!r}, but must be a {kind.__name__}")
        _one_of("scale", self.scale, SCALES)
        _one_of("start", self.start, STARTS)
        if self.order < self.coefficients.order:
            raise OdenasError(f"`order` is stated as {self.coefficients.order}, but the tableau has order {self.order}")
        if self.coefficients.constraint == "zero-stable" and not self.zero_stable:
            raise OdenasError(
                "`constraint` is 'zero-stable', but the tableau is not: ρ has a root outside the unit "
                "disc or a multiple one on the circle"
            )
        if self.scale == "absorbed" and not self.zero_stable:
            raise OdenasError("`scale` is 'absorbed', but the tableau is not zero-stable: its slopes may sum to 0")
        if self.coefficients.learning == "learned":
            if self.tableau.steps < 2 or not self.tableau.is_multistep:
                raise OdenasError(
                    f"`learning` is 'learned' for {self.tableau.steps} step(s) and {self.tableau.stages} "
                    "stage(s), but needs a linear multistep method of 2 steps or more: else no coefficient is free"
                )
            if self.coefficients.constraint == "zero-stable" and not self._has_reflections():
                raise OdenasError(
                    "`constraint` is 'zero-stable', but roots of ρ other than 1 lie both on the unit circle and in "
                    "it, and no reflection coefficients that could learn make such a tableau"
                )

    @cached_property
    def order(self) -> int:
        """The order of the tableau: the largest p whose conditions all hold."""
        return order(self.tableau)

    @cached_property
    def zero_stable(self) -> bool:
        """Whether the tableau is zero-stable (root condition)."""
        return zero_stable(self.tableau)

    @cached_property
    def error_constant(self) -> float:
        """The normalised error constant C_{p+1}/σ(1)."""
        return error_constant(self.tableau)

    @cached_property
    def real_interval(self) -> float:
        """Length x of the interval (−x, 0) of z = hλ on which the tableau is absolutely stable."""
        return real_interval(self.tableau)

    @cached_property
    def imaginary_interval(self) -> float:
        """Length y such that the tableau is absolutely stable for z = hλ on (−iy, iy)."""
        return imaginary_interval(self.tableau)

    @property
    def applied(self) -> Tableau:
        """The tableau that a network applies with h = 1: the tableau, with its slopes scaled as `scale` says."""
        if self.scale == "consistent":
            return self.tableau
        total = sum(self.tableau.slopes, Fraction(0))

        def scaled(row: Row) -> Row:
            return tuple(weight / total for weight in row)

        tableau = self.tableau
        return replace(
            tableau,
            B=scaled(tableau.B),
            R=scaled(tableau.R),
            A=tuple(map(scaled, tableau.A)),
            W=tuple(map(scaled, tableau.W)),
        )

    def integrate(
        self,
        f: Callable[[float, NDArray[Any]], ArrayLike],
        x0: ArrayLike,
        h: float,
        n: int,
        start: str = "rk4",
    ) -> NDArray[Any]:
        """Return n steps of size h of x' = f(t, x) by the tableau from t = 0, shape (n + 1, *x0.shape).

        The numpy reference; `odenas.space.integrate.integrate` says what `start` may be.
        """
        return integrate(self.tableau, f, x0, h, n, start=start)

    def twin(self) -> Scheme:
        """Return what a claim of gain is made against: forward Euler with everything else equal.

        The twin of forward Euler with stochastic depth is forward Euler without.
        """
        euler = Scheme(Tableau.multistep((1,), (1,)), stochasticity=self.stochasticity)
        return Scheme(euler.tableau) if self == euler else euler

    def to_dict(self) -> dict[str, Any]:
        """Return the scheme JSON-ready; `from_dict` undoes it."""
        return {
            "format": FORMAT,
            "tableau": self.tableau.to_dict(),
            "coefficients": asdict(self.coefficients),
            "scale": self.scale,
            "start": self.start,
            "stochasticity": asdict(self.stochasticity),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scheme:
        """Return the scheme that `to_dict` wrote.

        Raises:
            OdenasError: written by a newer version, a key is missing or unknown, or a value is out of range.
        """
        # First: a newer version may have other keys.
        if isinstance(data, Mapping) and data.get("format", FORMAT) != FORMAT:
            raise OdenasError(f"`format` of the scheme is {data['format']!r}, but this version reads {FORMAT}")
        given = table("scheme", data, ("format", "tableau", "coefficients", "scale", "start", "stochasticity"))
        coefficients, stochasticity = Coefficients.__dataclass_fields__, Stochasticity.__dataclass_fields__
        return cls(
            tableau=Tableau.from_dict(given["tableau"]),
            coefficients=Coefficients(**table("coefficients", given["coefficients"], coefficients)),
            scale=given["scale"],
            start=given["start"],
            stochasticity=Stochasticity(**table("stochasticity", given["stochasticity"], stochasticity)),
        )

    def _has_reflections(self) -> bool:
        try:
            reflections_from_states([Fraction(weight) for weight in self.tableau.V])
        except ZeroDivisionError:
            return False
        return True


def _one_of(name: str, value: object, valid: Mapping[str, str]) -> None:
    if not isinstance(value, str) or value not in valid:
        raise unknown(name, value, valid)


def _integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise OdenasError(f"`{name}` is {value!r}, but must be an integer from {low} to {high}")


def _real(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OdenasError(f"`{name}` is {value!r}, but must be a number from {low} to {high}")
