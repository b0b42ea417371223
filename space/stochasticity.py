"""Noise that a network is trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from odenas.space.errors import OdenasError, one_of, real

STOCHASTICITIES = {
    "none": "every branch is always evaluated, without noise",
    "depth": "stochastic depth: a branch is dropped with probability `rate`, and divided by 1 − rate where it is kept "
    "(Huang et al. 2016, who multiply at test instead); the linear part of the step stays",
    "shake": "shake-shake: the weights of a step's first two stages, of equal weight, are shifted from one to the "
    "other by a random share of up to `rate` of themselves (Gastaldi 2017)",
    "additive": "Gaussian noise of standard deviation `rate` is added after every step (Lu et al. 2018, section 3)",
    "multiplicative": "every branch is multiplied by 1 + rate·ξ, with ξ standard normal for each of its numbers",
}
GROWTHS = {
    "linear": "the rate grows evenly from 0 at the first block to `rate` at the last (Lu et al. 2018, their program)",
    "proportional": "the rate of block l of L is l/L of `rate`, so that the first block has some too (Huang et al. "
    "2016: survival 1 − (l/L)(1 − p_L), 1 at the input)",
    "constant": "every block has the same rate",
}
# The share of the rate that block `index` of `blocks` has, counted from 0.
SHARES: dict[str, Callable[[int, int], float]] = {
    "linear": lambda index, blocks: index / max(1, blocks - 1),
    "proportional": lambda index, blocks: (index + 1) / blocks,
    "constant": lambda index, blocks: 1,
}
DRAWN_PER = {
    "batch": "one coin or share for all images of a batch",
    "image": "for each image its own: drop path, and the level Image of shake-shake",
}
FORWARDS = {
    "shake": "the share is drawn",
    "even": "both stages keep their weights",
}
BACKWARDS = {
    "keep": "gradients take the share of the forward pass, as the step's derivative does",
    "shake": "they take a share of their own, drawn anew",
    "even": "they take the stages' own weights",
}
# What of shake-shake draws its shares, by the letters of Gastaldi 2017: the forward and the backward pass.
# E-E is no noise, and E-K is the same.
SHAKES = {
    "S-K": ("shake", "keep"),
    "S-S": ("shake", "shake"),
    "S-E": ("shake", "even"),
    "E-S": ("even", "shake"),
}


@dataclass(frozen=True)
class Stochasticity:
    """Noise in training; at test there is none.

    `odenas.space.stochastic` writes out the stochastic differential equation that each kind approximates.

    Args:
        kind: one of STOCHASTICITIES.
        rate: size of the noise, as the kind says: a probability in [0, 1) for "depth", a share in (0, 1] for "shake",
            a standard deviation up to 10 for the Gaussian kinds; 0 if and only if the kind is "none".
        growth: one of GROWTHS.
        per: one of DRAWN_PER; for "depth" and "shake". Gaussian noise has a draw for each number always.
        forward, backward: one of FORWARDS and BACKWARDS; for "shake".
    """

    kind: str = "none"
    rate: float = 0.0
    growth: str = "linear"
    per: str = "batch"
    forward: str = "shake"
    backward: str = "keep"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, STOCHASTICITIES)
        one_of("growth", self.growth, GROWTHS)
        one_of("per", self.per, DRAWN_PER)
        one_of("forward", self.forward, FORWARDS)
        one_of("backward", self.backward, BACKWARDS)
        real("rate", self.rate, 0, {"depth": 0.999, "shake": 1}.get(self.kind, 10))
        if (self.kind == "none") != (self.rate == 0):
            raise OdenasError(f"`rate` is {self.rate} with kind {self.kind!r}, but is 0 for none and above 0 otherwise")
        if self.per != "batch" and self.kind not in ("depth", "shake"):
            raise OdenasError(f"`per` is {self.per!r} with kind {self.kind!r}, but needs depth or shake, or 'batch'")
        if self.kind != "shake":
            for name, default in (("forward", "shake"), ("backward", "keep")):
                if getattr(self, name) != default:
                    given = getattr(self, name)
                    raise OdenasError(f"`{name}` is {given!r} with kind {self.kind!r}, but needs shake, or {default!r}")
        elif (self.forward, self.backward) not in SHAKES.values():
            raise OdenasError(
                f"`backward` is {self.backward!r} with forward 'even', but needs 'shake': else there is no noise, "
                "which is kind 'none'"
            )

    @property
    def shake(self) -> str:
        """The row of SHAKES that says what draws."""
        return next(name for name, passes in SHAKES.items() if passes == (self.forward, self.backward))

    @property
    def variant(self) -> str:
        """The kind, with how it draws where this is not the default: "depth per image", "shake S-S-I"."""
        if (self.per, self.shake) == ("batch", "S-K"):
            return self.kind
        return f"{self.kind} {self.shake}-{self.per[0].upper()}" if self.kind == "shake" else f"{self.kind} per image"

    def rates(self, blocks: int) -> list[float]:
        """Return the rate of each of a network's blocks."""
        return [self.rate * SHARES[self.growth](index, blocks) for index in range(blocks)]


SHAKE_SHAKE: dict[str, Stochasticity] = {
    "E-E-B": Stochasticity(),
    **{
        f"{shake}-{per[0].upper()}": Stochasticity("shake", 1.0, "constant", per, forward, backward)
        for shake, (forward, backward) in SHAKES.items()
        for per in DRAWN_PER
    },
}
"""The models of Gastaldi 2017 by their names: forward pass, backward pass, level. Even-even has no noise."""
