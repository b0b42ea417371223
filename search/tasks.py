"""What is asked of a network on a data set: its inputs and targets, its loss, and how it is judged and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import tee

import torch
from torch import Tensor
from torch.nn import functional

from odenas.search.dataset import DataSet, normalise
from odenas.search.gaussian_noise import SIGMAS, fixed_noise, fresh_noise
from odenas.search.images import Images
from odenas.search.metric import ERROR, PSNR, Metric
from odenas.search.psnr import PEAK, psnr

WHOLE = "whole"
"""The one part of a test that is not divided."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """A row of TASKS.

    Args:
        loss: (outputs, targets, reduction="mean") -> what training minimises: the mean over the images of a batch, or
            with the reduction "sum" their sum.
        training: (augmented uint8 images, labels, data set, generator) -> inputs and targets of a network; what is
            random is drawn from the generator.
        judging: (batches of uint8 images, data set, part) -> inputs and targets batch by batch, the same at every call.
        parts: of the test; each has all images, and the judgement is the mean over the parts.
        judge: (outputs, targets, data set) -> what is minimised for each image, shape (batch,), in the metric's unit.
        metric: how that is shown.
        backbone: the kind of network, if none is named.
        output: what a network returns, as its class says.
        labels: what the labels of the images count.
    """

    loss: Callable[..., Tensor]
    training: Callable[[Tensor, Tensor, DataSet, torch.Generator], Batch]
    judging: Callable[[Iterator[Images], DataSet, str], Iterator[Batch]]
    parts: tuple[str, ...]
    judge: Callable[[Tensor, Tensor, DataSet], Tensor]
    metric: Metric
    backbone: str
    output: str
    labels: str


def batch_count(count: int, size: int) -> int:
    """Return the number of batches of an epoch; a single image left over is left out: batch norm needs two."""
    batches = -(-count // size)
    return batches - 1 if batches > 1 and count % size == 1 else batches


def task_of(data_set: DataSet) -> Task:
    """Return the task of a data set."""
    return TASKS[data_set.task]


def mean_squared_error(outputs: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Return the mean squared error over the pixels and channels of an image: the mean or the sum over the images."""
    errors = functional.mse_loss(outputs, targets, reduction="none").flatten(1).mean(1)
    return errors.mean() if reduction == "mean" else errors.sum()


def _labelled(images: Tensor, labels: Tensor, data_set: DataSet, generator: torch.Generator) -> Batch:
    del generator
    return normalise(images, data_set), labels


def _all_labelled(batches: Iterator[Images], data_set: DataSet, part: str) -> Iterator[Batch]:
    del part
    for batch in batches:
        yield normalise(batch.images, data_set), batch.labels


def _wrong(outputs: Tensor, targets: Tensor, data_set: DataSet) -> Tensor:
    """Return 100 (%) for each image that is wrongly classified and 0 for the others."""
    del data_set
    return 100 * (outputs.argmax(1) != targets)


def _noisy(images: Tensor, labels: Tensor, data_set: DataSet, generator: torch.Generator) -> Batch:
    del labels
    return normalise(fresh_noise(images, generator), data_set), normalise(images, data_set)


def _all_noisy(batches: Iterator[Images], data_set: DataSet, part: str) -> Iterator[Batch]:
    clean, targets = tee(batch.images for batch in batches)
    for noisy, images in zip(fixed_noise(clean, NOISE_LEVELS[part]), targets, strict=True):
        yield normalise(noisy, data_set), normalise(images, data_set)


def _less_psnr(outputs: Tensor, targets: Tensor, data_set: DataSet) -> Tensor:
    """Return −PSNR in dB of each image, on the scale of the pixels."""
    scale = PEAK * torch.tensor(data_set.std, device=targets.device).view(1, -1, 1, 1)
    return -psnr(outputs * scale, targets * scale)


NOISE_LEVELS: dict[str, float] = {f"σ {sigma}": sigma for sigma in SIGMAS}

TASKS: dict[str, Task] = {
    "classification": Task(
        loss=functional.cross_entropy,
        training=_labelled,
        judging=_all_labelled,
        parts=(WHOLE,),
        judge=_wrong,
        metric=ERROR,
        backbone="residual",
        output="logits",
        labels="classes",
    ),
    "denoising": Task(
        loss=mean_squared_error,
        training=_noisy,
        judging=_all_noisy,
        parts=tuple(NOISE_LEVELS),
        judge=_less_psnr,
        metric=PSNR,
        backbone="dense",
        output="images",
        labels="photographs",
    ),
}
