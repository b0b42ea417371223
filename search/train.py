"""The training loop: data on the device as uint8, one pass an epoch, resumable after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.search.augment import augment
from odenas.search.data import Data
from odenas.search.dataset import DataSet
from odenas.search.images import Images
from odenas.search.recipe import Recipe

EVALUATION_BATCH = 1000


class NonFiniteLoss(ArithmeticError):
    """The training loss became infinite or not a number."""


class Training:
    """The training of one network for a number of epochs; its state can be saved after each and taken up again.

    Args:
        network: to train, in place; it is moved to the device.
        data: train and validation images; they are moved to the device.
        data_set: what they are, for normalisation and augmentation.
        recipe: how to train.
        epochs: budget; the learning rate falls over it.
        seed: of the order of images, augmentation and stochastic depth. (The initial weights come with the network.)
        device: a torch device; on a GPU the forward pass runs in bfloat16 autocast.
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
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train_images, self.validation_images = to(data.train, self.device), to(data.validation, self.device)
        self.data_set, self.recipe, self.epochs = data_set, recipe, epochs
        self.optimizer = recipe.optimizer(network)
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = 0

    def run(self, after_epoch: Callable[[dict[str, Any]], None]) -> None:
        """Train the epochs that are left; `after_epoch` gets the row of each: losses, errors in percent, seconds.

        Raises:
            NonFiniteLoss: the mean training loss of an epoch is not finite.
        """
        while self.epoch < self.epochs:
            start = time.perf_counter()
            with torch.random.fork_rng(devices=[]):
                # Stochastic depth draws from the global generator.
                torch.manual_seed(int(torch.randint(2**31, (), generator=self.generator)))
                loss, error = self._train_epoch()
            self.epoch += 1
            validation_loss, validation_error = evaluate(self.network, self.validation_images, self.data_set)
            after_epoch(
                {
                    "epoch": self.epoch,
                    "train_loss": loss,
                    "train_error": error,
                    "validation_loss": validation_loss,
                    "validation_error": validation_error,
                    "learning_rate": self.optimizer.param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
            )

    def state(self) -> dict[str, Tensor]:
        """Return all that a later process needs to go on, as tensors by name."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum
        tensors["generator"] = self.generator.get_state()
        tensors["epoch"] = torch.tensor(self.epoch)
        return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(network_state(tensors))
        for index, parameter in enumerate(self._parameters()):
            if f"momentum.{index}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{index}"])
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.generator.set_state(tensors["generator"])
        self.epoch = int(tensors["epoch"])

    def _train_epoch(self) -> tuple[float, float]:
        """Return the mean loss and the error in percent over the epoch's batches."""
        self.network.train()
        count, size = len(self.train_images.labels), self.recipe.batch_size
        loss_sum = torch.zeros((), device=self.device)
        wrong = torch.zeros((), device=self.device)
        order = torch.randperm(count, generator=self.generator).to(self.device)
        batches = -(-count // size)
        if batches > 1 and count % size == 1:
            batches -= 1  # batch norm needs two images
        for batch in range(batches):
            rate = self.recipe.rate((self.epoch + batch / batches) / self.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            chosen = order[batch * size : (batch + 1) * size]
            labels = self.train_images.labels[chosen]
            images = augment(self.train_images.images[chosen], self.data_set.pad, self.data_set.flip, self.generator)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                logits = self.network(normalise(images, self.data_set))
                loss = functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            loss_sum += loss.detach() * len(chosen)
            wrong += (logits.detach().argmax(1) != labels).sum()
        seen = min(count, batches * size)
        mean = float(loss_sum) / seen
        if not torch.isfinite(torch.tensor(mean)):
            raise NonFiniteLoss(f"non-finite loss in epoch {self.epoch + 1}")
        return mean, 100 * float(wrong) / seen

    def _parameters(self) -> Iterator[nn.Parameter]:
        for group in self.optimizer.param_groups:
            yield from group["params"]


def evaluate(network: nn.Module, images: Images, data_set: DataSet) -> tuple[float, float]:
    """Return mean loss and error in percent of a network, in evaluation mode, on images of its device."""
    network.eval()
    device = images.images.device
    loss, wrong = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for start in range(0, len(images.labels), EVALUATION_BATCH):
            labels = images.labels[start : start + EVALUATION_BATCH]
            logits = network(normalise(images.images[start : start + EVALUATION_BATCH], data_set)).float()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            wrong += (logits.argmax(1) != labels).sum()
    return float(loss) / len(images.labels), 100 * float(wrong) / len(images.labels)


def network_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's part of what `Training.state` returned."""
    return {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}


def normalise(images: Tensor, data_set: DataSet) -> Tensor:
    """Return uint8 images as float32 with mean 0 and deviation 1 per channel over the train split, channels last."""
    shape = (1, -1, 1, 1)
    mean = torch.tensor(data_set.mean, device=images.device).view(shape)
    scale = 1 / (255 * torch.tensor(data_set.std, device=images.device)).view(shape)
    floats = images.to(torch.float32).contiguous(memory_format=torch.channels_last)
    return (floats - 255 * mean).mul_(scale)


def to(images: Images, device: torch.device) -> Images:
    """Return the images on a device."""
    return Images(images.images.to(device), images.labels.to(device))
