"""PSNR against scikit-image's, and against the exact mean of it for Gaussian noise."""

import math
from importlib import import_module

import pytest
import torch
from scipy.special import digamma

from odenas.search.data import load_test
from odenas.search.gaussian_noise import SIGMAS, fixed_noise
from odenas.search.psnr import psnr


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_scikit_images(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = 255 * torch.rand(20, channels, 7, 9, dtype=torch.float64, generator=generator)
    spread = torch.logspace(-3, 3, 20, dtype=torch.float64).view(-1, 1, 1, 1)
    restored = clean + spread * torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    theirs = import_module("skimage.metrics").peak_signal_noise_ratio
    expected = [theirs(x.numpy(), y.numpy(), data_range=255) for x, y in zip(clean, restored, strict=True)]
    assert psnr(restored, clean).tolist() == pytest.approx(expected, rel=1e-12)
    assert (psnr(restored / 255, clean / 255, peak=1) - psnr(restored, clean)).abs().max() < 1e-9
    assert psnr(clean, clean).tolist() == [math.inf] * 20


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noisy_images_have_the_psnr_that_follows_from_the_noise(sigma: int) -> None:
    """Of n pixels the mean squared error is σ² χ²ₙ / n, and E log χ²ₙ = ψ(n/2) + log 2."""
    clean = load_test("denoise").images
    (noisy,) = fixed_noise(iter([clean]), sigma)
    found = psnr(noisy, clean.float())
    pixels = clean[0].numel()
    lost = 10 / math.log(10) * (digamma(pixels / 2) - math.log(pixels / 2))
    deviation = 10 / math.log(10) * math.sqrt(2 / pixels)  # of the PSNR of one image
    exact = 20 * math.log10(255 / sigma) - lost
    assert found.mean().item() == pytest.approx(exact, abs=3 * deviation / math.sqrt(len(clean)))
    assert found.std().item() == pytest.approx(deviation, rel=0.15)
