"""Shared weights: one module, counted and saved once, and the same function as an untied network of equal weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from odenas.nets import SchemeNetwork, build, parameters
from odenas.space import Blocks, Scheme, scheme

TIED = {
    f"{name}, {tying}, {transition}": replace(scheme(name), tying=tying, transition=transition)
    for name in ("euler", "midpoint", "rk4", "poly3")
    for tying in ("stages", "steps")
    for transition in ("restart", "project")
} | {f"pece, {tying}": replace(scheme("pece_ab3_am2"), tying=tying) for tying in ("stages", "steps")}


def made(value: Scheme, depth: int = 26, width: int = 2, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = build(value, depth, width=width).double()
    for module in network.modules():  # nothing has the value it starts with
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def untied(network: Any) -> Any:
    """Return a network whose branches have weights of their own, equal to those of the branch they stand for."""
    other = made(replace(network.scheme, tying="none"), seed=9)
    state = network.state_dict()
    common = {key: value for key, value in state.items() if ".blocks." not in key and ".rest." not in key}
    other.load_state_dict(common, strict=False)
    for stage, free in zip(network.stages, other.stages, strict=True):
        for index, i in evaluations(free):
            free._branch(index, i).load_state_dict(stage._branch(index, i).state_dict())
    return other


def evaluations(stage: Any) -> list[tuple[int, int]]:
    """Return block and number of every branch of an untied stage, its first left out."""
    rows = [1 + len(stage.rest), *map(len, stage.blocks)]
    return [(index, i) for index, count in enumerate(rows) for i in range(count) if index or i]


@pytest.mark.parametrize("name", TIED)
def test_a_tied_network_is_the_untied_one_with_equal_weights(name: str) -> None:
    """Its logits, and its gradients: those of the untied branches summed."""
    tied = made(TIED[name]).eval()
    free = untied(tied).eval()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for network in (tied, free):
        network(images).square().sum().backward()
    torch.testing.assert_close(tied(images), free(images), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tied.stem.weight.grad, free.stem.weight.grad, rtol=1e-9, atol=1e-9)
    for stage, other in zip(tied.stages, free.stages, strict=True):
        summed: dict[int, Tensor] = {}
        for index, i in evaluations(other):
            weight = stage._branch(index, i).conv1.weight
            gradient = other._branch(index, i).conv1.weight.grad
            summed[id(weight)] = summed.get(id(weight), torch.zeros_like(weight)) + gradient
        for weight in (block.conv1.weight for row in [stage.rest, *stage.blocks] for block in row):
            scale = float(weight.grad.abs().max())
            torch.testing.assert_close(weight.grad, summed[id(weight)], rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.parametrize("tying", ["none", "stages", "steps"])
@pytest.mark.parametrize("transition", ["restart", "project"])
def test_the_branches_that_share_are_one(tying: str, transition: str) -> None:
    """Counted by hand for RK4 in three stages of three blocks; the first branch of a stage shares with none."""
    network: Any = build(replace(scheme("rk4"), tying=tying, transition=transition), 20, width=3)
    steps = [2, 2, 2] if transition == "restart" else [2, 3, 3]
    for index, (stage, count) in enumerate(zip(network.stages, steps, strict=True)):
        first = index > 0 and transition == "project"  # the first block is a step, its first branch apart
        own = {"none": 4 * count - first, "stages": count, "steps": 1}[tying]
        modules = {id(stage._branch(block, i)) for block in range(3 - count, 3) for i in range(4)}
        modules.discard(id(stage.first))
        assert len(modules) == own
        assert sum(1 for name, _ in stage.named_parameters() if "blocks" in name or "rest" in name) == 6 * own


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("tying", ["none", "stages", "steps"])
@pytest.mark.parametrize("budget", [60_000, 400_000])
def test_a_budget_counts_what_is_shared_once(kind: str, tying: str, budget: int) -> None:
    value = replace(scheme("rk4"), tying=tying, transition="project", blocks=Blocks(kind))
    with torch.device("meta"):
        network = build(value, params=budget)
    assert abs(parameters(network) / budget - 1) < 0.02
    first, second, last = network.architecture["widths"]
    assert abs(second - last / 2) <= 2
    assert abs(first - last / 4) <= 2


@pytest.mark.parametrize("tying", ["stages", "steps"])
def test_what_is_shared_is_saved_once(tying: str, tmp_path: Path) -> None:
    """Every tensor of the state has memory of its own, so that safetensors takes it as it is."""
    network: SchemeNetwork = made(TIED[f"rk4, {tying}, project"])
    state = network.state_dict()
    assert len({tensor.untyped_storage().data_ptr() for tensor in state.values()}) == len(state)
    save_file(state, tmp_path / "state.safetensors")
    other = made(TIED[f"rk4, {tying}, project"], seed=4)
    other.load_state_dict(load_file(tmp_path / "state.safetensors"), strict=True)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(other.eval()(images), network.eval()(images))


def test_running_statistics_are_one_average_over_all_uses() -> None:
    """In training every use is normalised by its own batch; the average moves by a tenth with each."""
    network: Any = build(TIED["rk4, stages, restart"], 14, width=2)
    (branch,) = network.stages[0].blocks[0]
    inputs: list[Tensor] = []
    branch.norm1.register_forward_hook(lambda module, arguments, output: inputs.append(arguments[0].detach()))
    network(torch.randn(8, 3, 8, 8))
    assert len(inputs) == 4
    assert int(branch.norm1.num_batches_tracked) == 4
    mean = torch.zeros(2)
    for x in inputs:
        mean = 0.9 * mean + 0.1 * x.mean((0, 2, 3))
    torch.testing.assert_close(branch.norm1.running_mean, mean)


@pytest.mark.parametrize("depth", [14, 20, 38])
def test_one_f_for_a_stage_does_not_grow_with_depth(depth: int) -> None:
    network = build(TIED["midpoint, steps, restart"], depth, width=2)
    assert parameters(network) == parameters(build(TIED["midpoint, steps, restart"], 14, width=2))
