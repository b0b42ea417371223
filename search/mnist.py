"""MNIST (LeCun et al. 1998): 70,000 grey images of handwritten digits, 28×28, kept as the official compressed files."""

from __future__ import annotations

from functools import partial

from odenas.search import idx
from odenas.search.cache import Recipe, Source
from odenas.search.dataset import DataSet

# Hosts and MD5 as torchvision.datasets.MNIST has them (`mirrors`, `resources`).
HOSTS = {
    "ossci-datasets.s3.amazonaws.com": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "yann.lecun.com": "http://yann.lecun.com/exdb/mnist/",
}
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

RECIPE = Recipe(
    name="mnist",
    # As Apache MXNet publishes them (mxnet.gluon.data.vision.MNIST).
    sha1={
        "train-images-idx3-ubyte.gz": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
        "train-labels-idx1-ubyte.gz": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
        "t10k-images-idx3-ubyte.gz": "c3a25af1f52dad7f726cce8cacb138654b760d48",
        "t10k-labels-idx1-ubyte.gz": "763e7fa3757d93b0cdec073cef058b2004252c17",
    },
    megabytes=30,  # the downloads, and the files
    sources=tuple(Source(host, partial(idx.published, base, MD5)) for host, base in HOSTS.items()),
)

MNIST = DataSet(
    name="mnist",
    classes=10,
    channels=1,
    size=28,
    train=55_000,
    validation=5_000,
    test=10_000,
    # As PyTorch's example has them (pytorch/examples, mnist/main.py).
    mean=(0.1307,),
    std=(0.3081,),
    pad=2,
    flip=False,  # a mirrored digit is another sign
    read_train=partial(idx.read_train, RECIPE),
    read_test=partial(idx.read_test, RECIPE),
    files=RECIPE,
)
