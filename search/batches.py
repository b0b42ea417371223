"""Where the batches of a training and of a judgement come from: images that lie on the device, or files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from odenas.search.augment import augment
from odenas.search.dataset import DataSet
from odenas.search.image_folder import ImageFiles
from odenas.search.images import Images, Split
from odenas.search.tasks import Batch, batch_count, task_of

EVALUATION_BATCH = 1000


class Batches(Protocol):
    """The images of one split, batch by batch, as inputs and targets of a network on a device."""

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""

    def __len__(self) -> int: ...

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the `batch_count` batches of one epoch of training, augmented.

        Their order and all else that is random is drawn from the generator, so that its state before the epoch decides
        the epoch.
        """

    def judging(self, part: str) -> Iterator[Batch]:
        """Yield every image once, for a part of the task's test: the same in the same order at every call."""


class Resident:
    """Images in the device's memory, augmented there a whole batch at once."""

    def __init__(self, images: Images, data_set: DataSet) -> None:
        self.images, self.data_set, self.task = images, data_set, task_of(data_set)

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.images.images.device

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch; see `Batches`."""
        row, count = self.data_set, len(self)
        order = torch.randperm(count, generator=generator).to(self.device)
        for batch in range(batch_count(count, size)):
            chosen = order[batch * size : (batch + 1) * size]
            images = augment(self.images.images[chosen], row.pad, row.flip, generator, row.turn)
            yield self.task.training(images, self.images.labels[chosen], row, generator)

    def judging(self, part: str) -> Iterator[Batch]:
        """Yield every image once; see `Batches`."""
        return self.task.judging(self._in_turn(), self.data_set, part)

    def _in_turn(self) -> Iterator[Images]:
        for start in range(0, len(self), EVALUATION_BATCH):
            chosen = slice(start, start + EVALUATION_BATCH)
            yield Images(self.images.images[chosen], self.images.labels[chosen])


def batches_of(split: Split, data_set: DataSet) -> Batches:
    """Return what makes batches of a split, on the split's device."""
    return KINDS[type(split)](split, data_set)


def _decoded(files: ImageFiles, data_set: DataSet) -> Batches:
    from odenas.search.decoding import Decoded  # imports torchvision, which takes seconds

    return Decoded(files, data_set)


KINDS: dict[type, Callable[[Any, DataSet], Batches]] = {Images: Resident, ImageFiles: _decoded}
