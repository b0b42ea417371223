"""A folder of images in class folders, as ImageNet lies on a disk: `data = "folder:/path"`.

The folder has train/CLASS/IMAGE and val/CLASS/IMAGE (or validation/), and may have test/CLASS/IMAGE. What is an image
and the number of a class are as in `torchvision.datasets.ImageFolder`: a file with one of its extensions, at any depth;
the place of the class folder's name among the sorted ones.

Without test/, as of ImageNet, val/ is the test split, and the validation split is drawn from train/, the same for every
search: of each class a tenth of its images, at most 50. On ImageNet-1k that is 50 000 images, as many as the search of
MnasNet (Tan et al. 2019, §5) keeps of its training images to validate.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odenas.search.dataset import DataSet
from odenas.search.images import fixed_order
from odenas.space.errors import OdenasError

PREFIX = "folder:"
SIZE = 224
"""Height and width of what networks see, if not given: those of ImageNet classifiers since Krizhevsky et al. 2012."""
SIZES = (8, 1024)
VALIDATION = ("val", "validation")
PER_CLASS = 50
"""Most images of a class that are drawn for validation."""
SHARE = 10
"""One training image in so many is drawn for validation."""
NEEDED = "it needs train/CLASS/IMAGE and val/CLASS/IMAGE, and may have test/CLASS/IMAGE"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, as all of torchvision's classifiers are normalised."""

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """One split of a data set, as files that are decoded batch by batch.

    Args:
        root: folder that the files' names start from.
        images: names of the files as bytes, shape (n,).
        labels: int64, shape (n,).
        size: height and width that the images are brought to.
        device: where batches go.
        decoders: processes that decode, 0 for none beside this one; None for one for each CPU of the trial, at most 4.
    """

    root: Path
    images: NDArray[np.bytes_]
    labels: Tensor
    size: int
    device: torch.device = CPU
    decoders: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, indices: NDArray[np.int64]) -> ImageFiles:
        """Return the images of these indices, in the order that they have here."""
        chosen = np.sort(indices)
        return replace(self, images=self.images[chosen], labels=self.labels[torch.from_numpy(chosen)])

    def to(self, device: torch.device) -> ImageFiles:
        """Return the split with its batches on a device."""
        return replace(self, device=device)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self.root / os.fsdecode(self.images[index])


def is_folder(name: object) -> bool:
    """Return whether a name of a data set says that it is a folder of images."""
    return isinstance(name, str) and name.startswith(PREFIX)


def full_name(name: str) -> str:
    """Return the name with an absolute path: what means the same to a process that works in another folder."""
    return PREFIX + os.path.abspath(os.path.expanduser(name.removeprefix(PREFIX))) if is_folder(name) else name


def short_name(name: str) -> str:
    """Return what a run folder is called after a data set: of a folder of images its own name."""
    if not is_folder(name):
        return name
    path, size = _parted(name)
    return path.name if size == SIZE else f"{path.name}-{size}"


@lru_cache(maxsize=16)
def image_folder(name: str) -> DataSet:
    """Return what is known of the data set `folder:PATH`, or `folder:PATH@SIZE` for images of another size than SIZE.

    The names of its files are read once in a process.

    Raises:
        OdenasError: the folder is not as this module says, in one line.
    """
    path, size = _parted(name)
    if not SIZES[0] <= size <= SIZES[1]:
        raise OdenasError(f"`data` is {name!r}, but the size of its images must be from {SIZES[0]} to {SIZES[1]}")
    if not path.is_dir():
        raise OdenasError(f"`data` is {name!r}, but {path} is no folder")
    judged = [split for split in VALIDATION if (path / split).is_dir()]
    for split, found in {"train": (path / "train").is_dir(), VALIDATION[0]: judged}.items():
        if not found:
            raise OdenasError(f"`data` is {name!r}, but {path} has no folder {split}: {NEEDED}")
    if len(judged) > 1:
        raise OdenasError(f"`data` is {name!r}, but {path} has both {' and '.join(judged)}: leave one of them")
    classes = _classes(name, path / "train")
    files = {}
    for split in ("train", *judged, *(["test"] if (path / "test").is_dir() else [])):
        if odd := sorted(set(classes) ^ set(_classes(name, path / split))):
            shown = ", ".join(odd[:3]) + (f" and {len(odd) - 3} more" if len(odd) > 3 else "")
            raise OdenasError(f"`data` is {name!r}, but its folders train and {split} differ in their classes: {shown}")
        files[split] = _files(name, path, split, classes, size)
    return _row(name, size, classes, files["train"], files[judged[0]], files.get("test"))


