"""The search space: which schemes a search may draw, in coordinates in which every point is feasible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple

import numpy as np

from odenas.space import ask as asking
from odenas.space.ask import Ask, Enumerator, Interval, Recorder, Trial, Uniform
from odenas.space.catalogue import CATALOGUE, scheme
from odenas.space.errors import OdenasError, unknown
from odenas.space.intervals import interval, intervals
from odenas.space.multistep_space import MultistepSpace
from odenas.space.network_space import RATES, WIDEST, NetworkSpace
from odenas.space.runge_kutta_space import RungeKuttaSpace
from odenas.space.scheme import Scheme

FAMILIES: dict[str, str] = {
    "multistep": "linear multistep schemes, in coordinates",
    "runge-kutta": "explicit Runge–Kutta methods, in coordinates",
    "named": "schemes of the catalogue",
}
WITHOUT_COORDINATES = ("named", "scale", "start", "transition", "sharing", "constraint", "tying", "growth")
# Methods for two halves of a state, or for x'' = f, are no rivals of their Euler twin; noise is drawn beside the name.
APART = ("partitioned", "second order", "stochastic")
NAMED = tuple(name for name, entry in CATALOGUE.items() if entry.family not in APART)


class Size(NamedTuple):
    """How large a search space is.

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
                raise OdenasError(f"`{name}` is {list(values)!r}, but needs one or more different values")
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
        longest = max(self.steps) if "multistep" in self.family else 1
        if self.per_stage and min(self.per_stage) < longest:
            raise OdenasError(
                f"`per_stage` starts at {min(self.per_stage)}, but a scheme of {longest} steps needs {longest} blocks"
            )
        self._check_narrowed()

    def suggest(self, trial: Trial) -> Scheme:
        """Return the scheme that an Optuna trial draws; the parameters asked for depend on those drawn before."""
        ask = Ask(trial, self.narrowed)
        return self._draw_network(ask, self._draw(ask))

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
        for trial in self._combinations(self.narrowed):
            kinds = [asking.field(name) for name in trial.coordinates]
            count, largest = count + 1, max(largest, len(kinds))
            dimensions |= {kind: max(kinds.count(kind), dimensions.get(kind, 0)) for kind in kinds}
        return Size(count * self._independent(), dict(sorted(dimensions.items())), largest)

    def __contains__(self, scheme: Scheme) -> bool:
        """Whether `encode` has an answer for this scheme."""
        try:
            self.encode(scheme)
        except OdenasError:
            return False
        return True

    def _draw(self, ask: Ask) -> Scheme:
        draws: dict[str, Callable[[Ask], Scheme]] = {
            "multistep": self._draw_multistep,
            "runge-kutta": self._draw_runge_kutta,
            "named": lambda ask: scheme(ask.choose("named", self.named)),
        }
        return draws[ask.choose("family", self.family)](ask)

    def _encode(self, family: str, value: Scheme) -> dict[str, Any]:
        coordinates: dict[str, Callable[[Scheme], dict[str, Any]]] = {
            "multistep": self._multistep_coordinates,
            "runge-kutta": self._runge_kutta_coordinates,
            "named": self._name,
        }
        recorder = Recorder({"family": family, **coordinates[family](value), **self._network_coordinates(value)})
        made = self.suggest(recorder)
        for entry in fields(value):
            given, reached = getattr(value, entry.name), getattr(made, entry.name)
            if given != reached:
                raise OdenasError(f"`{entry.name}` is {given}, but the nearest here is {reached}")
        return recorder.asked

    def _name(self, value: Scheme) -> dict[str, Any]:
        """Return the catalogue's name of a scheme, whatever is drawn beside it; one with noise of its own first."""
        known = {name: scheme(name) for name in self.named}
        for name in sorted(known, key=lambda name: not known[name].stochasticity.rate):
            noise = known[name].stochasticity if known[name].stochasticity.rate else value.stochasticity
            tying = known[name].tying if known[name].tying != "none" else value.tying
            if replace(known[name], stochasticity=noise, tying=tying, blocks=value.blocks) == value:
                return {"named": name}
        raise OdenasError("it has no name among those of the space")

    def _check_named(self) -> None:
        if not self.named:
            raise OdenasError("`named` is empty, but the family 'named' needs names of the catalogue to choose from")

    def _check_narrowed(self) -> None:
        """Check that every narrowed coordinate exists, and overlaps with its own interval wherever it is asked for."""
        if not self.narrowed:
            return
        # One value for each choice that changes no coordinate: a few hundred combinations at most.
        first = {name: getattr(self, name)[:1] for name in WITHOUT_COORDINATES}
        plain = replace(self, narrowed={}, **first)
        names = {f"rate_{kind}" for kind in self.stochasticity if kind != "none"}
        for trial in plain._combinations(self.narrowed):
            names |= trial.coordinates
        for name in self.narrowed:
            if name not in names:
                near = get_close_matches(name, names, n=3, cutoff=0.3)
                hint = f", such as {', '.join(near)}" if near else ""
                raise OdenasError(f"`narrowed` has the key {name!r}, but needs names of this space's coordinates{hint}")

    def _combinations(self, narrowed: Mapping[str, Interval]) -> Iterator[Enumerator]:
        """Go through all combinations of choices but those of the blocks, which depend on nothing."""
        trial = Enumerator()
        ask = Ask(trial, narrowed)
        while True:
            drawn = self._draw(ask)
            self._draw_tying(ask, drawn)
            self._draw_stochasticity(ask, drawn)
            yield trial
            if not trial.advance():
                return

    def _listed(self, name: str) -> tuple[Any, ...]:
        """Return the values of a field, and make a tuple of it."""
        values = getattr(self, name)
        if isinstance(values, str) or not isinstance(values, Collection):
            raise OdenasError(f"`{name}` is {values!r}, but must be a list")
        object.__setattr__(self, name, tuple(values))
        return tuple(values)
