"""The training loop on CIFAR-10: what share of an epoch is not the network's, and its speed beside a plain loop.

The plain loop is the usual one: torchvision's transforms of each PIL image, a DataLoader, forward, backward, step; the
same network, optimiser, batch, augmentation. "channels last" is that loop with odenas's layout in memory as well, so
that what is left of the ratio is the loop's own. All loops run in turn, an epoch each, in an order that turns from
round to round; a round gives one ratio for each, and the table their median and quartiles over the rounds. The share is
measured in the same rounds: the time of the training part of an epoch that is spent outside of forward (with the loss),
backward and the optimiser.

    make bench ARGS="--rounds 20 --threads 2"
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from contenders import of_scheme
from networks import seconds, spread
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from odenas.search.data import dataset, load
from odenas.search.recipe import Recipe
from odenas.search.train import Training

DATA = "cifar10"
SHARE, SPEED = 0.05, 1.15
"""The aims: at most this share of an epoch, at least this many times as fast as the best plain loop."""
OWN, PLAIN, LAYOUT = "odenas", "plain", "channels last"


class Plain(Dataset[tuple[Tensor, int]]):
    """The training images as torchvision's CIFAR10 gives them: a PIL image of each, through the usual transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images: Any = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        self.labels: list[int] = labels.tolist()
        row = dataset(DATA)
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(row.size, padding=row.pad),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(row.mean, row.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def made(device: torch.device) -> nn.Module:
    """Return the network that all loops train."""
    torch.manual_seed(0)
    return of_scheme("euler")().to(device)


class PlainLoop:
    """The loop of a tutorial, with processes that load beside it or without; `layout` is the network's in memory."""

    def __init__(
        self, images: Any, recipe: Recipe, device: torch.device, workers: int, layout: Any = torch.contiguous_format
    ) -> None:
        self.network = made(device).to(memory_format=layout)
        self.optimizer, self.device, self.layout = recipe.optimizer(self.network), device, layout
        self.loader = DataLoader(
            Plain(images.images, images.labels),
            recipe.batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def epoch(self) -> None:
        """Train for an epoch."""
        self.network.train()
        total = 0.0
        for batch, targets in self.loader:
            inputs = batch.to(self.device, memory_format=self.layout, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
                loss = functional.cross_entropy(self.network(inputs), targets.to(self.device, non_blocking=True))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.item()


class OwnLoop:
    """An epoch of a `Training`, without its validation, and what of it is the network's."""

    def __init__(self, data: Any, recipe: Recipe, device: torch.device) -> None:
        self.training = Training(made(device), data, dataset(DATA), recipe, 1, 0, str(device))
        self.spent = 0.0
        self.shares: list[float] = []
        self.training.forward = self._timed(self.training.forward)
        self.training.loss = self._timed(self.training.loss)
        optimizer: Any = self.training.optimizer
        optimizer.step, optimizer.zero_grad = self._timed(optimizer.step), self._timed(optimizer.zero_grad)

    def epoch(self) -> None:
        """Train for an epoch and note the share of it that is spent outside of forward, backward and optimiser."""
        backward, self.spent = Tensor.backward, 0.0
        Tensor.backward = self._timed(backward)  # type: ignore[method-assign]
        start = time.perf_counter()
        try:
            self.training._train_epoch()
        finally:
            Tensor.backward = backward  # type: ignore[method-assign]
        self.shares.append(1 - self.spent / (time.perf_counter() - start))

    def _timed(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = action(*arguments, **options)
            self.spent += time.perf_counter() - start
            return result

        return timed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--images", type=int, default=5120, help="images of an epoch")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the plain loops")
    arguments.add_argument("--out", type=Path, help="where to write the raw rows as CSV")
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    torch.set_num_threads(given.threads)
    device, data = torch.device(given.device), load(DATA, train_size=given.images)
    recipe = Recipe(batch_size=given.batch)
    own = OwnLoop(data, recipe, device)
    loops: dict[str, Any] = {OWN: own}
    for name, layout in {PLAIN: torch.contiguous_format, LAYOUT: torch.channels_last}.items():
        for workers in given.workers:
            loops[f"{name}, {workers} workers"] = PlainLoop(data.train, recipe, device, workers, layout)
    found: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(-1, given.rounds):
        names = list(loops)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            value = seconds(loops[name].epoch, device)
            if number >= 0:  # the first round warms up
                found[name].append(value)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or 'CPU'}"
    console = Console(width=140, markup=False, highlight=False)
    console.print(
        f"{DATA}, {given.images} images an epoch, batch {given.batch}, {where}, {given.threads} threads, "
        f"torch {torch.__version__}, {given.rounds} rounds: median (quartiles)\n"
    )
    table = Table(box=None, pad_edge=False, title_justify="left", title="training loop")
    for column in ("loop", "images/s", f"{OWN} is × as fast"):
        table.add_column(column, justify="left" if column == "loop" else "right", no_wrap=True)
    for name, values in found.items():
        ratios = [theirs / mine for theirs, mine in zip(values, found[OWN], strict=True)]
        table.add_row(name, spread([given.images / value for value in values], 0), spread(ratios))
    console.print(table)
    console.print("")
    for kind, aim in {PLAIN: f", aim ≥ {SPEED}", LAYOUT: ""}.items():
        best = min((name for name in loops if name.startswith(f"{kind}, ")), key=lambda name: median(found[name]))
        ratios = [theirs / mine for theirs, mine in zip(found[best], found[OWN], strict=True)]
        console.print(f"against the fastest of its kind, {best}: × {spread(ratios)}{aim}")
    shares = own.shares[1:]  # without the round that warms up
    if device.type == "cpu":  # on a GPU the calls return before the work is done
        console.print(f"share of an epoch outside of forward, backward, optimiser: {spread(shares)}, aim ≤ {SHARE}")
    if given.out:
        of_run = {"device": where, "threads": given.threads, "batch": given.batch, "torch": torch.__version__}
        raw = [
            {"loop": name, "round": i, "seconds": value, "share": shares[i] if name == OWN else None}
            for name, values in found.items()
            for i, value in enumerate(values)
        ]
        pd.DataFrame(raw).assign(**of_run).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
