"""The training loop: one pass over the training images an epoch, resumable after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from odenas.search.batches import Batches, batches_of
from odenas.search.data import Data
from odenas.search.dataset import DataSet
from odenas.search.ema import WeightAverage
from odenas.search.images import Split
from odenas.search.recipe import Recipe
from odenas.search.tasks import batch_count, task_of


class NonFiniteLoss(ArithmeticError):
    """The training loss became infinite or not a number."""


class Training:
    """The training of one network for a number of epochs; its state can be saved after each and taken up again.

    Args:
        network: to train, in place; it is moved to the device. After each epoch it is what is judged and kept: with the
            averaged weights, where the recipe says so.
        data: train and validation images; their batches come on the device.
        data_set: what they are, for normalisation, augmentation and the task.
        recipe: how to train.
        epochs: budget; the learning rate falls over it.
        seed: of the order of images, augmentation, noise on images and stochastic depth. (The initial weights come with
            the network.)
        device: a torch device; on a GPU the forward pass runs in bfloat16 autocast.
        compiled: whether `torch.compile` makes the training steps: the first takes a minute or so, the others less.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        data_set: DataSet,
        recipe: Recipe,
        epochs: int,
        seed: int,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward: Callable[[Tensor], Tensor] = torch.compile(self.network) if compiled else self.network
        self.batches = batches_of(to(data.train, self.device), data_set)
        self.validation = batches_of(to(data.validation, self.device), data_set)
        self.data_set, self.task = data_set, task_of(data_set)
        self.recipe, self.epochs = recipe, epochs
        self.loss = recipe.loss(self.task)
        self.average = WeightAverage(self.network, recipe.ema) if recipe.ema else None
        self.optimizer = recipe.optimizer(network)
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def run(self, after_epoch: Callable[[dict[str, Any]], None]) -> None:
        """Train the epochs that are left; `after_epoch` gets the row of each.

        It has losses, what is minimised in the metric's unit (as "train_error", "validation_error"), and seconds.

        Raises:
            NonFiniteLoss: the mean training loss of an epoch is not finite.
        """
        while self.epoch < self.epochs:
            start = time.perf_counter()
            with torch.random.fork_rng(devices=[]), self.average.raw() if self.average else nullcontext():
                # Stochastic depth draws from the global generator.
                torch.manual_seed(int(torch.randint(2**31, (), generator=self.generator)))
                loss, error = self._train_epoch()
            self.epoch += 1
            judgement = judge(self.network, self.validation, self.data_set)
            after_epoch(
                {
                    "epoch": self.epoch,
                    "train_loss": loss,
                    "train_error": error,
                    "validation_loss": judgement.loss,
                    "validation_error": judgement.error,
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
            )

    def state(self) -> dict[str, Tensor]:
        """Return all that a later process needs to go on, as tensors by name."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state[parameter].items():
                if value is not None:
                    tensors[f"optimizer.{index}.{name}"] = value
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.state().items()}
        tensors["generator"] = self.generator.get_state()
        tensors["epoch"] = torch.tensor(self.epoch)
        return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(network_state(tensors))
        for index, parameter in enumerate(self._parameters()):
            for name, value in _under(f"optimizer.{index}.", tensors).items():
                # AdamW counts its steps on the CPU; all else lies in memory as the parameter does.
                moved = value.clone() if name == "step" else torch.empty_like(parameter).copy_(value)
                self.optimizer.state[parameter][name] = moved
        if self.average:
            self.average.restore(_under("average.", tensors))
        self.generator.set_state(tensors["generator"])
        self.epoch = int(tensors["epoch"])

    def _train_epoch(self) -> tuple[float, float]:
        """Return the mean loss and what is minimised over the epoch's batches."""
        self.network.train()
        count, size = len(self.batches), self.recipe.batch_size
        loss_sum = torch.zeros((), device=self.device)
        error_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        batches = batch_count(count, size)
        for batch, (inputs, targets) in enumerate(self.batches.epoch(size, self.generator)):
            rate = self.recipe.rate((self.epoch + batch / batches) / self.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                outputs = self.forward(inputs)
                loss = self.loss(outputs, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if self.average:
                self.average.update()
            loss_sum += loss.detach() * len(inputs)
            error_sum += self.task.judge(outputs.detach().float(), targets, self.data_set).sum()
        seen = min(count, batches * size)
        mean = float(loss_sum) / seen
        if not torch.isfinite(torch.tensor(mean)):
            raise NonFiniteLoss(f"non-finite loss in epoch {self.epoch + 1}")
        return mean, float(error_sum) / seen

    def _parameters(self) -> Iterator[nn.Parameter]:
        for group in self.optimizer.param_groups:
            yield from group["params"]


class Judgement(NamedTuple):
    """What a network is worth on a number of images: means over the images and over the parts of the task.

    Args:
        loss: the task's.
        error: what is minimised, in the unit of the task's metric: percent of the images, or −PSNR in dB.
        parts: the same of each part.
    """

    loss: float
    error: float
    parts: dict[str, float]


def evaluate(network: nn.Module, split: Split, data_set: DataSet) -> Judgement:
    """Judge a network, in evaluation mode, on a split whose batches come on its device."""
    return judge(network, batches_of(split, data_set), data_set)


def judge(network: nn.Module, batches: Batches, data_set: DataSet) -> Judgement:
    """Judge a network, in evaluation mode, on batches that come on its device."""
    network.eval()
    task, device, count = task_of(data_set), batches.device, len(batches)
    losses, errors = [], []
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for part in task.parts:
            loss, error = (torch.zeros((), device=device, dtype=kind) for kind in (torch.float32, torch.float64))
            for inputs, targets in batches.judging(part):
                outputs = network(inputs).float()
                loss += task.loss(outputs, targets, reduction="sum")
                error += task.judge(outputs, targets, data_set).sum()
            losses.append(float(loss) / count)
            errors.append(float(error) / count)
    return Judgement(fmean(losses), fmean(errors), dict(zip(task.parts, errors, strict=True)))


def network_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's part of what `Training.state` returned."""
    return _under("network.", tensors)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def to(split: Split, device: torch.device) -> Split:
    """Return a split with its batches on a device."""
    return split.to(device)
