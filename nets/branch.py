"""The right-hand side f of a network's steps: pre-activation residual branches."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS


def inner_channels(outputs: int, ratio: float, groups: int = 1) -> int:
    """Return the channels inside a branch: ratio × outputs, rounded down to a multiple of the groups, at least one."""
    return groups * max(1, int(outputs * ratio) // groups)


class Branch(nn.Module):
    """The basic f: norm, activation, 3×3 convolution, twice (He et al. 2016, "Identity Mappings", fig. 4e).

    Maps (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up.
    """

    layers: ClassVar = 2
    after: ClassVar = False
    keeps_shape: ClassVar = False
    shortcut: ClassVar = "projection"

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, activation: str = "relu", inner: float | None = None
    ) -> None:
        super().__init__()
        inside = inner_channels(outputs, 1 if inner is None else inner)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inside, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, outputs, 3, 1, 1, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.conv1(self.activation(self.norm1(x)))
        return self.conv2(self.activation(self.norm2(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """The f of very deep networks: norm, activation, convolution, three times (He et al. 2016, "Identity Mappings").

    The convolutions are 1×1 to a quarter of the outputs (rounded down, at least one), 3×3 with the stride and in
    `groups` (Xie et al. 2017), 1×1 to the outputs. Shapes as of `Branch`.
    """

    layers: ClassVar = 3
    after: ClassVar = False
    keeps_shape: ClassVar = False
    shortcut: ClassVar = "projection"

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        activation: str = "relu",
        inner: float | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        inside = inner_channels(outputs, 1 / 4 if inner is None else inner, groups)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, inside, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, outputs, 1, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.conv1(self.activation(self.norm1(x)))
        x = self.conv2(self.activation(self.norm2(x)))
        return self.conv3(self.activation(self.norm3(x)))  # type: ignore[no-any-return]
