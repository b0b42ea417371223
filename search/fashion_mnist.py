"""Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of 28×28 in 10 classes, kept as the official IDX files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from odenas.search import idx
from odenas.search.cache import Recipe, Source
from odenas.search.dataset import DataSet
from odenas.search.sources import Report, Unavailable, command
from odenas.search.transfer import transfer

PACKAGE = "dataset-fashion-mnist"
# As torchvision.datasets.FashionMNIST has them (`mirrors`, `resources`); the MD5 are on the authors' page, too.
AUTHORS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts the files


def from_authors(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the authors' host."""
    for name, content in idx.published(AUTHORS, MD5, kept, report):
        yield name.removesuffix(".gz"), gzip.decompress(content)


def from_debian_installed(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of Debian's package, where it is installed."""
    del kept, report
    if not INSTALLED.is_dir():
        raise Unavailable("it is not installed")
    yield from _unpacked(INSTALLED)


def from_debian(kept: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    """Yield the files of Debian's package, downloaded and unpacked without installing it."""
    needed = f"Debian or Ubuntu with `apt-get update` done, and access to its archive, which serves 31 MB for {PACKAGE}"
    options = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
    # What apt-get finds whole in the folder it does not fetch again.
    with transfer(report, f"`apt-get download {PACKAGE}`") as show:
        command(["apt-get", "download", PACKAGE, *options], kept, needed, lambda: show(None))
    packages = list(kept.glob("*.deb"))
    try:
        for path in packages:
            command(["dpkg-deb", "-x", str(path), str(kept)], kept, needed)
        yield from _unpacked(kept / INSTALLED.relative_to("/"))
    except Unavailable:
        for path in packages:  # damaged: apt-get looks at its size alone
            path.unlink()
        raise


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
        Source("fashion-mnist.s3-website.eu-central-1.amazonaws.com", from_authors),
        Source(f"the installed Debian package {PACKAGE}", from_debian_installed),
        Source(f"the Debian package {PACKAGE}", from_debian),
    ),
)


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
    read_train=partial(idx.read_train, RECIPE),
    read_test=partial(idx.read_test, RECIPE),
    files=RECIPE,
)
