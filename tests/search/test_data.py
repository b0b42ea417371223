"""Loading of data sets, offline with the digits."""

from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.search import data
from odenas.search.app import app
from odenas.search.data import DATASETS, load, load_test, prepare
from odenas.search.images import Images, Split
from odenas.space.errors import OdenasError


def rows(images: Split) -> list[bytes]:
    return [bytes(image.flatten().tolist()) for image in images.images]


def equal(a: Split, b: Split) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def test_digits_are_split_disjointly_and_stratified() -> None:
    digits = load("digits")
    test = load_test("digits")
    splits = (digits.train, digits.validation, test)
    assert [len(split) for split in splits] == [1000, 400, 397]
    assert len({row for split in splits for row in rows(split)}) == 1797  # scikit-learn's images are all distinct
    for split in splits:
        assert split.images.shape == (len(split), 1, 8, 8)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
    assert digits.validation.labels.bincount().tolist() == [40] * 10
    assert set(test.labels.bincount().tolist()) == {39, 40}
    assert digits.train.labels.bincount().min() >= 94


def test_digits_keep_their_pixels_and_labels() -> None:
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    known = {
        bytes((v * 255 / 16 + 0.5).astype("uint8").tolist()): label for v, label in zip(values, labels, strict=True)
    }
    test = load_test("digits")
    assert [known[row] for row in rows(test)] == test.labels.tolist()


def test_fixed_splits_are_pinned() -> None:
    """All searches, whatever the versions, share these."""
    digits = load("digits")
    found = [sha1(b"".join(rows(split))).hexdigest()[:8] for split in (digits.validation, load_test("digits"))]
    assert found == ["d0476c64", "af8fb211"]


def test_seed_draws_train_alone() -> None:
    a, b, again = (load("digits", train_size=200, seed=seed) for seed in (1, 2, 1))
    assert equal(a.train, again.train)
    assert not equal(a.train, b.train)
    assert equal(a.validation, b.validation)
    assert equal(load("digits", seed=1).train, load("digits", seed=2).train)
    assert not set(rows(a.train)) & set(rows(a.validation))


@pytest.mark.parametrize("size", [10, 11, 99, 500, 900, 1000])
def test_draws_are_stratified_and_nested(size: int) -> None:
    drawn = load("digits", train_size=size, seed=5).train
    assert len(drawn) == size
    counts = drawn.labels.bincount()
    assert counts.max() - counts.min() <= (1 if size <= 940 else 9)  # the rarest class has 94
    assert set(rows(drawn)) <= set(rows(load("digits", train_size=min(2 * size, 1000), seed=5).train))


def test_validation_is_capped_only_beside_a_small_train(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Images(torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8), torch.arange(60_000) % 10)
    row = DATASETS["fashion-mnist"]
    toy = type(row)(**(vars(row) | {"read_train": lambda folder, report: many}))
    monkeypatch.setitem(DATASETS, "fashion-mnist", toy)

    def sizes(**options: Any) -> tuple[int, int]:
        loaded = load("fashion-mnist", **options)
        return len(loaded.train), len(loaded.validation)

    assert sizes() == (55_000, 5000)
    assert sizes(train_size=2000) == (2000, 1000)
    assert sizes(train_size=5000) == (5000, 2500)
    assert sizes(train_size=20_000) == (20_000, 5000)
    assert sizes(train_size=2000, validation_size=5000) == (2000, 5000)
    assert sizes(validation_size=10) == (55_000, 10)


@pytest.mark.parametrize("size", [0, 9, 1001, -5, 2.5, True, "100"])
def test_sizes_out_of_range_are_refused(size: Any) -> None:
    with pytest.raises(OdenasError, match=f"^`train_size` is {size!r}, but must be an integer from 10 to 1000$"):
        load("digits", train_size=size)
    with pytest.raises(OdenasError, match=r"^`validation_size` is .*, but must be an integer from 10 to 400$"):
        load("digits", validation_size=size if size != 1001 else 401)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_seeds_out_of_range_are_refused(seed: Any) -> None:
    with pytest.raises(OdenasError, match=r"^`seed` is"):
        load("digits", train_size=100, seed=seed)


@pytest.mark.parametrize("function", [load, load_test, prepare])
def test_an_unknown_name_proposes_the_nearest(function: Callable[[str], object]) -> None:
    with pytest.raises(OdenasError, match=r"`data` is 'cifar-10', but must be one of .*did you mean 'cifar10'\?"):
        function("cifar-10")


def test_a_search_does_not_read_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, report: object) -> Images:
        raise AssertionError("read the test split")

    row = DATASETS["digits"]
    monkeypatch.setitem(data.DATASETS, "digits", type(row)(**(vars(row) | {"read_test": refuse})))
    load("digits")


def test_prepare_says_what_it_verified() -> None:
    lines: list[str] = []
    assert prepare("digits", report=lines.append) is DATASETS["digits"]
    assert lines == ["digits: 1000 training, 400 validation and 397 test images of 1×8×8, 10 classes, verified"]


def test_rows_are_named_as_their_keys_and_agree_with_the_digits() -> None:
    assert all(name == row.name for name, row in DATASETS.items())
    row, digits = DATASETS["digits"], load("digits")
    pixels = torch.cat([digits.train.images, digits.validation.images]).double() / 255
    assert pixels.mean().item() == pytest.approx(row.mean[0], abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(row.std[0], abs=5e-5)


def test_the_list_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ODENAS_DATA", str(tmp_path))
    begun, there = tmp_path / ".mnist.part" / "file.part", tmp_path / "cifar100"
    begun.parent.mkdir()
    begun.write_bytes(bytes(1_500_000))
    there.mkdir()
    for name in ("train.bin", "test.bin"):
        (there / name).write_bytes(bytes(1_000_000))
    said = []
    for arguments in ([], ["--list"]):
        app(["data", *arguments], standalone_mode=False)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    rows = {line.split()[0]: line for line in said[0].splitlines()}
    assert set(DATASETS) < set(rows)
    for name, text in (("digits", "with the installation"), ("mnist", "begun, 1.5 MB"), ("cifar10", "not there"),
                       ("cifar100", "there, 2.0 MB")):  # fmt: skip
        assert rows[name].rstrip().endswith(text)
    assert rows["cifar100"].split()[1:6] == ["45000", "5000", "10000", "3×32×32", "100"]
    assert str(tmp_path) in said[0]
    assert not (tmp_path / "digits").exists()
