"""Linear systems A_b x_b = r_b, one for each image b of a batch, by Krylov methods that need products with A alone.

All images are solved side by side and stop one by one: an image that has reached its tolerance stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


class Solution(NamedTuple):
    """What a Krylov method found: x, r − Ax as the method updates it, both of the shape of r, and for each image a
    lower bound of ‖A‖ from the products seen, (batch, 1, 1, 1)."""

    x: Tensor
    residual: Tensor
    norm: Tensor


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner product of each image, (batch, 1, 1, 1)."""
    return (x * y).sum((1, 2, 3), keepdim=True)


def size(x: Tensor) -> Tensor:
    """Return the Euclidean norm of each image, (batch, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm


def conjugate_gradients(
    product: Product, right: Tensor, tolerance: Tensor, limit: int, radius: Tensor | None = None
) -> Solution:
    """Solve with symmetric A (Hestenes & Stiefel 1952; Nocedal & Wright, Numerical Optimization, 2nd ed., 5.1).

    Args:
        product: A times a tensor (batch, channels, height, width).
        right: r.
        tolerance: for each image the norm of the residual to reach, (batch, 1, 1, 1).
        limit: the largest number of products.
        radius: if given, an image ends on the sphere ‖x‖ = radius where it would leave it, or where a direction p of
            pᵀAp ≤ 0 shows, so that xᵀAx/2 − rᵀx falls all the way (Steihaug 1983; Nocedal & Wright, algorithm 7.2).
    """
    x, residual, direction = torch.zeros_like(right), right, right
    square = dot(residual, residual)
    norm = torch.zeros_like(square)
    active = square > tolerance.square()
    for _ in range(limit):
        if not active.any():
            break
        image = product(direction)
        length = dot(direction, direction)
        norm = torch.maximum(norm, torch.where(active, size(image) / length.sqrt(), 0))
        curvature = dot(direction, image)
        share = square / torch.where(curvature == 0, 1, curvature)
        if radius is not None:
            # The share > 0 with which x + share · direction is on the sphere.
            along, room = dot(x, direction), radius.square() - dot(x, x)
            longest = room / (along + (along.square() + length * room).clamp_min(0).sqrt())
            ends = (curvature <= 0) | (share >= longest)
            share = torch.where(ends, longest, share)
        share = torch.where(active, share, 0)
        x = x + share * direction
        residual = residual - share * image
        before, square = square, dot(residual, residual)
        active = active & (square > tolerance.square())
        if radius is not None:
            active = active & ~ends
        direction = residual + torch.where(active, square / before, 0) * direction
    return Solution(x, residual, norm)


def least_squares(product: Product, transposed: Product, right: Tensor, tolerance: Tensor, limit: int) -> Solution:
    """Solve with any A by conjugate gradients on AᵀAx = Aᵀr, which reduce ‖r − Ax‖ in every step.

    In the form CGLS, which forms no AᵀA (Hestenes & Stiefel 1952, section 10; Paige & Saunders 1982, LSQR, section
    7.1). For the spectra on a line 1 + iℝ that oscillations have, no Krylov method needs far fewer products, and this
    one keeps four vectors.

    Args:
        product, transposed: A and Aᵀ times a tensor (batch, channels, height, width).
        right, tolerance, limit: as of `conjugate_gradients`; `limit` is for each of the two products.
    """
    x, residual = torch.zeros_like(right), right
    active = size(residual) > tolerance
    gradient = transposed(residual) if active.any() else right
    direction, square = gradient, dot(gradient, gradient)
    norm = torch.zeros_like(square)
    for _ in range(limit):
        active = active & (square > 0)
        if not active.any():
            break
        image = product(direction)
        length = dot(image, image)
        norm = torch.maximum(norm, torch.where(active, (length / dot(direction, direction)).sqrt(), 0))
        share = torch.where(active, square / torch.where(length == 0, 1, length), 0)
        x = x + share * direction
        residual = residual - share * image
        active = active & (size(residual) > tolerance)
        gradient = transposed(residual)
        before, square = square, dot(gradient, gradient)
        direction = gradient + torch.where(active, square / before, 0) * direction
    return Solution(x, residual, norm)
