"""The search space: which schemes a search may draw, in coordinates in which every point is feasible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from odenas.space import ask as asking
from odenas.space.ask import Ask, Enumerator, Interval, Recorder, Trial, Uniform
from odenas.space.catalogue import CATALOGUE, scheme
from odenas.space.coefficients import Coefficients
from odenas.space.errors import OdenasError, shown, unknown
from odenas.space.intervals import interval, intervals, listed
from odenas.space.multistep_space import MultistepSpace
from odenas.space.network_space import RATES, WIDEST, NetworkSpace
from odenas.space.runge_kutta_space import RungeKuttaSpace
from odenas.space.scheme import Scheme

Drawn = TypeVar("Drawn")

FAMILIES: dict[str, str] = {
    "multistep": "linear multistep schemes, in coordinates",
    "runge-kutta": "explicit Runge–Kutta methods, in coordinates",
    "named": "schemes of the catalogue",
}
# The choices on which no other choice and no coordinate depends.
LAST = (
    *("scale", "start", "transition", "sharing", "constraint"),
    *("tying", "block", "activation", "per_stage", "growth", "per", "shake"),
)
# Methods for two halves of a state, or for x'' = f, are no rivals of their Euler twin; noise is drawn beside the name.
APART = ("partitioned", "second order", "stochastic")
NAMED = tuple(name for name, entry in CATALOGUE.items() if entry.family not in APART)


class Size(NamedTuple):
    """How large a search space is, at a general point of its coordinates.

    A special point may open a choice more: where a coordinate makes all older slopes 0, history may be projected.

    configurations: number of combinations of its choices.
    dimensions: for each kind of coordinate, the largest number of them that a draw has, and `largest` of all together.
    """

    configurations: int
    dimensions: dict[str, int]
    largest: int


@dataclass(frozen=True)
class SearchSpace(MultistepSpace, RungeKuttaSpace, NetworkSpace):
    """The schemes that a search may draw, as one conditional space of choices and coordinates.

    Every draw keeps its stated order and constraint by construction; none is rejected. A field with one value fixes
    that choice; `narrowed` narrows single coordinates. Coordinates are kept to three decimals, so that a drawn scheme
    is exact in rational arithmetic and can be read and typed.

    The fields of `odenas.space.multistep_space.MultistepSpace` and `odenas.space.runge_kutta_space.RungeKuttaSpace`
    belong to those families, those of `odenas.space.network_space.NetworkSpace` to all.

    Args:
        family: some of FAMILIES.
        named: names of the catalogue to choose from in the family "named".
        narrowed: for single coordinates, by name, an interval within their own; the names are those of a trial's
            parameters.

    Raises:
        OdenasError: a field is empty or out of range, an interval's end has more than three decimals, or some
            choice is left without an order, a coordinate or a way to learn.
    """

    family: tuple[str, ...] = tuple(FAMILIES)
    named: tuple[str, ...] = NAMED
    narrowed: Mapping[str, Interval] = field(default_factory=dict, hash=False)

    # What each choice may hold; intervals and numbers are checked on their own.
    CHOICES: ClassVar[dict[str, Collection[Any]]] = {
        **MultistepSpace.MULTISTEP_CHOICES,
        **RungeKuttaSpace.RUNGE_KUTTA_CHOICES,
        **NetworkSpace.NETWORK_CHOICES,
        "family": FAMILIES,
        "named": CATALOGUE,
    }

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, valid in self.CHOICES.items():
            values = self._listed(name)
            for value in values:
                if not any(type(value) is type(entry) and value == entry for entry in valid):
                    raise unknown(name, value, valid)
            if (not values and name not in ("per_stage", "named")) or len(set(values)) < len(values):
                raise OdenasError(f"`{name}` is {shown(list(values))}, but needs one or more different values")
        Coefficients(spread=self.spread, bound=self.bound)
        for name, within in self.MULTISTEP_INTERVALS.items():
            object.__setattr__(self, name, interval(name, getattr(self, name), within))
        object.__setattr__(self, "rates", {**RATES, **intervals("rates", self.rates, WIDEST)})
        object.__setattr__(self, "narrowed", intervals("narrowed", self.narrowed))
        checks: dict[str, Callable[[], None]] = {
            "multistep": self._check_multistep,
            "runge-kutta": self._check_runge_kutta,
            "named": self._check_named,
        }
        for name in self.family:
            checks[name]()
        if self.per_stage:
            self._check_per_stage()
        if self.narrowed:
            self._check_narrowed()

    def suggest(self, trial: Trial) -> Scheme:
        """Return the scheme that an Optuna trial draws; the parameters asked for depend on those drawn before."""
        ask = Ask(trial, self.narrowed)
        drawn = self._draw(ask)
        return Scheme(**drawn | self._draw_network(ask, drawn))

    def draw(self, generator: np.random.Generator) -> Scheme:
        """Return a random scheme: every choice and every coordinate uniform among those that are open to it."""
        return self.suggest(Uniform(generator))

    def encode(self, scheme: Scheme) -> dict[str, Any]:
        """Return the parameters from which `suggest` makes this scheme: `suggest(FixedTrial(encode(s))) == s`.

        Raises:
            OdenasError: the scheme lies outside this space; the message names the first field that does.
        """
        reasons = []
        for family in self.family:
            try:
                return self._encode(family, scheme)
            except OdenasError as error:
                reasons.append(str(error))
        raise OdenasError(f"the scheme lies outside the space: {'; '.join(dict.fromkeys(reasons))}")

    def size(self) -> Size:
        """Return how many combinations of choices there are, and how many coordinates of each kind."""
        count, largest, dimensions = 0, 0, dict[str, int]()
        for drawn, method in self._combinations(self._draw):
            for _, network in self._combinations(partial(self._draw_network, drawn=drawn)):
                kinds = [asking.field(name).partition(":")[0] for name in (*method.coordinates, *network.coordinates)]
                count, largest = count + method.count * network.count, max(largest, len(kinds))
                dimensions |= {kind: max(kinds.count(kind), dimensions.get(kind, 0)) for kind in kinds}
        return Size(count, dict(sorted(dimensions.items())), largest)

    def parameters(self) -> dict[str, list[Any] | Interval]:
        """Return every parameter that a trial may be asked for: a list of choices, or an interval.

        Left out is what only a special point of the coordinates opens (see `Size`).
        """
        found: dict[str, list[Any] | Interval] = {}
        for drawn, method in self._combinations(self._draw):
            for _, network in self._combinations(partial(self._draw_network, drawn=drawn)):
                found |= method.asked | network.asked
        return found

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of every scheme, once, of a space without coordinates."""
        trial, found = Enumerator(()), set[Scheme]()
        while True:
            value = self.suggest(trial)
            if value not in found:
                found.add(value)
                yield self.encode(value)
            if not trial.advance():
                return

    def __contains__(self, scheme: Scheme) -> bool:
        """Whether `encode` has an answer for this scheme."""
        try:
            self.encode(scheme)
        except OdenasError:
            return False
        return True

    def _draw(self, ask: Ask) -> dict[str, Any]:
        """Return the fields of a scheme that its family settles."""
        draws: dict[str, Callable[[Ask], dict[str, Any]]] = {
            "multistep": self._draw_multistep,
            "runge-kutta": self._draw_runge_kutta,
            "named": lambda ask: _fields(_known(ask.choose("named", self.named))),
        }
        return draws[ask.choose("family", self.family)](ask)

    def _encode(self, family: str, value: Scheme) -> dict[str, Any]:
        coordinates: dict[str, Callable[[Scheme], list[dict[str, Any]]]] = {
            "multistep": self._multistep_coordinates,
            "runge-kutta": self._runge_kutta_coordinates,
            "named": self._names,
        }
        reasons = []
        for found in coordinates[family](value):
            recorder = Recorder({"family": family, **found, **self._network_coordinates(value)})
            try:
                made = self.suggest(recorder)
            except OdenasError as error:
                reasons.append(str(error))
                continue
            if made == value:
                return recorder.asked
            pairs = [(name, entry, getattr(made, name)) for name, entry in _fields(value).items()]
            name, given, reached = next(pair for pair in pairs if pair[1] != pair[2])
            reasons.append(f"`{name}` is {given}, but the nearest here is {reached}")
        raise OdenasError(reasons[0])

    def _names(self, value: Scheme) -> list[dict[str, Any]]:
        """Return the names that the catalogue has for a scheme, whatever is drawn beside it."""
        beside = ("tying", "blocks", "stochasticity")
        settled = {name: entry for name, entry in _fields(value).items() if name not in beside}
        names = [
            name for name in self.named if all(getattr(_known(name), key) == entry for key, entry in settled.items())
        ]
        if not names:
            raise OdenasError("it has no name among those of the space")
        return [{"named": name} for name in names]

    def _check_named(self) -> None:
        if not self.named:
            raise OdenasError("`named` is empty, but the family 'named' needs names of the catalogue to choose from")

    def _check_per_stage(self) -> None:
        """Check that every scheme finds blocks enough, whether history is projected or not."""
        longest = max(self.steps)
        named = [_known(name) for name in self.named]
        needed = {
            "multistep": max(_blocks_needed(longest, 1, start) for start in self.start),
            "runge-kutta": _blocks_needed(1, max(self.stages), "euler"),
            "named": max((_blocks_needed(s.tableau.steps, s.tableau.stages, s.start) for s in named), default=1),
        }
        most = max(needed[name] for name in self.family)
        if min(self.per_stage) < most:
            raise OdenasError(
                f"`per_stage` starts at {min(self.per_stage)}, but must start at {most} or above: some scheme of the "
                "space needs as many blocks to make a step of its own"
            )

    def _check_narrowed(self) -> None:
        """Check that every narrowed coordinate exists, and overlaps with its own interval wherever it is asked for."""
        trial = Enumerator(LAST)
        ask = Ask(trial, self.narrowed)
        for kind in set(self.stochasticity) - {"none"}:
            ask.draw(f"rate_{kind}", self.rates[kind])
        self._draw(ask)
        while trial.advance():
            self._draw(ask)
        for name in self.narrowed:
            if name not in ask.drawn:
                near = get_close_matches(name, ask.drawn, n=3, cutoff=0.3)
                hint = f", such as {', '.join(near)}" if near else ""
                raise OdenasError(
                    f"`narrowed` has the key {shown(name)}, but needs names of this space's coordinates{hint}"
                )

    def _combinations(self, draw: Callable[[Ask], Drawn]) -> Iterator[tuple[Drawn, Enumerator]]:
        """Yield what is drawn for every combination of choices, those of LAST at their first value."""
        trial = Enumerator(LAST)
        ask = Ask(trial, self.narrowed)
        while True:
            yield draw(ask), trial
            if not trial.advance():
                return

    def _listed(self, name: str) -> tuple[Any, ...]:
        """Return the values of a field, and make a tuple of it."""
        values = getattr(self, name)
        if not listed(values):
            raise OdenasError(f"`{name}` is {shown(values)}, but must be a list")
        object.__setattr__(self, name, tuple(values))
        return tuple(values)


@cache
def _known(name: str) -> Scheme:
    return scheme(name)


def _blocks_needed(steps: int, stages: int, start: str) -> int:
    """Return how many blocks a stage of the network needs, so that the last makes a step of the scheme's own.

    The first is a plain residual block; with the start-up "euler" so are those before there is history enough.
    """
    return max(steps, min(2, stages)) if start == "euler" else min(2, max(steps, stages))


def _fields(value: Scheme) -> dict[str, Any]:
    return {name: getattr(value, name) for name in Scheme.__match_args__}
