"""The bound of a convolution's norm: never below the norm of the matrix written out, and near to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from odenas.nets import spectral_norm
from odenas.nets.spectral_norm import FREQUENCIES, LEAST, PRODUCTS, spectral_norm_bound

SHAPES = [  # outputs, inputs, height, width; larger than the grid of frequencies along none, one and both axes
    (1, 1, 7, 9),
    (3, 3, 5, 5),
    (5, 2, 4, 8),
    (2, 5, 11, 3),
    (2, 1, 12, 11),
    (2, 2, 2, 24),
    (1, 2, 14, 13),
    (4, 4, 2, 2),
    (3, 3, 1, 1),
]


def true_norm(kernel: Tensor, height: int, width: int) -> float:
    """Return the largest singular value of the convolution's matrix, in float64."""
    kernel = kernel.double()
    kernel = kernel.flip(2, 3).transpose(0, 1) if kernel.shape[0] < kernel.shape[1] else kernel  # of the same norm
    unit = torch.eye(kernel.shape[1] * height * width, dtype=torch.float64).view(-1, kernel.shape[1], height, width)
    matrix = functional.conv2d(unit, kernel, padding=1).flatten(1).T.numpy()
    return float(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]))


def kernels(outputs: int, inputs: int) -> dict[str, Tensor]:
    """Return kernels in float64: random, of one sign, of rank one, a mere tap, and those of derivatives."""
    derivative = torch.tensor([[0.0, 0, 0], [0, -1, 1], [0, 0, 0]], dtype=torch.float64)
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)
    tap = torch.zeros(outputs, inputs, 3, 3, dtype=torch.float64)
    tap[0, 0, 0, 2] = -3
    random = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64)
    rank_one = torch.einsum("o,i,a,b->oiab", *(torch.randn(n, dtype=torch.float64) for n in (outputs, inputs, 3, 3)))
    mixing = torch.randn(outputs, inputs, 1, 1, dtype=torch.float64)
    shown = {"random": random, "positive": random.abs(), "rank one": rank_one, "tap": tap}
    return shown | {"derivative": mixing * derivative, "Laplacian": mixing * laplacian}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_bounds_the_norm(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    torch.manual_seed(sum(shape))
    for _ in range(3):
        for name, kernel in kernels(*shape[:2]).items():
            kernel = kernel.to(dtype)
            norm = true_norm(kernel, *shape[2:])
            assert float(spectral_norm_bound(kernel, *shape[2:])) >= norm * (1 - 1e-6), name


def test_it_is_as_near_as_it_says_to_the_norm_of_the_circular_convolution() -> None:
    """Of the ring of n + 1 pixels, where the frequencies are exact, and of an infinite one, where they are not."""
    torch.manual_seed(0)
    for size, fine in ((8, 9), (FREQUENCIES - 1, FREQUENCIES), (40, 96)):
        for channels in (1, 3):
            for kernel in kernels(channels, channels).values():
                symbol = torch.fft.fft2(kernel, s=(fine, fine)).permute(2, 3, 0, 1)
                norm = float(torch.linalg.matrix_norm(symbol, 2).max())
                most = channels ** (0.5**PRODUCTS / 2) * (1 + 1e-6)
                most /= 1 if size < FREQUENCIES else math.cos(math.pi / FREQUENCIES) ** 2
                assert norm * (1 - 1e-3) <= float(spectral_norm_bound(kernel, size, size)) <= norm * most


def test_it_is_tight_on_images() -> None:
    """Within 15 per cent of the norm of the matrix for random kernels on images of 8×8 pixels or more."""
    torch.manual_seed(1)
    ratios = []
    for shape in ((1, 1, 8, 8), (3, 3, 8, 8), (5, 5, 8, 8), (2, 1, 16, 16), (1, 3, 16, 20)):
        for _ in range(2):
            kernel = torch.randn(*shape[:2], 3, 3, dtype=torch.float64)
            ratios.append(float(spectral_norm_bound(kernel, *shape[2:])) / true_norm(kernel, *shape[2:]))
    assert min(ratios) >= 1
    assert max(ratios) < 1.15


def test_it_is_exact_where_the_norm_is_known() -> None:
    """A shift has the norm 1, forward differences on a ring of an even number of pixels 2, the Laplacian 8."""
    taps = {(2, 2): 1.0}
    assert bound_of(taps, 7) == pytest.approx(1, rel=1e-9)
    assert bound_of({(1, 1): -1.0, (1, 2): 1.0}, 7) == pytest.approx(2, rel=1e-9)
    assert bound_of({(0, 1): 1.0, (1, 0): 1.0, (1, 1): -4.0, (1, 2): 1.0, (2, 1): 1.0}, 7) == pytest.approx(8, rel=1e-9)


def bound_of(taps: dict[tuple[int, int], float], size: int) -> float:
    kernel = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    for place, value in taps.items():
        kernel[0, 0, place[0], place[1]] = value
    return float(spectral_norm_bound(kernel, size, size))


def test_on_a_large_image_it_holds_for_every_frequency() -> None:
    """Also for the symbol 4 cos(θ − φ) cos(θ' − φ), φ = π/N, whose maxima all lie amidst frequencies of the grid."""
    phase = math.pi / FREQUENCIES
    row = torch.polar(torch.tensor([1.0, 0.0, 1.0]).double(), phase * torch.tensor([1.0, 0.0, -1.0]).double())
    kernel = torch.outer(row, row)
    # (real, −imaginary; imaginary, real) acts on pairs as the complex kernel does on complex numbers.
    pairs = torch.stack([torch.stack([kernel.real, -kernel.imag]), torch.stack([kernel.imag, kernel.real])])
    assert 4 * (1 - 1e-9) <= float(spectral_norm_bound(pairs, 300, 300)) <= 4 * 2 ** (0.5**PRODUCTS / 2) * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (3, 2, 4, 15), (2, 2, 30, 13)])
