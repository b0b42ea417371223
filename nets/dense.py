"""Networks whose output is an image of the size of the input, such as for denoising: all stages keep the size."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.partitioned import PartitionedStage
from odenas.nets.residual import ResidualNetwork


class DenseNetwork(ResidualNetwork):
    """From images to images: stem, stages of steps of one size, norm, activation, 3×3 convolution added to the input.

    The convolution begins with zeros, so that an untrained network returns its input. With the stem "identity" the
    state is the image itself and the output the last state, as in nonlinear diffusion (Alt et al. 2022): there is
    nothing but steps. The arguments are those of `ResidualNetwork`; `classes` has no meaning.
    """

    output: ClassVar = "images"

    def strides(self, stages: int) -> list[int]:
        """Return how much smaller the image becomes in each stage: not at all."""
        return [1] * stages

    def make_head(self, width: int, after: bool) -> None:
        """Make what follows the last stage."""
        bare = self.architecture["stem"] == "identity"
        self.norm = nn.Identity() if after or bare else nn.BatchNorm2d(width)
        self.activation = nn.Identity() if after or bare else ACTIVATIONS[self.architecture["activation"]]
        self.head: nn.Module = nn.Identity() if bare else nn.Conv2d(width, self.architecture["channels"], 3, 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (batch, channels, height, width) of normalised images of the same shape."""
        x = self.activation(self.norm(self.last_state(images)))
        return x if isinstance(self.head, nn.Identity) else images + self.head(x)


class PartitionedDenseNetwork(DenseNetwork):
    """A `DenseNetwork` whose stages are partitioned."""

    stage: ClassVar = PartitionedStage
