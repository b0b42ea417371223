"""The Momentum ResNet against `momentumnet`, the package of its authors (Sander et al. 2021).

They iterate v ← γv + (1 − γ)f(x), x ← x + v from v = 0; here it is x_{n+1} = (1 + γ)x_n − γx_{n−1} + (1 − γ)f(x_n).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.space import scheme

momentumnet = pytest.importorskip("momentumnet")

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


def made(gamma: str, training: bool) -> Any:
    """Return a network of three stages, its norms neither at 0, 1 nor at their first statistics."""
    torch.manual_seed(0)
    network = build(scheme("momentum", gamma=gamma), 32, width=4).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    network.train()
    for _ in range(2):
        network(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    return network.train(training)


class Theirs(nn.Module):
    """The same network with the same branches, its steps by `momentumnet`."""

    def __init__(self, network: Any, gamma: float, backprop: bool) -> None:
        super().__init__()
        self.network = deepcopy(network)
        self.nets = nn.ModuleList()
        for stage in self.network.stages:
            branches = [branch for (branch,) in stage.blocks]
            self.nets.append(momentumnet.MomentumNet(branches, gamma, use_backprop=backprop))

    def forward(self, images: Tensor) -> Tensor:
        network: Any = self.network
        x = network.stem(images)
        for stage, net in zip(network.stages, self.nets, strict=True):
            x = net(stage.shortcut(x) + stage.first(x))
        return network.head(network.norm(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


def gradients(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output, and the gradient of a loss of it to the images."""
    images = images.clone().requires_grad_()
    output = model(images)
    output.square().sum().backward()
    assert images.grad is not None
    return output.detach(), images.grad


def both(network: Any, theirs: Theirs) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the name of each parameter and buffer, and it in the one and in the other."""
    other = theirs.network.state_dict(keep_vars=True)
    for name, value in network.state_dict(keep_vars=True).items():
        yield name, value, other[name]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gamma", ["9/10", "1/3", "0"])
def test_outputs_and_gradients_are_equal(gamma: str, training: bool) -> None:
    network = made(gamma, training)
    theirs = Theirs(network, float(Fraction(gamma)), backprop=True)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    (ours, of_ours), (expected, of_expected) = gradients(network, images), gradients(theirs, images)
    torch.testing.assert_close(ours, expected, **EXACT)
    scale = float(of_expected.abs().max())
    torch.testing.assert_close(of_ours, of_expected, rtol=1e-12, atol=1e-12 * scale)
    counted = 0
    for name, own, other in both(network, theirs):
        if isinstance(own, nn.Parameter):
            assert own.grad is not None
            assert other.grad is not None
            counted += 1
            torch.testing.assert_close(
                own.grad, other.grad, rtol=1e-12, atol=1e-12 * float(other.grad.abs().max() + scale), msg=name
            )
        else:
            torch.testing.assert_close(own, other, **EXACT, msg=name)  # running statistics
    assert counted > 3 * 5 * 6


def test_each_stage_alone_is_equal() -> None:
    """By the steps that the stage itself makes, from the state after its first block on."""
    network = made("9/10", training=False)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        x = network.stem(x)
        for index, stage in enumerate(network.stages):
            steps = network.weights(index, x.dtype)
            (ours, *_) = stage([x], steps, network.start, (2, 0))
            net = momentumnet.MomentumNet([branch for (branch,) in stage.blocks], 0.9)
            expected = net(stage.shortcut(x) + stage.first(x))
            torch.testing.assert_close(ours, expected, **EXACT)
            x = ours


def test_without_backpropagation_the_outputs_are_as_equal() -> None:
    """Its buffer of bits rounds the velocity, which the output forgets; its gradients are not exact."""
    network = made("9/10", training=False)
    theirs = Theirs(network, 0.9, backprop=False)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        ours, expected = network(images), theirs(images)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_another_gamma_is_told_apart() -> None:
    network = made("9/10", training=False)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        off = (network(images) - Theirs(network, 0.9 + 1e-6, backprop=True)(images)).abs().max()
    assert off > 1e-8
