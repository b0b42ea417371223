"""The noise of one block in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from odenas.nets.combine import Weight


class Noise:
    """No noise. The kinds of noise inherit from it, and each changes the one place of a step where it acts.

    Coins are drawn from torch's global generator of the CPU, Gaussian noise from that of the state's device.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate

    def slope(self, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """Return f(x), or None where it is dropped."""
        return branch(x)

    def weights(self, B: Sequence[Weight], x: Tensor) -> Sequence[Weight]:
        """Return the weights of a step's branches; x is its state."""
        return B

    def state(self, x: Tensor) -> Tensor:
        """Return the state after a step."""
        return x


class StochasticDepth(Noise):
    """A branch is dropped with probability `rate`, one coin for the batch; what is kept is scaled by 1 / (1 − rate)."""

    def slope(self, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """Return f(x) / (1 − rate), or None; a dropped branch is not evaluated, but where a graph is compiled."""
        keep = torch.rand(()) >= self.rate
        if torch.compiler.is_compiling():
            return branch(x) / (1 - self.rate) * keep.to(x)
        return branch(x) / (1 - self.rate) if keep else None


class Shake(Noise):
    """The weights b, b of a step's first two branches become 2bη and 2b(1 − η), η of a batch uniform in ½ ± rate/2."""

    def weights(self, B: Sequence[Weight], x: Tensor) -> Sequence[Weight]:
        """Return the weights of this batch; a start-up step with one branch keeps its own."""
        if len(B) < 2:
            return B
        share = 1 + self.rate * (2 * torch.rand((), dtype=torch.float64) - 1)
        # A number costs less than a tensor, but to take it out would end the graph.
        twice = share.to(x.device) if torch.compiler.is_compiling() else float(share)
        return [B[0] * twice, B[1] * (2 - twice), *B[2:]]


class Additive(Noise):
    """Normal noise of standard deviation `rate` is added to the state after a step."""

    def state(self, x: Tensor) -> Tensor:
        """Return x + rate · ξ."""
        return torch.add(x, torch.randn_like(x), alpha=self.rate)


class Multiplicative(Noise):
    """A branch is multiplied, number by number, by 1 + rate · ξ, ξ standard normal."""

    def slope(self, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """Return f(x) ⊙ (1 + rate · ξ)."""
        slope = branch(x)
        return torch.addcmul(slope, slope, torch.randn_like(slope), value=self.rate)


NOISES: dict[str, type[Noise]] = {
    "none": Noise,
    "depth": StochasticDepth,
    "shake": Shake,
    "additive": Additive,
    "multiplicative": Multiplicative,
}
QUIET = Noise()
