"""The digits of scikit-learn: 1797 grey 8×8 images, a part of UCI's "Optical Recognition of Handwritten Digits"."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path

import numpy as np

from odenas.search.dataset import DataSet
from odenas.search.images import SPLIT_SEED, Images, stratified, to_images
from odenas.search.sources import Report
from odenas.space.errors import OdenasError

TEST = 397
# Of the pixels 0 .. 16, then the labels, each as a byte; computed with scikit-learn 1.9.1.
SHA1 = "4ccdbda04941cdafb1704b9de5acf9900a504ca4"


def read_train(folder: Path, report: Report) -> Images:
    """Return the 1400 images outside the test split."""
    del folder, report  # the images come with scikit-learn
    images = _read()
    return images.pick(stratified(images.labels, SPLIT_SEED)[TEST:])


def read_test(folder: Path, report: Report) -> Images:
    """Return 397 images, 39 or 40 of each class; the data have no official test split of their own."""
    del folder, report
    images = _read()
    return images.pick(stratified(images.labels, SPLIT_SEED)[:TEST])


def _read() -> Images:
    """Return all images; a value v of 0 .. 16 becomes 255 v / 16, halves rounded up."""
    from sklearn.datasets import load_digits  # takes a second

    values, labels = load_digits(return_X_y=True)
    values = np.asarray(values, dtype=np.uint16)
    if (found := sha1(np.append(values, labels).astype(np.uint8).tobytes()).hexdigest()) != SHA1:
        raise OdenasError(f"`data` is 'digits', which scikit-learn gives with the SHA-1 {found}, but must have {SHA1}")
    pixels = ((values * 255 + 8) // 16).astype(np.uint8)
    return to_images(pixels.reshape(-1, 1, 8, 8), labels)


DIGITS = DataSet(
    name="digits",
    classes=10,
    channels=1,
    size=8,
    train=1000,
    validation=400,
    test=TEST,
    mean=(0.3058,),
    std=(0.3763,),
    pad=0,
    flip=False,
    read_train=read_train,
    read_test=read_test,
)
