"""Grey photographs to free of noise: 2331 patches of 32×32 from ten photographs that ship with scikit-image.

The splits are disjoint as photographs. Each photograph is cut into patches side by side from its upper left corner; a
rest narrower than a patch is left out. 32 halves five times, as a multigrid network needs it, and is about as wide as
what the 17 layers of a DnCNN see (35 pixels; Zhang et al. 2017, who train on patches of 40).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from odenas.search.dataset import DataSet
from odenas.search.images import Images, fixed_order, to_images
from odenas.search.sources import Report
from odenas.space.errors import OdenasError

SIZE = 32
GREY = (299, 587, 114)
"""Thousandths of red, green and blue in a grey pixel (luma of ITU-R BT.601)."""


@dataclass(frozen=True)
class Photograph:
    """A photograph, as the file NAME.png of scikit-image's folder `data`.

    Args:
        split: which it belongs to, with all its patches.
        sha1: of its grey pixels, row by row, a byte each; computed with scikit-image 0.26.0.
    """

    split: str
    sha1: str


# Real photographs in a lossless format, each released to the public domain or without known restrictions, says
# scikit-image; each split has objects and, but for validation, one of the three photographs of a texture.
PHOTOGRAPHS: dict[str, Photograph] = {
    "astronaut": Photograph("train", "9cdb6e351909e7a1916cb0161b2beae6627bd8d6"),
    "brick": Photograph("train", "13ce8a4ce0856546394b4daa6824132c6be08d26"),
    "coffee": Photograph("train", "211fedc09ee330087966d8610e98b6ec89436624"),
    "grass": Photograph("train", "d2418bac2c953466a1b76190fd0b7badee37e9b6"),
    "moon": Photograph("train", "16363e1f4c0b7fa676b9eeea2f86ec3efa7da523"),
    "motorcycle_left": Photograph("train", "3bcf2348265d39659d58ce1573b788c1252f0af8"),
    "chelsea": Photograph("validation", "69bc18f43cd2a5d9d7cf84827dd819e7568ee6b2"),
    "coins": Photograph("validation", "d5aefad4d6a2d7684f53f49ccb69281f92ef6f83"),
    "camera": Photograph("test", "f4bb808842056e17a149ffa55bf339e448cec9ea"),
    "gravel": Photograph("test", "9aa76d93956fc579891c57553ae0764bac762fa8"),
}


def read_train(folder: Path, report: Report) -> Images:
    """Return the patches of the photographs for training and validation; the labels number the photographs."""
    del folder, report  # the photographs come with scikit-image
    return _patches("train", "validation")


def read_test(folder: Path, report: Report) -> Images:
    """Return the patches of the photographs for the test."""
    del folder, report
    return _patches("test")


def by_photograph(labels: Tensor) -> NDArray[np.int64]:
    """Return an order of the patches that begins with those for validation; within each split it is stratified."""
    order = fixed_order(labels)
    splits = np.array([photograph.split for photograph in PHOTOGRAPHS.values()])
    judged = splits[labels.numpy()[order]] == "validation"
    return np.concatenate([order[judged], order[~judged]])


def photograph(name: str) -> NDArray[np.uint8]:
    """Return the grey pixels of a photograph, (height, width).

    Raises:
        OdenasError: scikit-image is not installed, or ships it not or otherwise.
    """
    # By the file's path: `skimage.data` would download what it does not find.
    package = find_spec("skimage")
    path = Path(*(package.submodule_search_locations or ())[:1], "data", f"{name}.png") if package else None
    if path is None or not path.is_file():
        raise OdenasError(
            f"`data` is 'denoise', which needs {name}.png of scikit-image, but there is no such file; "
            "`pip install scikit-image` brings it"
        )
    with Image.open(path) as image:
        pixels = np.asarray(image)
    if pixels.ndim == 3:
        pixels = ((pixels[..., :3].astype(np.uint32) @ np.array(GREY, np.uint32) + 500) // 1000).astype(np.uint8)
    if (found := sha1(pixels.tobytes()).hexdigest()) != PHOTOGRAPHS[name].sha1:
        raise OdenasError(
            f"`data` is 'denoise', for which scikit-image gives {name}.png with grey pixels of the SHA-1 {found}, but "
            f"they must have {PHOTOGRAPHS[name].sha1}"
        )
    return pixels


def _patches(*splits: str) -> Images:
    found, labels = [], []
    for label, (name, row) in enumerate(PHOTOGRAPHS.items()):
        if row.split in splits:
            pixels = torch.from_numpy(photograph(name).copy())
            tiles = pixels.unfold(0, SIZE, SIZE).unfold(1, SIZE, SIZE).reshape(-1, 1, SIZE, SIZE)
            found.append(tiles.numpy())
            labels += [label] * len(tiles)
    return to_images(np.concatenate(found), np.array(labels))


DENOISE = DataSet(
    name="denoise",
    classes=len(PHOTOGRAPHS),
    channels=1,
    size=SIZE,
    train=1585,
    validation=234,
    test=512,
    mean=(0.4352,),
    std=(0.1928,),
    pad=0,
    flip=True,
    read_train=read_train,
    read_test=read_test,
    turn=True,
    order=by_photograph,
    task="denoising",
)