def held_out(labels: Tensor) -> tuple[NDArray[np.int64], int]:
    """Return an order of the indices of `labels`, shape (n,), and how many of its beginning are kept to validate.

    Those are stratified, and so is every beginning of them as far as the classes have images.
    """
    order = fixed_order(labels)
    shuffled = labels.numpy()[order]
    counts = np.bincount(shuffled)
    # The place of each image among those of its class.
    turn = np.empty(len(order), dtype=np.int64)
    turn[np.argsort(shuffled, kind="stable")] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = turn < np.where(counts > 1, np.clip(counts // SHARE, 1, PER_CLASS), 0)[shuffled]
    return np.concatenate([order[kept], order[~kept]]), int(kept.sum())


def _row(
    name: str, size: int, classes: list[str], train: ImageFiles, judged: ImageFiles, test: ImageFiles | None
) -> DataSet:
    """Return the row of a folder with these splits."""
    both = train
    if test is None:
        test, (first, validation) = judged, held_out(train.labels)
        if len(train) - validation < len(classes) or not validation:
            raise OdenasError(
                f"`data` is {name!r}, but {train.root / 'train'} has {len(train)} images of {len(classes)} classes: "
                "without a folder test it needs two or more of each class, one of them to validate"
            )
    else:
        validation = len(judged)
        both = replace(
            train, images=np.concatenate([judged.images, train.images]), labels=torch.cat([judged.labels, train.labels])
        )
        first = np.concatenate([fixed_order(judged.labels), np.arange(validation, len(both))])
    return DataSet(
        name=name,
        classes=len(classes),
        channels=3,
        size=size,
        train=len(both) - validation,
        validation=validation,
        test=len(test),
        mean=MEAN,
        std=STD,
        pad=0,
        flip=True,
        read_train=lambda folder, report: both,
        read_test=lambda folder, report: test,
        order=lambda labels: first,
    )


def _parted(name: str) -> tuple[Path, int]:
    """Return the folder and the size of images that a name gives."""
    text = full_name(name).removeprefix(PREFIX)
    path, mark, size = text.rpartition("@")
    return (Path(path), int(size)) if mark and size.isascii() and size.isdigit() else (Path(text), SIZE)


def _classes(name: str, split: Path) -> list[str]:
    """Return the names of a split's class folders, in the order of their numbers."""
    classes = sorted(entry.name for entry in os.scandir(split) if entry.is_dir())
    if len(classes) < 2:
        raise OdenasError(f"`data` is {name!r}, but {split} has {len(classes)} class folders of the 2 or more it needs")
    return classes


def _files(name: str, path: Path, split: str, classes: list[str], size: int) -> ImageFiles:
    """Return the image files of a split, class by class, in the order of torchvision's."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # takes seconds

    try:
        found = make_dataset(path / split, {label: number for number, label in enumerate(classes)}, IMG_EXTENSIONS)
    except FileNotFoundError as error:  # of a class without an image
        raise OdenasError(f"`data` is {name!r}, but of {path / split}: {error}") from None
    beginning = len(os.path.join(path, ""))
    return ImageFiles(
        root=path,
        images=np.array([os.fsencode(file[beginning:]) for file, _ in found]),
        labels=torch.tensor([number for _, number in found]),
        size=size,
    )
