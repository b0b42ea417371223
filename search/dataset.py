"""What is known of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from odenas.search.images import Images
from odenas.search.sources import Report


@dataclass(frozen=True)
class DataSet:
    """A data set of labelled square images.

    Args:
        name: its name on the command line.
        classes: number of classes; labels are 0 .. classes − 1.
        channels: of the images.
        size: height and width of the images.
        train, validation, test: numbers of images in the whole splits.
        mean, std: of each channel of pixels / 255, over train and validation together.
        pad: pixels of zero padding before a random crop of the original size, which suits the data in training.
        flip: whether a random horizontal flip suits the data in training.
        read_train: returns train and validation together, given the cache folder and where to report.
        read_test: likewise returns the test split; reads no other.
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
    read_train: Callable[[Path, Report], Images] = field(repr=False)
    read_test: Callable[[Path, Report], Images] = field(repr=False)
