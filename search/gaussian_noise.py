"""Gaussian noise on images: drawn anew for training, fixed for judging.

A noisy image is y = x + n with n ~ N(0, σ²) in each pixel and channel, on the scale of the pixels, 0 .. 255. It is
neither rounded nor clipped to 0 .. 255, so that the noise is Gaussian and of the same size everywhere (Zhang et al.,
"Beyond a Gaussian Denoiser", IEEE TIP 2017, whose levels these are).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from odenas.search.images import SPLIT_SEED

SIGMAS = (15, 25, 50)
"""Standard deviations of the noise, in grey levels of 0 .. 255."""


def fresh_noise(images: Tensor, generator: torch.Generator, sigmas: Sequence[float] = SIGMAS) -> Tensor:
    """Return float32 images with noise, of a level that is drawn for each of them from `sigmas` alike.

    Args:
        images: (batch, channels, height, width) on the scale 0 .. 255, any type.
        generator: on the CPU, so that a seed gives the same noise on every device.
        sigmas: the levels to draw from.
    """
    level = torch.tensor(sigmas, dtype=torch.float32)[torch.randint(len(sigmas), (len(images),), generator=generator)]
    noise = torch.randn(images.shape, generator=generator) * level.view(-1, 1, 1, 1)
    return images.to(torch.float32) + noise.to(images.device)


def fixed_noise(batches: Iterator[Tensor], sigma: float) -> Iterator[Tensor]:
    """Yield each batch of images as float32 with noise of one level, the same at every call.

    The noise depends on the level and on the place of an image among all of them, not on how they are divided into
    batches, nor on the seed of a search or of a trial.

    Args:
        batches: images on the scale 0 .. 255, each batch (n, channels, height, width), any type.
        sigma: standard deviation on that scale.
    """
    # RandomState, because its stream never changes (NEP 19).
    random = np.random.RandomState([SPLIT_SEED, round(1000 * sigma)])
    for images in batches:
        noise = torch.from_numpy(sigma * random.standard_normal(tuple(images.shape))).to(torch.float32)
        yield images.to(torch.float32) + noise.to(images.device)
