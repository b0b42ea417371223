"""RevNet, symplectic Euler of two halves, against the packages RevTorch and MemCNN.

Both make y_1 = x_1 + F(x_2), y_2 = x_2 + G(y_1) (Gomez et al. 2017), each with an autograd or an inverse of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.partitioned import PartitionedStage
from odenas.space import scheme

DEPTH = 26


def made(reversible: bool, training: bool, tying: str = "none") -> list[PartitionedStage]:
    """Return the stages of a RevNet, their norms moved from where they begin."""
    torch.manual_seed(0)
    value = replace(scheme("symplectic_euler"), tying=tying)
    network: Any = build(value, DEPTH, width=4, reversible=reversible).double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    with torch.no_grad():
        network(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    network.train(training)
    return list(network.stages)


def pairs(stage: PartitionedStage) -> list[tuple[nn.Module, nn.Module]]:
    """Return copies of F and G of each step; where steps share them, so do the copies."""
    branches: Any = deepcopy(stage.steps)
    rows = [tuple(row) for row in branches]
    return rows * (len(stage.noises) // len(rows))


def revtorch_net(rows: list[tuple[nn.Module, nn.Module]]) -> nn.Module:
    package = pytest.importorskip("revtorch")
    return package.ReversibleSequence(nn.ModuleList(package.ReversibleBlock(f, g) for f, g in rows))  # type: ignore[no-any-return]


def memcnn_net(rows: list[tuple[nn.Module, nn.Module]]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, at its import
        package = pytest.importorskip("memcnn")
    return nn.Sequential(*(package.AdditiveCoupling(Fm=f, Gm=g) for f, g in rows))


NETS: dict[str, Callable[[list[tuple[nn.Module, nn.Module]]], nn.Module]] = {
    "revtorch": revtorch_net,
    "memcnn": memcnn_net,
}


def gradients(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after, and the gradient of a loss of it to that before."""
    x = x.clone().requires_grad_()
    output = function(x)
    (output.sin() * torch.linspace(0, 1, output.numel(), dtype=x.dtype).view_as(output)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return output.detach(), x.grad


def close(value: Tensor, expected: Tensor, name: str = "") -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12 * max(scale, 1), msg=name or None)


@pytest.mark.parametrize("tying", ["none", "steps"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("package", NETS)
def test_states_and_gradients_are_equal(package: str, reversible: bool, training: bool, tying: str) -> None:
    for stage in made(reversible, training, tying):
        rows = pairs(stage)
        theirs = NETS[package](rows).train(training)
        channels = 2 * next(stage.steps.parameters()).numel()
        x = torch.randn(3, channels, 4, 4, dtype=torch.float64)
        output, gradient = gradients(stage.stepped, x)
        expected, of_expected = gradients(theirs, x)
        close(output, expected)
        close(gradient, of_expected)
        ours: list[Any] = [branch for row in stage.steps for branch in row]  # type: ignore[attr-defined]
        assert len(ours) == (2 * len(rows) if tying == "none" else 2)
        for branch, other in zip(ours, chain.from_iterable(rows), strict=tying == "none"):
            for (name, p), (_, q) in zip(branch.named_parameters(), other.named_parameters(), strict=True):
                assert p.grad is not None
                assert q.grad is not None
                close(p.grad, q.grad, name)


@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_inverses_are_equal(training: bool) -> None:
    """MemCNN's of each block, last first; both lead back to where the state came from."""
    for stage in made(False, training):
        theirs: Any = NETS["memcnn"](pairs(stage)).train(training)
        channels = 2 * next(stage.steps.parameters()).numel()
        y = torch.randn(3, channels, 4, 4, dtype=torch.float64)
        expected = y
        for coupling in reversed(theirs):
            expected = coupling.inverse(expected)
        x = stage.inverse(y)
        assert float((x - y).abs().max()) > 0.1
        close(x, expected)
        close(stage.stepped(x), y)


@pytest.mark.parametrize("package", NETS)
@torch.no_grad()
def test_halves_in_the_other_order_are_told_apart(package: str) -> None:
    stage = made(False, False)[0]
    theirs = NETS[package]([(g, f) for f, g in pairs(stage)]).eval()
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    assert float((stage.stepped(x) - theirs(x)).abs().max()) > 1e-3


def test_statistics_count_a_batch_once_where_revtorch_counts_it_twice() -> None:
    """It evaluates each branch again for the gradient with the norms as they are."""
    stage = made(True, True)[0]
    rows = pairs(stage)
    theirs = revtorch_net(rows).train()
    ours: Any = stage.steps[0]
    copy: Any = rows[0][0]
    before = int(copy.norm1.num_batches_tracked)
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    gradients(stage.stepped, x)
    gradients(theirs, x)
    assert int(ours[0].norm1.num_batches_tracked) == before + 1
    assert int(copy.norm1.num_batches_tracked) == before + 2
