"""CIFAR-100 (Krizhevsky 2009): 60,000 colour images of 32×32 in 100 classes, kept as the official binary version."""

from __future__ import annotations

from functools import partial

from odenas.search import cifar
from odenas.search.cache import Recipe, Source
from odenas.search.dataset import DataSet

LABELS = 2  # of a record: one of 20 superclasses, then one of 100 classes

RECIPE = Recipe(
    name="cifar100",
    # As Apache MXNet publishes them (mxnet.gluon.data.vision.CIFAR100), whose SHA-1 of CIFAR-10 are the true ones.
    sha1={
        "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
        "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
    },
    megabytes=400,  # the archive, and the files
    sources=(
        # The MD5 is that on the authors' page, https://www.cs.toronto.edu/~kriz/cifar.html.
        Source(
            "www.cs.toronto.edu",
            partial(cifar.published, "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
        ),
    ),
)

CIFAR100 = DataSet(
    name="cifar100",
    classes=100,
    channels=3,
    size=32,
    train=45_000,
    validation=5_000,
    test=10_000,
    # Published to 16 digits in much code as (0.50707516, 0.48654887, 0.44091784) and (0.26733429, 0.25643846,
    # 0.27615047), over all pixels of the training images.
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    pad=4,
    flip=True,
    read_train=partial(cifar.read_images, RECIPE, ("train.bin",), LABELS),
    read_test=partial(cifar.read_images, RECIPE, ("test.bin",), LABELS),
    files=RECIPE,
)
