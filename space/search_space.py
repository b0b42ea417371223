"""The search space: which schemes a search may draw, in coordinates in which every point is feasible."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, Protocol

from odenas.space.errors import OdenasError, unknown
from odenas.space.feasible import reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.scheme import CONSTRAINTS, LEARNING, SCALES, SHARING, STARTS, Coefficients, Scheme, Stochasticity
from odenas.space.tableau import Tableau

RESOLUTION = 1000


class Trial(Protocol):
    """What `SearchSpace.suggest` asks of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """Return a number in [low, high]."""
        ...


@dataclass(frozen=True)
class SearchSpace:
    """Explicit multistep schemes up to a number of steps, with their coefficients, learning and stochasticity.

    Every draw is zero-stable and of its stated order by construction (`odenas.space.feasible`); none is rejected.
    A field with one value fixes that choice. Coordinates are kept to three decimals, so that a drawn scheme is exact in
    rational arithmetic and can be read and typed. With one step there is forward Euler alone: nothing learns, and
    `scale` and `start` would change nothing.

    Args:
        steps: numbers k of steps to choose from, 1 to 5.
        order: orders to choose from; a draw takes one that is at most its k (first Dahlquist barrier for explicit
            methods: order ≤ k).
        reflection: interval of the k − 1 reflection coefficients, within (−1, 1]; for two steps that is the k of
            LM-ResNet. The value 1 is reached by the last coefficient alone, of up to three steps: with more, many
            reflection coefficients that end in 1 make one and the same scheme.
        free_slopes: whether the slopes older than the order conditions need may be other than zero.
        slope: interval of those slopes.
        scale, start: see `odenas.space.scheme`.
        learning, sharing, constraint, spread: see `odenas.space.scheme.Coefficients`; the last three matter where
            coefficients learn.
        drop: interval of the last block's drop rate in stochastic depth.
        stochastic_depth: whether to choose from without and with it.

    Raises:
        OdenasError: a field is empty or out of range, an interval's end has more than three decimals, or some
            number of steps is left without an order, a reflection coefficient or a way to learn.
    """

    steps: tuple[int, ...] = (1, 2, 3)
    order: tuple[int, ...] = (1, 2, 3)
    reflection: tuple[float, float] = (-0.95, 1.0)
    free_slopes: tuple[bool, ...] = (False, True)
    slope: tuple[float, float] = (-1.0, 1.0)
    scale: tuple[str, ...] = ("consistent", "absorbed")
    start: tuple[str, ...] = ("euler", "copy")
    learning: tuple[str, ...] = ("fixed", "learned")
    sharing: tuple[str, ...] = ("shared", "step", "channel")
    constraint: tuple[str, ...] = ("none", "zero-stable")
    spread: float = 0.05
    stochastic_depth: tuple[bool, ...] = (False, True)
    drop: tuple[float, float] = (0.05, 0.5)

    # What each choice may hold; intervals and `spread` are checked on their own.
    CHOICES: ClassVar[dict[str, Collection[Any]]] = {
        "steps": range(1, 6),
        "order": range(1, 6),
        "free_slopes": (False, True),
        "scale": SCALES,
        "start": STARTS,
        "learning": LEARNING,
        "sharing": SHARING,
        "constraint": CONSTRAINTS,
        "stochastic_depth": (False, True),
    }

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, valid in self.CHOICES.items():
            values = self._listed(name)
            for value in values:
                if not any(type(value) is type(entry) and value == entry for entry in valid):
                    raise unknown(name, value, valid)
            if not values or len(set(values)) < len(values):
                raise OdenasError(f"`{name}` is {list(values)!r}, but needs one or more different values")
        for name, low, high in (("reflection", -0.999, 1.0), ("slope", -10.0, 10.0), ("drop", 0.001, 0.99)):
            ends = self._listed(name)
            numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
            if not numbers or len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
                raise OdenasError(f"`{name}` is {list(ends)!r}, but must be two rising numbers from {low} to {high}")
            if any(round(end * RESOLUTION) / RESOLUTION != end for end in ends):
                raise OdenasError(f"`{name}` is {list(ends)!r}, but its ends must have at most three decimals")
        Coefficients(spread=self.spread)
        if min(self.order) > min(self.steps):
            raise OdenasError(
                f"`order` starts at {min(self.order)}, but a zero-stable explicit method of {min(self.steps)} step(s) "
                f"has at most order {min(self.steps)} (first Dahlquist barrier)"
            )
        below = 1 - 1 / RESOLUTION
        if max(self.steps) > 2 and self.reflection[0] > below:
            raise OdenasError(
                f"`reflection` is {list(self.reflection)!r}, but must start at {below} or below for {max(self.steps)} "
                "steps: only the last coefficient may be 1"
            )
        if 1 in self.steps and "fixed" not in self.learning:
            raise OdenasError(
                f"`learning` is {list(self.learning)!r}, but with one step nothing can learn: allow 'fixed' too, or "
                "leave 1 out of `steps`"
            )

    def suggest(self, trial: Trial) -> Scheme:
        """Return the scheme that an Optuna trial draws; the parameters asked for depend on those drawn before."""

        def choose(name: str, values: tuple[Any, ...]) -> Any:
            settled = len(values) == 1 and not isinstance(trial, _Recorder)
            return values[0] if settled else trial.suggest_categorical(name, list(values))

        def draw(name: str, interval: tuple[float, float]) -> Fraction:
            low, high = interval
            settled = low == high and not isinstance(trial, _Recorder)
            value = low if settled else trial.suggest_float(name, low, high)
            return Fraction(round(value * RESOLUTION), RESOLUTION)

        steps = choose("steps", self.steps)
        # One parameter name for each number of steps: Optuna needs its choices to be always the same.
        order = choose(f"order_{steps}", self._orders(steps))
        states = states_from_reflections([draw(f"reflection_{i}", self._reflection(i, steps)) for i in range(1, steps)])
        free = [Fraction(0)] * (steps - order)
        if free and choose("free_slopes", self.free_slopes):
            free = [draw(f"slope_{j}", self.slope) for j in range(order, steps)]
        one_step = steps == 1
        coefficients = Coefficients(order=order)
        if not one_step and choose("learning", self.learning) == "learned":
            coefficients = Coefficients(
                learning="learned",
                sharing=choose("sharing", self.sharing),
                constraint=choose("constraint", self.constraint),
                order=order,
                spread=self.spread,
            )
        return Scheme(
            tableau=Tableau.multistep(states, slopes_of_order(states, free, order)),
            coefficients=coefficients,
            scale="consistent" if one_step else choose("scale", self.scale),
            start="euler" if one_step else choose("start", self.start),
            stochasticity=Stochasticity("depth", float(draw("drop", self.drop)))
            if choose("stochastic_depth", self.stochastic_depth)
            else Stochasticity(),
        )

    def encode(self, scheme: Scheme) -> dict[str, Any]:
        """Return the parameters from which `suggest` makes this scheme: `suggest(FixedTrial(encode(s))) == s`.

        Raises:
            OdenasError: the scheme lies outside this space; the message names the first field that does.
        """
        recorder = _Recorder(self._coordinates(scheme))
        try:
            made = self.suggest(recorder)
        except OdenasError as error:
            raise OdenasError(f"the scheme lies outside the space: {error}") from None
        for entry in fields(scheme):
            given, reached = getattr(scheme, entry.name), getattr(made, entry.name)
            if given != reached:
                raise OdenasError(
                    f"the scheme lies outside the space: `{entry.name}` is {given}, but the nearest here is {reached}"
                )
        return recorder.asked

    def __contains__(self, scheme: Scheme) -> bool:
        """Whether `encode` has an answer for this scheme."""
        try:
            self.encode(scheme)
        except OdenasError:
            return False
        return True

    def _listed(self, name: str) -> tuple[Any, ...]:
        """Return the values of a field, and make a tuple of it."""
        values = getattr(self, name)
        if isinstance(values, str) or not isinstance(values, Collection):
            raise OdenasError(f"`{name}` is {values!r}, but must be a list")
        object.__setattr__(self, name, tuple(values))
        return tuple(values)

    def _orders(self, steps: int) -> tuple[int, ...]:
        return tuple(order for order in self.order if order <= steps)

    def _reflection(self, index: int, steps: int) -> tuple[float, float]:
        """Only the last reflection coefficient may be 1, and where that is one-to-one; else a margin is kept."""
        low, high = self.reflection
        return low, high if index == steps - 1 <= 2 else min(high, 1 - 1 / RESOLUTION)

    def _coordinates(self, scheme: Scheme) -> dict[str, Any]:
        tableau, coefficients = scheme.tableau, scheme.coefficients
        steps, order = tableau.steps, coefficients.order
        if not tableau.is_multistep or not tableau.exact:
            raise OdenasError(
                "the scheme lies outside the space: its `tableau` is no linear multistep method in Fractions"
            )
        try:
            reflections = reflections_from_states([Fraction(weight) for weight in tableau.V])
        except ZeroDivisionError:
            raise OdenasError(
                "the scheme lies outside the space: its `tableau` is not zero-stable, or has roots of ρ other than 1 "
                "both on the unit circle and in it"
            ) from None
        free = tableau.slopes[order:]
        return {
            "steps": steps,
            f"order_{steps}": order,
            **{f"reflection_{i}": float(kappa) for i, kappa in enumerate(reflections, start=1)},
            "free_slopes": any(free) or False not in self.free_slopes,
            **{f"slope_{j}": float(weight) for j, weight in enumerate(free, start=order)},
            "learning": coefficients.learning,
            "sharing": coefficients.sharing,
            "constraint": coefficients.constraint,
            "scale": scheme.scale,
            "start": scheme.start,
            "stochastic_depth": scheme.stochasticity.kind == "depth",
            "drop": scheme.stochasticity.rate,
        }


class _Recorder:
    """A trial that answers from given coordinates and remembers what other trials would be asked for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        if self.given[name] not in choices:
            raise unknown(_field(name), self.given[name], choices)
        if len(choices) > 1:
            self.asked[name] = self.given[name]
        return self.given[name]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        value = float(self.given[name])
        if not low <= value <= high:
            raise OdenasError(f"`{_field(name)}` is {value:g}, but must be from {low:g} to {high:g}")
        if low < high:
            self.asked[name] = value
        return value


def _field(name: str) -> str:
    """Return the field that the parameter "order_2" or "slope_1" belongs to."""
    return name.rstrip("_0123456789")
