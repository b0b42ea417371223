"""Labelled images in memory, and a stratified order of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SPLIT_SEED = 0  # of the splits that every search shares


class Split(Protocol):
    """The labelled images of one split of a data set, wherever they lie."""

    @property
    def images(self) -> Any:
        """The images themselves, or what names each of them."""

    @property
    def labels(self) -> Tensor:
        """Shape (n,), int64."""

    def __len__(self) -> int: ...

    def pick(self, indices: NDArray[np.int64]) -> Self:
        """Return the images of these indices, in the order that they have here."""

    def to(self, device: torch.device) -> Self:
        """Return the split with its batches on a device."""


@dataclass(frozen=True, eq=False)
class Images:
    """One split of a data set, in memory.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, indices: NDArray[np.int64]) -> Images:
        """Return the images of these indices, in the order that they have here."""
        chosen = torch.from_numpy(np.sort(indices))
        return Images(self.images[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> Images:
        """Return the images on a device."""
        return Images(self.images.to(device), self.labels.to(device))


def to_images(pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> Images:
    """Return pixels, shape (n, channels, height, width), and labels, shape (n,), as a split."""
    pixels = np.require(pixels, requirements=["C", "W"])  # copies what is read-only, as a file's content is
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))


def fixed_order(labels: Tensor) -> NDArray[np.int64]:
    """Return the stratified order that every search shares."""
    return stratified(labels, SPLIT_SEED)


def stratified(labels: Tensor, seed: int) -> NDArray[np.int64]:
    """Return a random order of the indices of `labels`, shape (n,), of which every beginning is stratified.

    The classes take turns, so that their counts among the first m differ by at most one, for every m up to where a
    class is used up. The orders of two m agree: a larger draw contains a smaller one of the same seed.
    """
    # RandomState, because its stream never changes (NEP 19); that of a Generator may with the version of numpy.
    order = np.random.RandomState(seed).permutation(len(labels))
    shuffled = labels.numpy()[order]
    turn = np.empty(len(order), dtype=np.int64)
    for label in np.unique(shuffled):
        members = shuffled == label
        turn[members] = np.arange(members.sum())
    return order[np.argsort(turn, kind="stable")].astype(np.int64)
