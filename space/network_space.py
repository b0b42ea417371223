"""The part of a search space that draws what a network adds to a method: tying, blocks and noise."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from odenas.space.ask import Ask, Interval
from odenas.space.blocks import ACTIVATIONS, OF_ALL_METHODS, STAGES, Blocks
from odenas.space.scheme import TYINGS, Scheme
from odenas.space.stochasticity import DRAWN_PER, GROWTHS, SHAKES, STOCHASTICITIES, Stochasticity

RATES: dict[str, Interval] = {
    "depth": (0.05, 0.5),
    "shake": (0.1, 1.0),
    "additive": (0.001, 0.1),
    "multiplicative": (0.01, 0.5),
}
WIDEST: dict[str, Interval] = {
    "depth": (0.001, 0.99),
    "shake": (0.001, 1.0),
    "additive": (0.001, 10.0),
    "multiplicative": (0.001, 10.0),
}


@dataclass(frozen=True)
class NetworkSpace:
    """Which branches share weights, what the blocks are and how many, and the noise of training.

    Args:
        tying: some of `odenas.space.scheme.TYINGS`; a named scheme that ties its stages keeps to that.
        block, activation: some of `odenas.space.blocks`.
        per_stage: numbers of blocks to choose from, for each of the network's three stages; empty where the depth says
            how many they are.
        stochasticity, growth: some of `odenas.space.stochasticity`; "shake" only where the first two stages of a step
            have equal weight, else "none" if nothing else is allowed. A named scheme with noise keeps its own.
        per: some of `odenas.space.stochasticity.DRAWN_PER`, for "depth" and "shake".
        shake: some of `odenas.space.stochasticity.SHAKES`, for "shake".
        rates: for each kind of noise the interval of its rate.
    """

    tying: tuple[str, ...] = tuple(TYINGS)
    block: tuple[str, ...] = ("basic",)
    activation: tuple[str, ...] = ("relu",)
    per_stage: tuple[int, ...] = ()
    stochasticity: tuple[str, ...] = ("none", "depth")
    growth: tuple[str, ...] = ("linear",)
    per: tuple[str, ...] = ("batch",)
    shake: tuple[str, ...] = ("S-K",)
    rates: Mapping[str, Interval] = field(default_factory=lambda: dict(RATES), hash=False)

    NETWORK_CHOICES: ClassVar[dict[str, Collection[Any]]] = {
        "tying": TYINGS,
        "block": OF_ALL_METHODS,
        "activation": ACTIVATIONS,
        "per_stage": range(1, 1001),
        "stochasticity": STOCHASTICITIES,
        "growth": GROWTHS,
        "per": DRAWN_PER,
        "shake": SHAKES,
    }

    def _draw_network(self, ask: Ask, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return tying, blocks and noise for the fields of a scheme that are drawn: its own, where it brings them."""
        return {
            "tying": self._draw_tying(ask, drawn),
            "blocks": self._draw_blocks(ask),
            "stochasticity": self._draw_stochasticity(ask, drawn),
        }

    def _draw_tying(self, ask: Ask, drawn: Mapping[str, Any]) -> str:
        own: str = drawn.get("tying", "none")
        if own != "none":
            return own
        # With one stage in a step, "stages" is "none".
        one = drawn["tableau"].stages == 1 and {"none", "stages"} <= set(self.tying)
        tyings = [tying for tying in self.tying if not (one and tying == "stages")]
        return str(ask.choose("tying_of_one" if one else "tying", tyings))

    def _draw_blocks(self, ask: Ask) -> Blocks:
        kind, activation = ask.choose("block", self.block), ask.choose("activation", self.activation)
        stages = range(1, STAGES + 1) if self.per_stage else ()
        return Blocks(kind, activation, tuple(ask.choose(f"per_stage_{i}", self.per_stage) for i in stages))

    def _draw_stochasticity(self, ask: Ask, drawn: Mapping[str, Any]) -> Stochasticity:
        own: Stochasticity = drawn.get("stochasticity", Stochasticity())
        if own.rate:
            return own
        B: tuple[Any, ...] = getattr(drawn["tableau"], "B", ())
        pair = "shake" in self.stochasticity and len(B) > 1 and B[0] == B[1] != 0
        kinds = [kind for kind in self.stochasticity if kind != "shake" or pair] or ["none"]
        kind = ask.choose("noise_of_pair" if pair else "noise", kinds)
        if kind == "none":
            return Stochasticity()
        rate, growth = float(ask.draw(f"rate_{kind}", self.rates[kind])), ask.choose("growth", self.growth)
        per = ask.choose("per", self.per) if kind in ("depth", "shake") else "batch"
        forward, backward = SHAKES[ask.choose("shake", self.shake) if kind == "shake" else "S-K"]
        return Stochasticity(kind, rate, growth, per, forward, backward)

    def _network_coordinates(self, scheme: Scheme) -> dict[str, Any]:
        noise, blocks = scheme.stochasticity, scheme.blocks
        return {
            "tying": scheme.tying,
            "tying_of_one": scheme.tying,
            "block": blocks.kind,
            "activation": blocks.activation,
            **{f"per_stage_{i}": count for i, count in enumerate(blocks.per_stage, start=1)},
            "noise": noise.kind,
            "noise_of_pair": noise.kind,
            f"rate_{noise.kind}": noise.rate,
            "growth": noise.growth,
            "per": noise.per,
            "shake": noise.shake,
        }
