"""Photographs to free of noise: whole, verified, split by photograph, and read without a network."""

import socket
import subprocess
import sys
from hashlib import sha1
from importlib import import_module
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from odenas.search import denoise
from odenas.search.data import DATASETS, load, load_test
from odenas.search.denoise import DENOISE, PHOTOGRAPHS, Photograph, photograph
from odenas.search.images import Split
from odenas.space import OdenasError

SPLITS = {"train": 1585, "validation": 234, "test": 512}


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    data = load("denoise")
    return {"train": data.train, "validation": data.validation, "test": load_test("denoise")}


def patches(images: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def test_the_splits_share_no_photograph_and_no_patch(splits: dict[str, Split]) -> None:
    rows = list(PHOTOGRAPHS.values())
    for name, images in splits.items():
        assert len(images) == SPLITS[name] == getattr(DENOISE, name)
        assert (images.images.shape[1:], images.images.dtype) == ((1, 32, 32), torch.uint8)
        assert {rows[label].split for label in images.labels.tolist()} == {name}
    for one, other in combinations(splits.values(), 2):
        assert not set(one.labels.tolist()) & set(other.labels.tolist())
        assert not patches(one) & patches(other)
    assert len({row.sha1 for row in rows}) == len(rows)


def test_patches_tile_the_photographs_that_scikit_image_shows(
    splits: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    color, data = (import_module(f"skimage.{name}") for name in ("color", "data"))
    monkeypatch.setattr(socket, "socket", None)  # scikit-image must have the files itself
    shown = {"astronaut": data.astronaut(), "chelsea": data.chelsea(), "camera": data.camera(), "moon": data.moon()}
    for name, pixels in shown.items():
        grey = pixels if pixels.ndim == 2 else color.rgb2yuv(pixels)[..., 0] * 255  # of BT.601, as reals
        label = list(PHOTOGRAPHS).index(name)
        images = splits[PHOTOGRAPHS[name].split]
        tiles = images.images[images.labels == label][:, 0].numpy()
        rows, columns = (side // 32 for side in grey.shape)
        whole = tiles.reshape(rows, columns, 32, 32).swapaxes(1, 2).reshape(rows * 32, columns * 32)
        assert abs(whole - grey[: rows * 32, : columns * 32]).max() <= 0.51


def test_fixed_splits_and_a_draw_are_pinned(splits: dict[str, Split]) -> None:
    """All searches, whatever the versions, share these."""
    drawn = load("denoise", train_size=60, seed=3).train
    assert drawn.labels.bincount().tolist() == [10] * 6
    found = [sha1(images.images.numpy().tobytes()).hexdigest()[:8] for images in (*splits.values(), drawn)]
    assert found == ["36e6218f", "3bba2ab7", "4d795315", "36b00047"]


def test_few_images_to_validate_on_are_of_both_photographs(splits: dict[str, Split]) -> None:
    few = load("denoise", validation_size=20).validation
    assert few.labels.bincount()[6:].tolist() == [10, 10]
    assert patches(few) <= patches(splits["validation"])


def test_the_row_says_what_the_pixels_are(splits: dict[str, Split]) -> None:
    pixels = torch.cat([splits["train"].images, splits["validation"].images]).double() / 255
    assert pixels.mean().item() == pytest.approx(DENOISE.mean[0], abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(DENOISE.std[0], abs=5e-5)
    assert DATASETS["denoise"] is DENOISE


def test_a_search_does_not_open_the_photographs_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def noting(name: str) -> NDArray[np.uint8]:
        opened.append(name)
        return photograph(name)

    monkeypatch.setattr(denoise, "photograph", noting)
    load("denoise")
    assert sorted(opened) == sorted(name for name, row in PHOTOGRAPHS.items() if row.split != "test")


def test_changed_or_missing_photographs_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PHOTOGRAPHS, "moon", Photograph("train", "0" * 40))
    with pytest.raises(OdenasError, match=r"gives moon.png with grey pixels of the SHA-1 16363e1f\w+, but .* 0{40}$"):
        photograph("moon")
    with pytest.raises(OdenasError, match=r"^`data` is 'denoise', which needs sun.png of scikit-image"):
        photograph("sun")
    monkeypatch.setattr(denoise, "find_spec", lambda name: None)
    with pytest.raises(OdenasError, match=r"needs moon.png of scikit-image, .*`pip install scikit-image` brings it$"):
        photograph("moon")


def test_obtaining_it_imports_no_scikit_image() -> None:
    """So that its downloads are never reached, and `odenas` starts as fast as without it."""
    code = (
        "import sys, socket; from odenas.search.data import prepare; socket.socket = None; prepare('denoise'); "
        "assert not {'skimage', 'pooch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = "1585 training, 234 validation and 512 test images of 1×32×32, 10 photographs, verified"
    assert done.stdout == f"denoise: {counts}\n"
