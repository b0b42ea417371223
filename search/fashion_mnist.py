"""Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of 28×28 in 10 classes, kept as the official IDX files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from odenas.search.cache import Recipe, Source, read
from odenas.search.dataset import DataSet
from odenas.search.images import Images, to_images
from odenas.search.sources import Report, Unavailable, command, torchvision

PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts the files


def from_torchvision(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of torchvision's download, which compares the MD5 that the authors publish."""
    del report
    torchvision("FashionMNIST", work)
    for name in RECIPE.sha1:
        yield name, (work / "FashionMNIST" / "raw" / name).read_bytes()


def from_debian_installed(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of Debian's package, where it is installed."""
    del work, report
    if not INSTALLED.is_dir():
        raise Unavailable("it is not installed")
    yield from _unpacked(INSTALLED)


def from_debian(work: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of Debian's package, downloaded and unpacked without installing it."""
    del report
    needed = f"Debian or Ubuntu with `apt-get update` done, and access to its archive, which serves 31 MB for {PACKAGE}"
    options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    command(["apt-get", "download", PACKAGE, *options], work, needed)
    for path in work.glob("*.deb"):
        command(["dpkg-deb", "-x", str(path), str(work)], work, needed)
    yield from _unpacked(work / INSTALLED.relative_to("/"))


def _unpacked(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name in RECIPE.sha1:
        try:
            yield name, gzip.decompress((folder / f"{name}.gz").read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise Unavailable(error) from error


# The SHA-1 of the decompressed files, computed from Debian's. Its gz files hold the compressed bytes of the official
# ones: with the header that Debian strips (name and time) put back, their MD5 are those that the authors publish.
RECIPE = Recipe(
    name="fashion-mnist",
    sha1={
        "train-images-idx3-ubyte": "b9bd999c0106c9b8b4b0cefce58c9a6060f27095",
        "train-labels-idx1-ubyte": "4bccf37222e01638381eaa326bf730337a597267",
        "t10k-images-idx3-ubyte": "880056926db704f9f713097915f99da346f5b1d1",
        "t10k-labels-idx1-ubyte": "958122e8b4b97fd4e71eca2d08ef754ed77c3ad9",
    },
    megabytes=150,  # the archives, what they unpack to, and the files
    sources=(
        Source("torchvision", from_torchvision),
        Source(f"the installed Debian package {PACKAGE}", from_debian_installed),
        Source(f"the Debian package {PACKAGE}", from_debian),
    ),
)


def read_train(folder: Path, report: Report) -> Images:
    """Return the 60,000 official training images."""
    return _images(read(RECIPE, ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"], folder, report))


def read_test(folder: Path, report: Report) -> Images:
    """Return the 10,000 official test images."""
    return _images(read(RECIPE, ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"], folder, report))


def _images(files: list[bytes]) -> Images:
    """Return the images of an IDX file of pixels, with its header of 16 bytes, and one of labels, with 8."""
    pixels, labels = np.frombuffer(files[0], np.uint8, offset=16), np.frombuffer(files[1], np.uint8, offset=8)
    return to_images(pixels.reshape(-1, 1, 28, 28), labels)


FASHION_MNIST = DataSet(
    name="fashion-mnist",
    classes=10,
    channels=1,
    size=28,
    train=55_000,
    validation=5_000,
    test=10_000,
    mean=(0.2860,),
    std=(0.3530,),
    pad=2,
    flip=True,
    read_train=read_train,
    read_test=read_test,
)
