"""A guaranteed bound of the spectral norm of a convolution, cheap enough for every training step.

A zero-padded convolution of n pixels is a part of the circular one on a ring of n + 1 or more, where the added pixels
stay 0; so its norm is at most that of the circular one: the largest norm of its symbol σ(θ) = Σ_k K_k e^{ikθ}, a
complex matrix (outputs, inputs), over the frequencies θ of the ring (Sedghi, Gupta, Long, "The singular values of
convolutional layers", 2019). Two steps bound this from above:

- A ring of more than `FREQUENCIES` pixels is taken as infinite, and its circle of frequencies replaced by so many, at
  the distance 2π/N. Re(u*σ(θ)v) = a + b cos(θ − φ) for any vectors u, v; where this is largest in modulus, |a| + |b|, a
  frequency lies nearer than π/N, and there it is at least cos(π/N)(|a| + |b|) in modulus. So the norm is at most
  1/cos(π/N) times its maximum over the N frequencies; and so along either axis.
- With G = σ*σ the norm is at most ‖G^m‖_F^{1/2m}, m = 2^{T−1} by T − 1 squarings, and this at most C^{1/4m} times the
  norm, with C the fewer of outputs and inputs (Gram iteration: Delattre, Barthélemy, Araujo, Allauzen, "Efficient bound
  of Lipschitz constant for convolutional layers by Gram iteration", 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

FREQUENCIES = 12
"""Frequencies along an axis of a large image: the bound is at most 1.036 times too large by this, 1.072 by both."""

PRODUCTS = 5
"""T. The bound is at most C^{1/64} times too large by this: 1.07 for 64 channels, all of one singular value."""

LEAST = 1e-12
"""The least bound that is returned, so that one may divide by it."""

TINY = 1e-18  # the least scale that a Gram matrix is divided by; its square is still a float32


def spectral_norm_bound(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return a bound of the norm of the zero-padded convolution with the kernel, stride 1, a scalar: never below it.

    Of float64 in float64, else in float32, also under autocast. It bounds the transposed convolution too. Its gradient
    is exact where no two frequencies attain the maximum; second derivatives come out as 0, which they are not.

    Args:
        kernel: (outputs, inputs, 3, 3).
        height, width: of the images. The bound falls, by little, with smaller images.

    Raises:
        ValueError: the kernel is not 3×3.
    """
    if kernel.dim() != 4 or kernel.shape[2:] != (3, 3):
        raise ValueError(f"`kernel` is of the shape {tuple(kernel.shape)}, but must be (outputs, inputs, 3, 3)")
    with torch.autocast(kernel.device.type, enabled=False):
        kernel = kernel if kernel.dtype == torch.float64 else kernel.float()
        kernel = kernel.transpose(0, 1) if kernel.shape[0] < kernel.shape[1] else kernel
        with torch.no_grad():
            bound, gradient = _bound_and_gradient(kernel, height, width)
        return bound + (gradient * (kernel - kernel.detach())).sum()


def _bound_and_gradient(kernel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the bound and its gradient, of a kernel with at least as many outputs as inputs."""
    scale = kernel.abs().amax().clamp(min=LEAST)
    kernel = kernel / scale
    taps = kernel.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)
    phases, correction = _phases(kernel, height, width)
    cosines, sines = phases.cos(), phases.sin()
    real, imaginary = ((each @ taps).view(-1, *kernel.shape[:2]) for each in (cosines, sines))
    norms = torch.ones_like(real[:, :1, :1])
    for size in reversed([size for _, _, size in _gram_powers(real, imaginary)]):
        norms = (size * norms).sqrt()
    largest, at = norms.flatten().max(0, keepdim=True)

    # With Y = σG^{2m−1}, the differential of the bound is Re tr(Y* dσ) but for a factor, which follows from Euler's
    # theorem: the bound is homogeneous of degree 1.
    real, imaginary = real[at], imaginary[at]
    y, z = real, imaginary
    for P, Q, _ in _gram_powers(real, imaginary):
        y, z = y @ P - z @ Q, y @ Q + z @ P
    gradient = cosines[at].mT @ y.flatten(1) + sines[at].mT @ z.flatten(1)
    rounding = 1 + torch.finfo(kernel.dtype).eps * (16 + kernel.shape[0] + kernel.shape[1])
    bound = largest.squeeze() * (correction * rounding)
    gradient = gradient * (bound / (gradient * taps).sum().clamp(min=TINY))
    gradient = gradient.view(3, 3, *kernel.shape[:2]).permute(2, 3, 0, 1)
    return (scale * bound).clamp(min=LEAST), gradient


def _phases(like: Tensor, height: int, width: int) -> tuple[Tensor, float]:
    """Return kθ, (frequencies, 9), and by what the maximum over the frequencies may fall short, at most."""
    correction, angles = 1.0, []
    for pixels in (height + 1, width + 1):
        count = min(pixels, FREQUENCIES)
        correction /= math.cos(math.pi / count) if count < pixels else 1
        angles.append(torch.arange(count, device=like.device, dtype=like.dtype) * (2 * math.pi / count))
    rows, columns = angles
    columns = columns[: len(columns) // 2 + 1]  # the symbol of a real kernel is conjugate at −θ
    offsets = torch.arange(-1, 2, device=like.device, dtype=like.dtype)
    down, right = rows[:, None] * offsets, columns[:, None] * offsets
    return (down[:, None, :, None] + right[None, :, None, :]).flatten(0, 1).flatten(1), correction


def _gram_powers(real: Tensor, imaginary: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield σ*σ, its square, the square of that, …, each divided by its Frobenius norm before, and these norms.

    As real matrices: P + iQ is Hermitian, so that P is symmetric and Q antisymmetric, and its square has the real part
    (P + Q)ᵀ(P + Q) − (M + Mᵀ) and the imaginary part M − Mᵀ with M = PQ: two real products, where complex numbers need
    four.
    """
    P, M = torch.baddbmm(real.mT @ real, imaginary.mT, imaginary), real.mT @ imaginary
    Q = M - M.mT
    for count in range(PRODUCTS):
        if count:
            M, S = P @ Q, P + Q
            P, Q = torch.baddbmm(M + M.mT, S.mT, S, beta=-1), M - M.mT
        size = (P.square() + Q.square()).sum((1, 2), keepdim=True).clamp(min=TINY**2).sqrt()
        P, Q = P / size, Q / size
        yield P, Q, size
