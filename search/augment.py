"""Augmentation of a whole batch at once, on the device that holds the data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(images: Tensor, pad: int, flip: bool, generator: torch.Generator, turn: bool = False) -> Tensor:
    """Return each image shifted by up to `pad` pixels (zeros come in) and, if `flip`, mirrored with probability ½.

    If `turn`, each is turned by 0, 1, 2 or 3 quarters as well, one as probable as the other.

    Args:
        images: (batch, channels, height, width), any type.
        pad: largest shift in pixels, up and down, left and right; He et al. 2016 pad CIFAR by 4.
        flip: whether to mirror left and right.
        generator: on the CPU, so that a seed gives the same batches on every device.
        turn: whether to turn; the images must be square.
    """
    if turn:
        images = _turned(images, torch.randint(4, (len(images), 1, 1, 1), generator=generator).to(images.device))
    count, channels, height, width = images.shape
    if pad:
        shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator).to(images.device)
        rows = shift[0] + torch.arange(height, device=images.device)
        columns = shift[1] + torch.arange(width, device=images.device)
    else:
        rows = torch.arange(height, device=images.device).expand(count, height)
        columns = torch.arange(width, device=images.device).expand(count, width)
    if flip:
        mirrored = (torch.rand((count, 1), generator=generator) < 0.5).to(images.device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    if not pad and not flip:
        return images
    padded = functional.pad(images, (pad, pad, pad, pad)).flatten(2)
    pixels = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
    # One gather is five times as fast as indexing by image, channel, row and column.
    return padded.gather(2, pixels.flatten(1)[:, None].expand(-1, channels, -1)).view_as(images)


def _turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Return each image turned by its number of quarters, shape (batch, 1, 1, 1), anticlockwise."""
    turned = torch.where(quarters % 2 == 1, images.rot90(1, (2, 3)), images)
    return torch.where(quarters >= 2, turned.rot90(2, (2, 3)), turned)
