"""The residual blocks whose branch is the right-hand side f."""

from __future__ import annotations

from dataclasses import dataclass

from odenas.space.diffusivities import DIFFUSIVITIES
from odenas.space.errors import OdenasError, integer, one_of

STAGES = 3
"""Stages of a network for small images, where nothing else says how many (He et al. 2016)."""

BLOCKS = {
    "basic": "norm, activation, 3×3 convolution, twice (He et al. 2016, Identity Mappings, fig. 4e)",
    "bottleneck": "norm, activation, convolution, three times: 1×1 to a quarter of the channels, 3×3, 1×1 back "
    "(He et al. 2016, Identity Mappings, appendix)",
    "post-basic": "3×3 convolution, norm, activation, 3×3 convolution, norm; the activation again after the step "
    "(He et al. 2016, Deep Residual Learning)",
    "post-bottleneck": "as bottleneck, each convolution before its norm, and the activation again after the step "
    "(He et al. 2016, Deep Residual Learning)",
    "symmetric": "−τKᵀΦ(Kx), diffusion with the flux Φ, τ kept stable (Alt et al. 2022)",
    "antisymmetric": "τσ((K − Kᵀ)x + b), whose Jacobian has an imaginary spectrum (Chang et al. 2018)",
    "hamiltonian": "±τKᵀσ(Kx + b), + in the first half of a partitioned method, − in the second (Chang et al. 2018)",
}
OF_ALL_METHODS = tuple(kind for kind in BLOCKS if kind != "hamiltonian")
"""The kinds that need no partitioned method: what a search may draw."""

ACTIVATIONS = {
    "relu": "max(x, 0)",
    "gelu": "x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016)",
    "silu": "x / (1 + e^{−x}) (Elfwing et al. 2018)",
    "tanh": "the hyperbolic tangent, odd and bounded",
    **{name: f"the flux g(x²)x of the diffusivity {row.about}" for name, row in DIFFUSIVITIES.items()},
}
SHORTCUTS = {
    "projection": "a 1×1 convolution, after norm and activation, or before the norm in post-activation blocks",
    "pad": "every second pixel, and zeros for the new channels (He et al. 2016, Deep Residual Learning, option A)",
    "pool": "the mean of 2×2 pixels, and zeros for the new channels (Gomez et al. 2017; Huang et al. 2016)",
}


@dataclass(frozen=True)
class Blocks:
    """What the residual blocks of a network are, and how many.

    Args:
        kind: one of BLOCKS.
        activation: one of ACTIVATIONS.
        per_stage: number of blocks in each of the network's stages; empty where the depth alone says it.
        groups: of the 3×3 convolution of a bottleneck: the cardinality of ResNeXt (Xie et al. 2017).
        inner: channels inside a branch, as a multiple of those after it; a quarter in bottlenecks and 1 elsewhere if
            not given.
        shortcut: one of SHORTCUTS; how the state changes its shape between stages.
    """

    kind: str = "basic"
    activation: str = "relu"
    per_stage: tuple[int, ...] = ()
    groups: int = 1
    inner: float | None = None
    shortcut: str = "projection"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, BLOCKS)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("shortcut", self.shortcut, SHORTCUTS)
        if isinstance(self.per_stage, str) or not hasattr(self.per_stage, "__iter__"):
            raise OdenasError(f"`per_stage` is {self.per_stage!r}, but must be a list of whole numbers")
        counts = tuple(integer("per_stage", count, 1, 1000) for count in self.per_stage)
        object.__setattr__(self, "per_stage", counts)
        if integer("groups", self.groups, 1, 1024) > 1 and not self.kind.endswith("bottleneck"):
            raise OdenasError(f"`groups` is {self.groups} with {self.kind!r} blocks, but needs bottlenecks, or 1")
        if self.inner is not None and self.kind == "antisymmetric":
            raise OdenasError(
                f"`inner` is {self.inner!r}, but an antisymmetric block has one convolution: leave it out"
            )
        if self.inner is not None:
            number = isinstance(self.inner, int | float) and not isinstance(self.inner, bool)
            if not number or not 0 < self.inner <= 64:
                raise OdenasError(f"`inner` is {self.inner!r}, but must be a number above 0 and at most 64, or None")
