"""Batches of image files, decoded by processes of their own: the same whatever their number.

Training sees a random part of each image, of 8 to 100 % of its area and with a ratio of its sides of 3/4 to 4/3,
brought to the size of the data set, and mirrored with probability ½: the augmentation of Szegedy et al. 2015 (§6), by
which torchvision's reference scripts train the networks of He et al. 2016. Judging sees the middle: the shorter side is
brought to size / 0.875 (256 for 224, as Krizhevsky et al. 2012, §2), and a square cut from the centre.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from odenas.search.dataset import DataSet
from odenas.search.image_folder import ImageFiles
from odenas.search.images import Images
from odenas.search.sources import Report
from odenas.search.tasks import WHOLE, Batch, batch_count, task_of
from odenas.space.errors import OdenasError

MOST_DECODERS = 4
JUDGED = 100
"""Images of a batch of judging: a thousand would take gigabytes."""
MIDDLE = 0.875

Key = tuple[bytes, tuple[int, int] | None]
"""A file's name, and what its random part follows from: a number of the epoch and the image's; None to judge."""


class Decoded:
    """Batches of image files; those of training are augmented where they are decoded.

    The decoding processes start with the first batch and end with this object, or with the process that made it.
    """

    def __init__(self, files: ImageFiles, data_set: DataSet) -> None:
        self.files, self.data_set, self.task = files, data_set, task_of(data_set)
        self._keys, self._pass = _Keys(), 0

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""
        return self.files.device

    def __len__(self) -> int:
        return len(self.files)

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch; see `Batches`."""
        order = torch.randperm(len(self), generator=generator)
        number = int(torch.randint(2**62, (), generator=generator))
        chosen = torch.split(order, size)[: batch_count(len(self), size)]
        for batch in self._decoded(chosen, number):
            yield self.task.training(batch.images, batch.labels, self.data_set, generator)

    def judging(self, part: str) -> Iterator[Batch]:
        """Yield every image once; see `Batches`."""
        return self.task.judging(self._decoded(torch.split(torch.arange(len(self)), JUDGED)), self.data_set, part)

    def _decoded(self, chosen: Sequence[Tensor], number: int | None = None) -> Iterator[Images]:
        """Yield the images of these indices, batch by batch, on the device.

        Raises:
            OdenasError: a file is no image.
        """
        self._keys.batches = (
            [(self.files.images[i], None if number is None else (number, i)) for i in indices.tolist()]
            for indices in chosen
        )
        self._pass = mine = self._pass + 1
        decoded = iter(self._loader)
        for indices in chosen:
            if mine != self._pass:
                raise RuntimeError("another pass over the images has begun before this one was at its end")
            images = next(decoded)
            if isinstance(images, str):
                raise OdenasError(f"`data` is {self.data_set.name!r}, {images}")
            yield Images(images.to(self.device, non_blocking=True), self.files.labels[indices].to(self.device))

    @cached_property
    def _loader(self) -> DataLoader[Tensor | str]:
        workers = self.files.decoders
        if workers is None:
            workers = min(MOST_DECODERS, torch.get_num_threads())
        return DataLoader(
            _Decoding(self.files.root, self.files.size),
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=_together,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_end_with_parent,
            generator=torch.Generator(),  # the loader's own draw, of which nothing follows
            persistent_workers=workers > 0,
        )


def decode_all(files: ImageFiles, data_set: DataSet, report: Report) -> None:
    """Decode every image once, and report each tenth.

    Raises:
        OdenasError: a file is no image.
    """
    done, told = 0, 0
    for inputs, _ in Decoded(files, data_set).judging(WHOLE):
        done += len(inputs)
        if 10 * done // len(files) > told:
            told = 10 * done // len(files)
            report(f"{data_set.name}: {done} of {len(files)} images decoded")


class _Keys:
    """The batches of keys of the pass that begins."""

    batches: Iterable[list[Key]] = ()

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


class _Decoding(Dataset[Tensor | str]):
    """What a decoding process does: from a key to pixels, uint8 of shape (3, size, size), or to what is wrong."""

    def __init__(self, root: Path, size: int) -> None:
        self.root = root
        whole = v2.PILToTensor()
        self.random = v2.Compose(
            [v2.RandomResizedCrop(size, scale=(0.08, 1), ratio=(3 / 4, 4 / 3)), v2.RandomHorizontalFlip(), whole]
        )
        self.middle = v2.Compose([v2.Resize(round(size / MIDDLE)), v2.CenterCrop(size), whole])

    def __getitem__(self, key: Key) -> Tensor | str:
        name, drawn = key
        path = self.root / os.fsdecode(name)
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # Pillow raises whatever its decoders do
            return f"but {path} cannot be read as an image: {_reason(error)}"
        if drawn is None:
            return self.middle(image)  # type: ignore[no-any-return]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(np.random.SeedSequence(drawn).generate_state(1)[0]))
            return self.random(image)  # type: ignore[no-any-return]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it has no known image format"
    text = getattr(error, "strerror", None) or str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _together(decoded: list[Tensor | str]) -> Tensor | str:
    """Return images as one batch, or the first thing that is wrong with them."""
    wrong = [one for one in decoded if isinstance(one, str)]
    return wrong[0] if wrong else torch.stack([one for one in decoded if isinstance(one, Tensor)])


def _end_with_parent(number: int) -> None:
    """Let this decoder end when the process that it decodes for does, were it killed.

    The loader's own check looks for the server of the forks, which lives as long as one of them does.
    """
    del number
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _context() -> BaseContext:
    """Return a way to start processes that copies neither threads nor a GPU's state, as a fork of a Ray worker would.

    A server imports torch once, and all decoders fork from it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
