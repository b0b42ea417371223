"""The exponential moving average of a network's weights while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average w̄ ← d w̄ + (1 − d) w of a network's weights w, taken after every step of the optimiser.

    Averaging the iterates: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control
    Optim. 30, 1992; exponentially and for networks: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016,
    §8. The decay d of step t = 0, 1, … is min(decay, (1 + t)/(10 + t)), as in TensorFlow's ExponentialMovingAverage
    with `num_updates`, so that the weights drawn at the beginning are soon forgotten.

    What is averaged are the parameters as they are stored. Learned coefficients of a scheme are stored as coordinates
    without bounds, from which the coefficients follow under their constraint; so those of the average keep it too.

    The running means and variances of batch norm are averaged as the weights are, as in Page's "How to train your
    ResNet" (2019) and in torchvision's reference trainings: they then belong to the same stretch of the training as the
    weights that they normalise for, where a copy would belong to its last steps alone. (Of the first layer, the mean is
    linear in the weights, so that its average is the averaged weights' own.) Whole numbers, such as the batches counted
    by batch norm, are copied.

    The network itself holds the averaged weights, to be judged, saved and exported, but for the time of `raw`, in which
    it holds those that the optimiser moves.

    Args:
        network: on its device; it has its weights, the first of the average, and keeps its tensors.
        decay: 0 < decay < 1; the average is over about 1/(1 − decay) steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        # Each tensor once, also where modules share it, as `state_dict` would not have it.
        self.tensors = {
            name: tensor.detach() for name, tensor in chain(network.named_parameters(), network.named_buffers())
        }
        self.others = {name: tensor.clone() for name, tensor in self.tensors.items()}
        floating = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        self.averages, self.values = ([of[name] for name in floating] for of in (self.others, self.tensors))
        self.whole = [name for name, tensor in self.tensors.items() if not tensor.is_floating_point()]

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Let the network hold the weights that the optimiser moves, for the time of a `with`."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step of the optimiser into the average, within `raw`."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(self.averages, self.values, self.steps)  # type: ignore[no-untyped-call]
        for name in self.whole:
            self.others[name].copy_(self.tensors[name])
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed beside the network's own tensors to go on, outside `raw`."""
        return {f"raw.{name}": tensor for name, tensor in self.others.items()} | {"steps": torch.tensor(self.steps)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned, the network's own tensors being restored already."""
        for name, other in self.others.items():
            other.copy_(tensors[f"raw.{name}"])
        self.steps = int(tensors["steps"])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, tensor in self.tensors.items():
            held = tensor.clone()
            tensor.copy_(self.others[name])
            self.others[name].copy_(held)
