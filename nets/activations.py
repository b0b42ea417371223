"""Activations: what a right-hand side applies to its features entry by entry, the fluxes of diffusion among them.

A flux is Φ(s) = g(s²) s with a diffusivity g, contrast 1. Every activation here has the form g(s) s with 0 ≤ g ≤ 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

WEICKERT = 3.31488  # solves e^c = 1 + 8c, so that the flux turns at s = 1 (Weickert 1998)


def constant(s: Tensor) -> Tensor:
    """Return s itself, the flux of linear diffusion: g = 1."""
    return s


def charbonnier(s: Tensor) -> Tensor:
    """Return s/√(1 + s²) (Charbonnier, Blanc-Féraud, Aubert, Barlaud 1997); its root does not overflow."""
    return s / torch.hypot(s, s.new_ones(()))


def perona_malik(s: Tensor) -> Tensor:
    """Return s/(1 + s²) (Perona, Malik 1990); where s² overflows this is 0, as it should."""
    return s / (1 + s * s)


def perona_malik_exponential(s: Tensor) -> Tensor:
    """Return s exp(−s²/2) (Perona, Malik 1990)."""
    return s * torch.exp(-s * s / 2)


def weickert(s: Tensor) -> Tensor:
    """Return s (1 − exp(−3.31488/s⁸)), s near 0 (Weickert, Anisotropic Diffusion in Image Processing, 1998).

    Below |s| = 1/2 the exponential is less than 10⁻³⁶⁸: 0 in every precision, and so is its slope.
    """
    power = (s * s).clamp(min=0.25) * WEICKERT**-0.25  # the constant inside, lest the gradient of a huge s overflows
    return s * -torch.expm1(-power.pow(-2).square())


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # In place where the gradient follows from the result: each follows a norm or a convolution, whose output is needed
    # for nothing else.
    "relu": torch.relu_,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh_,
    "constant": constant,
    "charbonnier": charbonnier,
    "perona-malik": perona_malik,
    "perona-malik-exponential": perona_malik_exponential,
    "weickert": weickert,
}

HOMOGENEOUS = frozenset({"relu", "constant"})
"""Activations with Φ(λs) = λΦ(s) for every λ > 0: a contrast λ changes nothing."""
