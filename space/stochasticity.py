"""Noise that a network is trained with."""

from __future__ import annotations

from dataclasses import dataclass

from odenas.space.errors import OdenasError, one_of, real

STOCHASTICITIES = {
    "none": "every branch is always evaluated, without noise",
    "depth": "stochastic depth: a branch is dropped for a whole batch with probability `rate`, and divided by "
    "1 − rate where it is kept (Huang et al. 2016); the linear part of the step stays",
    "shake": "shake-shake: the weights of a step's first two stages, of equal weight, are shifted from one to the "
    "other by a random share of up to `rate` of themselves, one for each batch (Gastaldi 2017)",
    "additive": "Gaussian noise of standard deviation `rate` is added after every step (Lu et al. 2018, section 3)",
    "multiplicative": "every branch is multiplied by 1 + rate·ξ, with ξ standard normal for each of its numbers",
}
GROWTHS = {
    "linear": "the rate grows evenly from 0 at the first block to `rate` at the last (Huang et al. 2016)",
    "constant": "every block has the same rate",
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
    """

    kind: str = "none"
    rate: float = 0.0
    growth: str = "linear"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, STOCHASTICITIES)
        one_of("growth", self.growth, GROWTHS)
        real("rate", self.rate, 0, {"depth": 0.999, "shake": 1}.get(self.kind, 10))
        if (self.kind == "none") != (self.rate == 0):
            raise OdenasError(f"`rate` is {self.rate} with kind {self.kind!r}, but is 0 for none and above 0 otherwise")

    def rates(self, blocks: int) -> list[float]:
        """Return the rate of each of a network's blocks."""
        last = max(1, blocks - 1)
        return [self.rate * (index / last if self.growth == "linear" else 1) for index in range(blocks)]
