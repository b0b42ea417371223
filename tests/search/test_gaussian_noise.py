"""Noise on images: Gaussian, of the stated levels, anew in training and the same whenever a network is judged."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from odenas.search.gaussian_noise import SIGMAS, fixed_noise, fresh_noise

IMAGES = torch.randint(0, 256, (90, 1, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def fixed(images: Tensor, sigma: float, batch: int) -> Tensor:
    return torch.cat(list(fixed_noise(iter(torch.split(images, batch)), sigma)))


def assert_gaussian(noise: Tensor, sigma: float) -> None:
    """Kolmogorov–Smirnov; the samples are fixed by their seeds, so that it does not fail by chance."""
    assert stats.kstest(noise.flatten().double().numpy() / sigma, "norm").pvalue > 0.01


@pytest.mark.parametrize("sigma", SIGMAS)
def test_fixed_noise_is_gaussian_and_the_same_however_the_images_are_divided(sigma: int) -> None:
    noisy = fixed(IMAGES, sigma, 90)
    assert noisy.dtype == torch.float32
    assert_gaussian(noisy - IMAGES, sigma)
    torch.manual_seed(5)  # no other generator has a say
    for batch in (1, 7, 64):
        assert torch.equal(fixed(IMAGES, sigma, batch), noisy)


def test_the_levels_have_noise_of_their_own() -> None:
    noises = [((fixed(IMAGES, sigma, 90) - IMAGES) / sigma).flatten() for sigma in SIGMAS]
    correlations = torch.corrcoef(torch.stack(noises))
    assert abs(correlations - torch.eye(len(SIGMAS))).max() < 4 / math.sqrt(IMAGES.numel())


def test_fresh_noise_has_every_level_alike_and_one_for_each_image() -> None:
    images = IMAGES[:1].expand(3000, -1, -1, -1)
    noise = fresh_noise(images, torch.Generator().manual_seed(0)) - images
    deviations = noise.flatten(1).std(1)
    level = torch.stack([abs(deviations / sigma - 1) for sigma in SIGMAS]).argmin(0)
    assert level.bincount().tolist() == pytest.approx([1000] * 3, abs=100)
    for index, sigma in enumerate(SIGMAS):
        assert_gaussian(noise[level == index][:100], sigma)


def test_fresh_noise_is_drawn_anew_from_the_generator_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = fresh_noise(IMAGES, generator), fresh_noise(IMAGES, generator)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(fresh_noise(IMAGES, torch.Generator().manual_seed(0)), first)
    assert not any(torch.equal(fixed(IMAGES, sigma, 90)[i], first[i]) for sigma in SIGMAS for i in range(90))


def test_noisy_pixels_are_neither_clipped_nor_rounded() -> None:
    black = torch.zeros(20, 1, 16, 16, dtype=torch.uint8)
    for noisy in (fixed(black, 25, 20), fresh_noise(black, torch.Generator().manual_seed(0))):
        assert (noisy < 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
        assert (noisy != noisy.round()).any()
    white = black + 255
    assert (fixed(white, 25, 20) > 255).any()
