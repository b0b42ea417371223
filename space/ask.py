"""How a search space asks for its choices and coordinates, and who may answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from odenas.space.errors import OdenasError, unknown

RESOLUTION = 1000
Interval = tuple[float, float]


class Trial(Protocol):
    """What `SearchSpace.suggest` asks of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """Return a number in [low, high]."""
        ...


class Ask:
    """Asks a trial for what is not settled: a choice with one value, or an interval that is a point, is not asked for.

    Args:
        trial: who answers.
        narrowed: for some coordinates, by name, an interval narrower than their own.
    """

    def __init__(self, trial: Trial, narrowed: Mapping[str, Interval]) -> None:
        self.trial, self.narrowed = trial, narrowed
        self.drawn: set[str] = set()  # the coordinates that were drawn, settled or not

    def choose(self, name: str, values: Sequence[Any]) -> Any:
        """Return one of the values."""
        settled = len(values) == 1 and not isinstance(self.trial, Recorder)
        return values[0] if settled else self.trial.suggest_categorical(name, list(values))

    def draw(self, name: str, interval: Interval, below: float = math.inf) -> Fraction:
        """Return a coordinate, to three decimals, so that what is drawn is exact and can be read and typed.

        What lies above `below` becomes `below`: a trial is asked for a name in one and the same interval always, as
        Optuna's samplers that model all parameters together need.
        """
        low, high = interval
        self.drawn.add(name)
        if name in self.narrowed:
            own, given = interval, self.narrowed[name]
            low, high = max(own[0], given[0]), min(own[1], given[1])
            if low > high:
                raise OdenasError(f"`narrowed.{name}` is {list(given)}, but must meet {list(own)}: nothing is left")
        if low > below:
            raise OdenasError(f"`narrowed.{name}` is [{low:g}, {high:g}], but must start at {below:g} or below")
        settled = low == high and not isinstance(self.trial, Recorder)
        value = low if settled else self.trial.suggest_float(name, low, high)
        if value > below and isinstance(self.trial, Recorder):
            raise OdenasError(f"`{field(name)}` is {value:g}, but must be from {low:g} to {below:g}")
        value = min(value, below)
        return value if isinstance(value, Fraction) else Fraction(round(value * RESOLUTION), RESOLUTION)


class Recorder:
    """A trial that answers from given coordinates and remembers what other trials would be asked for."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the given value, if it is one of the choices."""
        if self._given(name) not in choices:
            raise unknown(field(name), self.given[name], choices)
        if len(choices) > 1:
            self.asked[name] = self.given[name]
        return self.given[name]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """Return the given value, if it lies in [low, high]."""
        value = float(self._given(name))
        if not low <= value <= high:
            raise OdenasError(f"`{field(name)}` is {value:g}, but must be from {low:g} to {high:g}")
        if low < high:
            self.asked[name] = value
        return value

    def _given(self, name: str) -> Any:
        if name not in self.given:
            raise OdenasError(f"`{field(name)}` has no value")
        return self.given[name]


class Uniform:
    """A trial that draws every choice and every coordinate uniformly."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of the choices, all equally likely."""
        return choices[int(self.generator.integers(len(choices)))]

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """Return a number in [low, high]."""
        return float(self.generator.uniform(low, high))


class Enumerator:
    """A trial that goes through all combinations of choices, a round for each, at a general point of the coordinates.

    Choices on which no other depends stay at their first value, and multiply the `count` of combinations of a round.

    Args:
        last: the fields of those choices.
    """

    # Over a prime so large that no coordinate is of three decimals, or fulfils an equation by chance.
    WITHIN = Fraction(381_966, 1_000_003)

    def __init__(self, last: Collection[str]) -> None:
        self.last = last
        self.path: list[list[int]] = []  # of each choice asked for: the index taken, and how many there are
        self.asked: dict[str, list[Any] | Interval] = {}  # all that was asked for in any round
        self._begin()

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the choice that this round takes."""
        self.asked[name] = list(choices)
        if field(name) in self.last:
            self.count *= len(choices)
            return choices[0]
        if self.at == len(self.path):
            self.path.append([0, len(choices)])
        self.at += 1
        return choices[self.path[self.at - 1][0]]

    def suggest_float(self, name: str, low: float, high: float) -> Any:
        """Return a Fraction inside the interval, and remember the name."""
        self.asked[name] = (low, high)
        self.coordinates.append(name)
        ends = [Fraction(round(end * RESOLUTION), RESOLUTION) for end in (low, high)]
        return ends[0] + (ends[1] - ends[0]) * self.WITHIN

    def advance(self) -> bool:
        """Go on to the next round; return whether there is one."""
        self._begin()
        while self.path and self.path[-1][0] == self.path[-1][1] - 1:
            self.path.pop()
        if self.path:
            self.path[-1][0] += 1
        return bool(self.path)

    def _begin(self) -> None:
        self.at, self.count = 0, 1
        self.coordinates: list[str] = []


def field(name: str) -> str:
    """Return what the parameter "order_2" or "slope_1" is one of; "rk33:c2" stands for itself."""
    if ":" in name:
        return name
    return name.removesuffix("_of_one").removesuffix("_of_pair").rstrip("_0123456789").removeprefix("runge_kutta_")
