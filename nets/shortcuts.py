"""What carries a state into the shape of the next stage."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from odenas.nets.activations import ACTIVATIONS


class Projection(nn.Module):
    """P, the state in a new shape: a 1×1 convolution of the activation of BN(x), as in the code of LM-ResNet's authors.

    Where a stage carries several states over, all go through it as one batch: one map for all of them. In training its
    batch normalisation takes mean and variance over all these states together, and so do its running statistics.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str = "relu") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return the state in the new shape."""
        return self.conv(self.activation(self.norm(x)))  # type: ignore[no-any-return]


class PostProjection(nn.Module):
    """A 1×1 convolution and its norm (He et al. 2016, "Deep Residual Learning", option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str = "relu") -> None:
        super().__init__()
        del activation
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the state in the new shape."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class Pad(nn.Module):
    """Every `stride`-th pixel, and channels of zeros on either side (He et al. 2016, option A), or fewer channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: str = "relu") -> None:
        super().__init__()
        del activation
        before = (outputs - inputs) // 2
        self.stride, self.before, self.after = stride, before, outputs - inputs - before

    def forward(self, x: Tensor) -> Tensor:
        """Return the state in the new shape."""
        x = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, self.before, self.after))


class Pool(Pad):
    """The mean of stride × stride pixels, with channels of zeros before and after (Gomez et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the state in the new shape; of an odd side the mean at the border is over the pixels there are."""
        x = functional.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        return functional.pad(x, (0, 0, 0, 0, self.before, self.after))


SHORTCUTS: dict[str, Any] = {
    "projection": Projection,
    "post-projection": PostProjection,
    "pad": Pad,
    "pool": Pool,
}
