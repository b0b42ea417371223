"""Runge–Kutta networks of one f against the solvers of `torchdiffeq` (Chen et al. 2018) with a fixed step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.space import Blocks, scheme

torchdiffeq = pytest.importorskip("torchdiffeq")

METHODS = {"euler": "euler", "explicit_midpoint": "midpoint", "heun2": "heun2", "heun3": "heun3", "rk38": "rk4"}
"""A scheme's name there; its "rk4" is the 3/8 rule."""


def made(name: str, kind: str, training: bool) -> Any:
    """Return a network whose every stage integrates one branch, its norms moved from where they begin."""
    torch.manual_seed(0)
    value = replace(scheme(name), tying="steps", blocks=Blocks(kind, activation="tanh"))
    network = build(value, 32 if kind == "basic" else 47, width=4).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.3, 0.8)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    with torch.no_grad():
        network(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    return network.train(training)


def integrated(network: Any, method: str) -> Callable[[Tensor], Tensor]:
    """Return the forward of the network with its steps by torchdiffeq."""

    def forward(images: Tensor) -> Tensor:
        x = network.stem(images)
        for stage in network.stages:
            x = stage.shortcut(x) + stage.first(x)
            ((branch,),) = stage.blocks
            times = torch.arange(stage.count, dtype=x.dtype)
            x = torchdiffeq.odeint(lambda t, y, f=branch: f(y), x, times, method=method)[-1]
        return network.head(network.activation(network.norm(x)).mean((2, 3)))  # type: ignore[no-any-return]

    return forward


def gradient(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output, and the gradient of a loss of it to the images."""
    images = images.clone().requires_grad_()
    output = function(images)
    output.square().sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    return output.detach(), images.grad


def close(value: Tensor, expected: Tensor, name: str | None = None) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12 * scale, msg=name)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("name", METHODS)
def test_outputs_and_gradients_are_equal(name: str, kind: str, training: bool) -> None:
    """In training the norms use the statistics of each stage's own batch, and average them in the same turn."""
    network = made(name, kind, training)
    other = deepcopy(network)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    ours, of_ours = gradient(network, images)
    expected, of_expected = gradient(integrated(other, METHODS[name]), images)
    close(ours, expected)
    close(of_ours, of_expected)
    parameters, statistics = dict(other.named_parameters()), dict(other.named_buffers())
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        close(parameter.grad, parameters[key].grad, key)
    for key, buffer in network.named_buffers():
        close(buffer.double(), statistics[key].double(), key)


@torch.no_grad()
def test_their_rk4_is_not_the_classical_one() -> None:
    network = made("rk4", "basic", training=False)
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    assert float((network(images) - integrated(network, "rk4")(images)).abs().max()) > 1e-6