def test_its_gradient_is_that_of_differences(shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(3)
    kernel = torch.randn(*shape[:2], 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: spectral_norm_bound(given, *shape[2:]), (kernel,))


def test_it_scales_with_the_kernel() -> None:
    """Over the range of float32, down to its least value; there its gradient, too, is finite."""
    torch.manual_seed(4)
    kernel = torch.randn(3, 4, 3, 3)
    expected = float(spectral_norm_bound(kernel, 6, 6))
    for scale in (1e-10, 1e-5, 1e5, 1e20, 1e35):
        scaled = (kernel * scale).requires_grad_()
        bound = spectral_norm_bound(scaled, 6, 6)
        bound.backward()  # type: ignore[no-untyped-call]
        assert float(bound.detach()) == pytest.approx(expected * scale, rel=1e-4)
        assert scaled.grad is not None
        assert scaled.grad.isfinite().all()
    zeros = torch.zeros(3, 4, 3, 3, requires_grad=True)
    bound = spectral_norm_bound(zeros, 6, 6)
    bound.backward()  # type: ignore[no-untyped-call]
    assert float(bound.detach()) == pytest.approx(LEAST)
    assert zeros.grad is not None
    assert not zeros.grad.any()


def test_it_is_of_float32_at_least() -> None:
    """Also under autocast, which would multiply matrices in bfloat16."""
    torch.manual_seed(5)
    kernel = torch.randn(8, 8, 3, 3)
    expected = spectral_norm_bound(kernel, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        bound = spectral_norm_bound(kernel, 8, 8)
    assert bound.dtype == torch.float32
    assert float(bound) == float(expected)
    low = spectral_norm_bound(kernel.bfloat16(), 8, 8)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(spectral_norm_bound(kernel.bfloat16().float(), 8, 8)), rel=1e-6)
    assert spectral_norm_bound(kernel.double(), 8, 8).dtype == torch.float64


def test_rounding_does_not_bring_it_below() -> None:
    """Of a single singular value, where the Gram iteration is exact and leaves nothing to spare, in float32."""
    torch.manual_seed(7)
    ratios = []
    for channels in (1, 1, 8):
        for _ in range(60):
            kernel = torch.randn(1, 1, 3, 3) * torch.randn(channels, 1, 1, 1) * torch.randn(1, channels, 1, 1)
            symbol = torch.fft.fft2(kernel.double(), s=(9, 9)).permute(2, 3, 0, 1)
            ratios.append(float(spectral_norm_bound(kernel, 8, 8)) / float(torch.linalg.matrix_norm(symbol, 2).max()))
    assert min(ratios) >= 1
    assert max(ratios) < 1 + 1e-5


def test_more_products_and_frequencies_bring_it_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """They converge from above to the norm of the infinite convolution."""
    torch.manual_seed(6)
    kernel = torch.randn(4, 4, 3, 3, dtype=torch.float64)
    norm = float(torch.linalg.matrix_norm(torch.fft.fft2(kernel, s=(300, 300)).permute(2, 3, 0, 1), 2).max())
    excess = []
    for products, frequencies in ((2, 6), (4, 12), (6, 24), (9, 96)):
        monkeypatch.setattr(spectral_norm, "PRODUCTS", products)
        monkeypatch.setattr(spectral_norm, "FREQUENCIES", frequencies)
        excess.append(float(spectral_norm_bound(kernel, 500, 500)) / norm - 1)
    assert excess == sorted(excess, reverse=True)
    assert 0 <= excess[-1] < 3e-3


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 5, 5), (3, 3, 1, 1)])
def test_another_kernel_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`kernel`"):
        spectral_norm_bound(torch.ones(shape), 8, 8)
