"""The branches of the first residual networks: each convolution before its norm, an activation after the step."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.branch import inner_channels


class PostBranch(nn.Module):
    """Convolution 3×3, norm, activation, convolution 3×3, norm (He et al. 2016, "Deep Residual Learning", fig. 2).

    Shapes as of `Branch`. The step is followed by the activation.
    """

    layers: ClassVar = 2
    after: ClassVar = True
    keeps_shape: ClassVar = False
    shortcut: ClassVar = "post-projection"

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, activation: str = "relu", inner: float | None = None
    ) -> None:
        super().__init__()
        inside = inner_channels(outputs, 1 if inner is None else inner)
        self.conv1 = nn.Conv2d(inputs, inside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.activation(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(x))  # type: ignore[no-any-return]


class PostBottleneck(nn.Module):
    """Convolution and norm, three times with activations between: 1×1, 3×3 in `groups`, 1×1 (He et al. 2016, fig. 5).

    Shapes as of `Branch`; the 3×3 convolution has the stride. With groups it is ResNeXt's (Xie et al. 2017, fig. 3c).
    """

    layers: ClassVar = 3
    after: ClassVar = True
    keeps_shape: ClassVar = False
    shortcut: ClassVar = "post-projection"

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
        self.conv1 = nn.Conv2d(inputs, inside, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(inside)
        self.conv3 = nn.Conv2d(inside, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.activation(self.norm1(self.conv1(x)))
        x = self.activation(self.norm2(self.conv2(x)))
        return self.norm3(self.conv3(x))  # type: ignore[no-any-return]
