"""What is known of a data set, and the scale on which networks see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odenas.search.cache import Recipe
from odenas.search.images import Split, fixed_order
from odenas.search.sources import Report


@dataclass(frozen=True)
class DataSet:
    """A data set of labelled square images.

    Args:
        name: its name on the command line.
        classes: number of classes, or of photographs where there are none; labels are 0 .. classes − 1.
        channels: of the images.
        size: height and width of the images.
        train, validation, test: numbers of images in the whole splits.
        mean, std: of each channel of pixels / 255, over train and validation together.
        pad: pixels of zero padding before a random crop of the original size, which suits the data in training.
        flip: whether a random horizontal flip suits the data in training.
        read_train: returns train and validation together, given the cache folder and where to report.
        read_test: likewise returns the test split; reads no other.
        turn: whether random quarter turns suit the data in training.
        order: returns an order of the indices of train and validation together, given their labels: the first
            `validation` of it are the validation split.
        task: what is asked of a network; a row of TASKS.
        files: what the cache keeps of it; None where another package brings the data.
    """

    name: str
    classes: int
    channels: int
    size: int
    train: int
    validation: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool
    read_train: Callable[[Path, Report], Split] = field(repr=False)
    read_test: Callable[[Path, Report], Split] = field(repr=False)
    turn: bool = False
    order: Callable[[Tensor], NDArray[np.int64]] = field(default=fixed_order, repr=False)
    task: str = "classification"
    files: Recipe | None = field(default=None, repr=False)


def normalise(images: Tensor, data_set: DataSet) -> Tensor:
    """Return images on the scale 0 .. 255 as float32 with mean 0 and deviation 1 per channel over train and validation.

    Their memory is channels last.
    """
    shape = (1, -1, 1, 1)
    mean = torch.tensor(data_set.mean, device=images.device).view(shape)
    scale = 1 / (255 * torch.tensor(data_set.std, device=images.device)).view(shape)
    floats = images.contiguous(memory_format=torch.channels_last).to(torch.float32)
    return (floats - 255 * mean).mul_(scale)
