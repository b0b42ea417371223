"""IDX, the file format of MNIST and of Fashion-MNIST, which share names, shapes and splits."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from odenas.search.cache import Recipe, read
from odenas.search.download import download
from odenas.search.images import Images, to_images
from odenas.search.sources import Report

GZIP = b"\x1f\x8b"  # how a gzip file begins, RFC 1952 §2.3.1; an IDX file begins with two zeros


def published(base: str, md5: Mapping[str, str], kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files that are published at `base`, as they are: compressed."""
    for name, digest in md5.items():
        yield name, download(base + name, digest, kept, report).read_bytes()


def read_train(recipe: Recipe, folder: Path, report: Report) -> Images:
    """Return the 60,000 official training images."""
    return _images(recipe, "train", folder, report)


def read_test(recipe: Recipe, folder: Path, report: Report) -> Images:
    """Return the 10,000 official test images."""
    return _images(recipe, "t10k", folder, report)


def _images(recipe: Recipe, split: str, folder: Path, report: Report) -> Images:
    names = [name for kind in ("images", "labels") for name in recipe.sha1 if name.startswith(f"{split}-{kind}")]
    pixels, labels = map(array, read(recipe, names, folder, report))
    return to_images(pixels[:, None], labels)


def array(content: bytes) -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, compressed with gzip or not.

    The file has two zeros, the type 8 and the number of axes, a byte each; then the length of each axis as a big-endian
    32-bit integer; then the bytes (LeCun, Cortes and Burges, The MNIST Database, "File formats").
    """
    if content.startswith(GZIP):
        content = gzip.decompress(content)
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
