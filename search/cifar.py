"""The binary version of CIFAR-10 and CIFAR-100: an archive of records, each labels and then the planes R, G and B."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from odenas.search.cache import Recipe, read
from odenas.search.download import download
from odenas.search.images import Images, to_images
from odenas.search.sources import Report

HOST = "https://www.cs.toronto.edu/~kriz/"
SIZE = 32
PIXELS = 3 * SIZE * SIZE


def published(archive: str, md5: str, kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the .bin files of an archive at the authors' host."""
    with tarfile.open(download(HOST + archive, md5, kept, report)) as opened:  # read from, never unpacked
        for member in opened:
            if member.name.endswith(".bin") and (file := opened.extractfile(member)):
                yield PurePosixPath(member.name).name, file.read()


def read_images(recipe: Recipe, names: Sequence[str], labels: int, folder: Path, report: Report) -> Images:
    """Return the images of the named files, whose records begin with `labels` bytes; the last of them is the class."""
    blocks = [np.frombuffer(content, np.uint8) for content in read(recipe, names, folder, report)]
    records = np.concatenate(blocks).reshape(-1, labels + PIXELS)
    return to_images(records[:, labels:].reshape(-1, 3, SIZE, SIZE), records[:, labels - 1])
