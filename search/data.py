"""Loading of data sets: train and validation for a search, and the test split apart."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace

import numpy as np

from odenas.search.cache import cache_folder
from odenas.search.cifar10 import CIFAR10
from odenas.search.cifar100 import CIFAR100
from odenas.search.dataset import DataSet
from odenas.search.denoise import DENOISE
from odenas.search.digits import DIGITS
from odenas.search.fashion_mnist import FASHION_MNIST
from odenas.search.image_folder import ImageFiles, image_folder, is_folder
from odenas.search.images import Split, stratified
from odenas.search.metric import Metric
from odenas.search.mnist import MNIST
from odenas.search.sources import Report
from odenas.search.tasks import task_of
from odenas.space.errors import OdenasError, unknown

DATASETS = {
    "digits": DIGITS,
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "denoise": DENOISE,
}

_log: Report = logging.getLogger("odenas").warning


@dataclass(frozen=True, eq=False)
class Data:
    """What a search sees of a data set."""

    train: Split
    validation: Split


def load(
    name: str,
    *,
    train_size: int | None = None,
    validation_size: int | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    report: Report = _log,
    decoders: int | None = None,
) -> Data:
    """Return train and validation, obtaining the data set where the cache has it not or damaged.

    Train and validation are disjoint and the same for every seed; both draws are stratified, and contain the smaller
    draws of the same seed.

    Args:
        name: one of DATASETS, or of a folder of images (see `image_folder`).
        train_size: how many training images to draw; None for all.
        validation_size: how many validation images to draw, the same for every seed; None for all with the whole of
            train, else for train_size / 2 but at least 1000, where there are so many, so that judging costs little
            beside training.
        seed: of the draw of training images, 0 to 2³² − 1.
        folder: of the cache; see `cache_folder`.
        report: called with each line about obtaining the data set.
        decoders: of a folder of images, the processes that decode; see `ImageFiles`.

    Raises:
        OdenasError: an argument is out of range, no source can give the data, or the folder cannot hold them.
    """
    row = dataset(name)
    _check("train_size", train_size, row.classes, row.train)
    _check("validation_size", validation_size, row.classes, row.validation)
    _check("seed", seed, 0, 2**32 - 1)
    if validation_size is None:
        validation_size = row.validation if train_size is None else min(row.validation, max(1000, train_size // 2))
    both = row.read_train(cache_folder(folder), report)
    if isinstance(both, ImageFiles):
        both = replace(both, decoders=decoders)
    order = row.order(both.labels)
    train = np.sort(order[row.validation :])
    if train_size is not None:
        train = train[stratified(both.labels[train], seed)[:train_size]]
    return Data(train=both.pick(train), validation=both.pick(order[:validation_size]))


def load_test(name: str, folder: str | os.PathLike[str] | None = None, report: Report = _log) -> Split:
    """Return the test split, obtaining the data set as `load` does.

    Raises:
        OdenasError: as in `load`.
    """
    return dataset(name).read_test(cache_folder(folder), report)


def prepare(name: str, folder: str | os.PathLike[str] | None = None, report: Report = print) -> DataSet:
    """Obtain a data set where the cache has it not or damaged, verify all of it, and return what is known of it.

    Raises:
        OdenasError: as in `load`.
    """
    row, place = dataset(name), cache_folder(folder)
    for read in (row.read_train, row.read_test):
        split = read(place, report)
        if isinstance(split, ImageFiles):
            from odenas.search.decoding import decode_all  # imports torchvision, which takes seconds

            decode_all(split, row, report)
    counts = f"{row.train} training, {row.validation} validation and {row.test} test images"
    report(f"{name}: {counts} of {row.channels}×{row.size}×{row.size}, {row.classes} {task_of(row).labels}, verified")
    return row


def metric_of(name: str) -> Metric:
    """Return what judges networks on a data set.

    Raises:
        OdenasError: there is no such data set.
    """
    return task_of(dataset(name)).metric


def dataset(name: str) -> DataSet:
    """Return what is known of a data set.

    Raises:
        OdenasError: there is no such data set.
    """
    if is_folder(name):
        return image_folder(name)
    if not isinstance(name, str) or name not in DATASETS:
        raise unknown("data", name, [*DATASETS, "folder:PATH"])
    return DATASETS[name]


def _check(name: str, value: int | None, low: int, high: int) -> None:
    """Refuse what is neither None nor an integer of low .. high."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
        raise OdenasError(f"`{name}` is {value!r}, but must be an integer from {low} to {high}")
