"""The first layers of a network: from the images to the first state."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS


class Normalised(nn.Module):
    """Convolution, norm, activation, and a 3×3 maximum of every second pixel where `pooled`.

    3×3 for small images, and 7×7 of every second pixel for 224×224 (He et al. 2016, "Deep Residual Learning").
    """

    def __init__(self, channels: int, width: int, activation: str, size: int, stride: int, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = ACTIVATIONS[activation]
        self.pool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the first state."""
        return self.pool(self.activation(self.norm(self.conv(images))))  # type: ignore[no-any-return]


# From the channels of the images, those of the state, and the activation.
STEMS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "plain": lambda channels, width, activation: nn.Conv2d(channels, width, 3, 1, 1, bias=False),
    "normalised": lambda channels, width, activation: Normalised(channels, width, activation, 3, 1, False),
    "imagenet": lambda channels, width, activation: Normalised(channels, width, activation, 7, 2, True),
    "identity": lambda channels, width, activation: nn.Identity(),
}
