"""The peak signal-to-noise ratio: how near a restored image comes to the clean one."""

from __future__ import annotations

import torch
from torch import Tensor

PEAK = 255.0


def psnr(restored: Tensor, clean: Tensor, peak: float = PEAK) -> Tensor:
    """Return the PSNR of each image in dB, shape (batch,); larger is better, and it is infinite for equal images.

    PSNR = 10 log₁₀(peak² / MSE) with the mean squared error over the pixels and channels of one image (Gonzalez &
    Woods, Digital Image Processing; `skimage.metrics.peak_signal_noise_ratio`). Of the noisy image itself it is
    20 log₁₀(255 / σ), up to chance: 24.6, 20.2 and 14.2 dB for σ = 15, 25 and 50. Nothing is rounded or clipped.

    Args:
        restored, clean: (batch, …), on the scale 0 .. peak.
        peak: the largest value that a pixel can have.
    """
    mean_squared_error = (restored - clean).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / mean_squared_error)
