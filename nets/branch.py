"""The right-hand side f of a network's steps, and what carries a state into another shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # In place where the gradient follows from the result: each follows a norm, whose output is needed for nothing else.
    "relu": torch.relu_,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh_,
}


class Branch(nn.Module):
    """The basic f: norm, activation, 3×3 convolution, twice (He et al. 2016, "Identity Mappings", fig. 4e).

    Maps (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up.
    """

    layers: ClassVar = 2

    def __init__(self, inputs: int, outputs: int, stride: int = 1, activation: str = "relu") -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.conv1(self.activation(self.norm1(x)))
        return self.conv2(self.activation(self.norm2(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """The f of very deep networks: norm, activation, convolution, three times (He et al. 2016, "Identity Mappings").

    The convolutions are 1×1 to a quarter of the outputs (rounded down, at least one), 3×3 with the stride, 1×1 to the
    outputs. Shapes as of `Branch`.
    """

    layers: ClassVar = 3

    def __init__(self, inputs: int, outputs: int, stride: int = 1, activation: str = "relu") -> None:
        super().__init__()
        quarter = max(1, outputs // 4)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, quarter, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(quarter)
        self.conv2 = nn.Conv2d(quarter, quarter, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, outputs, 1, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.conv1(self.activation(self.norm1(x)))
        x = self.conv2(self.activation(self.norm2(x)))
        return self.conv3(self.activation(self.norm3(x)))  # type: ignore[no-any-return]


class Shortcut(nn.Module):
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


BLOCKS: dict[str, type[Branch] | type[Bottleneck]] = {"basic": Branch, "bottleneck": Bottleneck}
