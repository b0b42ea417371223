"""The noise of one block in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from odenas.nets.combine import Weight, pairs

# How often a coin or a share is drawn: the shape of the draws, of which one multiplies the whole batch or one image.
DRAWS: dict[str, Callable[[Tensor], tuple[int, ...]]] = {
    "batch": lambda x: (),
    "image": lambda x: (len(x), *[1] * (x.dim() - 1)),
}


class Noise:
    """No noise. The kinds of noise inherit from it, and each changes the one place of a step where it acts.

    Coins and shares are drawn from torch's global generator of the CPU, Gaussian noise from that of the state's device.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate

    def slope(self, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """Return f(x), or None where it is dropped."""
        return branch(x)

    def terms(self, B: Sequence[Weight], slopes: Sequence[Tensor | None]) -> Iterable[tuple[Weight, Tensor | None]]:
        """Return the terms of a step's sum that its stages make: weights and slopes."""
        return pairs(B, slopes)

    def state(self, x: Tensor) -> Tensor:
        """Return the state after a step."""
        return x


class StochasticDepth(Noise):
    """A branch is dropped with probability `rate`; what is kept is scaled by 1 / (1 − rate). The linear part stays.

    One coin for the batch (Huang et al. 2016, who scale at test instead), or for each image its own (drop path in the
    programs that followed). With rate 1 nothing is ever kept.

    Args:
        rate: the probability.
        per: a row of DRAWS.
    """

    def __init__(self, rate: float, per: str = "batch") -> None:
        super().__init__(rate)
        self.per = per

    def slope(self, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """Return f(x) / (1 − rate), with zeros where it is dropped, or None where it is dropped for all.

        With a coin for the batch, and no graph to compile, a dropped branch is not evaluated.
        """
        keep = torch.rand(DRAWS[self.per](x), device="cpu") >= self.rate
        kept = 1 - self.rate or 1.0  # with rate 1 the zeros need no scale
        if keep.dim() or torch.compiler.is_compiling():
            return branch(x) / kept * keep.to(x.device, x.dtype, non_blocking=True)
        return branch(x) / kept if keep else None


class Shake(Noise):
    """Shake-shake: a step's first two slopes, of weights b and b, enter with 2bη and 2b(1 − η) (Gastaldi 2017).

    "shake" draws η uniform in ½ ± rate/2, "even" has ½. The backward pass, from the gradient of the sum to those of the
    slopes, may have another η than the forward one; it is drawn in the forward pass too.

    Args:
        rate: width of the interval of η; 1 in the paper.
        forward: "shake" or "even".
        backward: "keep" for the forward pass's η, "shake" for one drawn anew, or "even".
        per: a row of DRAWS.
    """

    def __init__(self, rate: float, forward: str = "shake", backward: str = "keep", per: str = "batch") -> None:
        super().__init__(rate)
        self.forward, self.backward, self.per = forward, backward, per

    def terms(self, B: Sequence[Weight], slopes: Sequence[Tensor | None]) -> Iterable[tuple[Weight, Tensor | None]]:
        """Return the terms of this batch; a start-up step with one branch keeps its own."""
        f1, f2 = (*slopes[:2], None, None)[:2]
        if f1 is None or f2 is None:
            return pairs(B, slopes)
        if self.backward != "keep":
            ahead, back = self._twice(f1, self.forward, self.backward)
            shaken = [Reweighted.apply(f1, ahead, back), Reweighted.apply(f2, 2 - ahead, 2 - back)]
            return pairs(B, [*shaken, *slopes[2:]])
        (ahead,) = self._twice(f1, self.forward)
        # A number costs less than a tensor, but to take it out would end a graph.
        share: Weight = ahead if ahead.dim() or torch.compiler.is_compiling() else float(ahead)
        return pairs([B[0] * share, B[1] * (2 - share), *B[2:]], slopes)

    def _twice(self, f: Tensor, *passes: str) -> Sequence[Tensor]:
        """Return 2η for each pass, where the slope is; what is no scalar has its type too, or would change it."""
        shape = DRAWS[self.per](f)
        # In one call: what the backward pass alone needs, a compiled graph would else draw there, out of turn.
        drawn = torch.rand((len(passes), *shape), dtype=torch.float64, device="cpu").unbind()
        widths = [self.rate if kind == "shake" else 0.0 for kind in passes]
        twice = [1 + width * (2 * share - 1) for width, share in zip(widths, drawn, strict=True)]
        if shape:
            return [each.to(f.device, f.dtype, non_blocking=True) for each in twice]
        return [each.to(f.device) for each in twice] if torch.compiler.is_compiling() else twice


class Reweighted(torch.autograd.Function):
    """The product of a slope and a weight, with another weight in its gradient."""

    @staticmethod
    def forward(slope: Tensor, ahead: Tensor, back: Tensor) -> Tensor:
        """Return ahead × slope."""
        return slope * ahead

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        """Keep the gradient's weight, and nothing of the slope."""
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return back × the gradient of the product."""
        (back,) = ctx.saved_tensors
        return gradients[0] * back, None, None


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


# "S-E-I" is Gastaldi's: shake forward, even backward, drawn per image; "shake" alone is S-K-B.
NOISES: dict[str, Callable[[float], Noise]] = {
    "none": Noise,
    "depth": StochasticDepth,
    "depth per image": partial(StochasticDepth, per="image"),
    "shake": Shake,
    "shake S-K-I": partial(Shake, per="image"),
    "shake S-S-B": partial(Shake, backward="shake"),
    "shake S-S-I": partial(Shake, backward="shake", per="image"),
    "shake S-E-B": partial(Shake, backward="even"),
    "shake S-E-I": partial(Shake, backward="even", per="image"),
    "shake E-S-B": partial(Shake, forward="even", backward="shake"),
    "shake E-S-I": partial(Shake, forward="even", backward="shake", per="image"),
    "additive": Additive,
    "multiplicative": Multiplicative,
}
QUIET = Noise()
