"""The residual blocks whose branch is the right-hand side f."""

from __future__ import annotations

from dataclasses import dataclass

from odenas.space.errors import OdenasError, integer, one_of

STAGES = 3
"""Stages of a network for small images, where nothing else says how many (He et al. 2016)."""

BLOCKS = {
    "basic": "norm, activation, 3×3 convolution, twice (He et al. 2016, Identity Mappings, fig. 4e)",
    "bottleneck": "norm, activation, convolution, three times: 1×1 to a quarter of the channels, 3×3, 1×1 back "
    "(He et al. 2016, Identity Mappings, appendix)",
}
ACTIVATIONS = {
    "relu": "max(x, 0)",
    "gelu": "x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016)",
    "silu": "x / (1 + e^{−x}) (Elfwing et al. 2018)",
    "tanh": "the hyperbolic tangent, odd and bounded",
}


@dataclass(frozen=True)
class Blocks:
    """What the residual blocks of a network are, and how many.

    Args:
        kind: one of BLOCKS.
        activation: one of ACTIVATIONS.
        per_stage: number of blocks in each of the network's stages; empty where the depth alone says it.
    """

    kind: str = "basic"
    activation: str = "relu"
    per_stage: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of("kind", self.kind, BLOCKS)
        one_of("activation", self.activation, ACTIVATIONS)
        if isinstance(self.per_stage, str) or not hasattr(self.per_stage, "__iter__"):
            raise OdenasError(f"`per_stage` is {self.per_stage!r}, but must be a list of whole numbers")
        counts = tuple(integer("per_stage", count, 1, 1000) for count in self.per_stage)
        object.__setattr__(self, "per_stage", counts)
