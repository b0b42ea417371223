"""The contract of the named networks, each made thin and short: what users may do with any of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from odenas.nets import build, export, parameters
from odenas.nets.named_networks import NETWORKS, NamedNetwork
from odenas.space.implicit import ImplicitMultistep

CLASSES, SHORT = 5, {"basic": 14, "bottleneck": 20, "post-basic": 14, "post-bottleneck": 20, "antisymmetric": 8}


def thin(row: NamedNetwork, channels: int = 3, params: int | None = None) -> Any:
    """Return the network with few channels and two blocks in each stage."""
    scheme, blocks = row.scheme, row.scheme.blocks
    options = {**row.options, **({"stem_width": 4} if "stem_width" in row.options else {})}
    if blocks.per_stage:
        scheme = replace(scheme, blocks=replace(blocks, per_stage=(2,) * min(3, len(blocks.per_stage))))
    stages = 5 if options.get("backbone") == "fractal" else 3
    width = tuple(4 if i < 2 else 8 for i in range(stages)) if isinstance(row.width, int) else (4, 8, 8)
    shortened = row.depth and SHORT.get(blocks.kind, 14)
    depth = row.depth if options.get("backbone") == "multigrid" else shortened
    torch.manual_seed(0)
    return build(scheme, depth, CLASSES, channels, params, width, **options)


@cache
def of_kinds() -> dict[str, str]:
    """Return one name for each kind of network: names that differ in depth and width alone are one, made thin."""
    kinds: dict[str, str] = {}
    for name, row in NETWORKS.items():
        blocks = replace(row.scheme.blocks, per_stage=())
        kind = repr((replace(row.scheme, blocks=blocks).to_dict(), sorted(row.options.items())))
        kinds.setdefault(kind, name)
    return {name: kind for kind, name in kinds.items()}


KINDS = list(of_kinds())


def images(channels: int = 3, count: int = 4, size: int = 16) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def outputs(network: Any, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    with torch.no_grad():
        return network(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_trains(name: str, channels: int) -> None:
    """Every parameter of a network without noise that is used gets a gradient, and a step of it lowers the loss."""
    network = thin(NETWORKS[name], channels).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0005)
    labels, losses = torch.arange(4) % CLASSES, []
    for seed in range(8):
        torch.manual_seed(seed)
        x = images(channels, size=64 if "imagenet" in str(NETWORKS[name].options) else 16)
        output = network(x)
        loss = (
            functional.cross_entropy(output, labels)
            if network.output == "logits"
            else (output - 0.5 * x).square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(map(torch.isfinite, map(torch.tensor, losses)))
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    if not network.scheme.stochasticity.rate:
        assert min(losses[1:]) < losses[0]
        assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", KINDS)
def test_evaluation_is_deterministic_and_training_differs_by_the_batch_or_by_noise(name: str) -> None:
    network = thin(NETWORKS[name]).eval()
    assert torch.equal(outputs(network, images(), 0), outputs(network, images(), 1))
    noisy = network.scheme.stochasticity.rate or "fractal" in name
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    in_training = outputs(network.train(), images(), 0)
    again = outputs(network.train(), images(), 0)
    assert torch.equal(in_training, again)  # the seed says it all
    others = [outputs(network.train(), images(), seed) for seed in range(1, 9)]
    assert any(not torch.equal(in_training, other) for other in others) == bool(noisy)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [1, 7, 12, 33])
def test_odd_sizes_and_single_images(name: str, size: int) -> None:
    network = thin(NETWORKS[name]).eval()
    x = images(size=size)
    if network.scheme and NETWORKS[name].options.get("backbone") == "multigrid" and size % 4:
        with pytest.raises(ValueError, match=f"{size}"):
            outputs(network, x)
        return
    whole = outputs(network, x)
    assert whole.shape == ((4, CLASSES) if network.output == "logits" else x.shape)
    assert whole.isfinite().all()
    torch.testing.assert_close(outputs(network, x[:1]), whole[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_its_state_makes_it_again(name: str) -> None:
    network, other = thin(NETWORKS[name]), thin(NETWORKS[name])
    outputs(network.train(), images())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    other.load_state_dict(network.state_dict())
    assert torch.equal(outputs(network.eval(), images()), outputs(other.eval(), images()))


@pytest.mark.parametrize("name", KINDS)
def test_a_budget_is_met(name: str) -> None:
    """Within 2 %, as far as whole channels, halves and groups can."""
    row = NETWORKS[name]
    budget = 300_000 if row.scheme.blocks.groups == 1 else 3_000_000
    network = thin(row, params=budget)
    own = sum(parameter.numel() for parameter in getattr(network, "weights", torch.nn.Identity()).parameters())
    assert abs((parameters(network) - own) / budget - 1) < 0.02, network.architecture["widths"]


@pytest.mark.parametrize("name", KINDS)
def test_an_export_is_the_network(name: str, tmp_path: Path) -> None:
    network = thin(NETWORKS[name]).train()
    for _ in range(2):
        outputs(network, images())
    differences = export(network.eval(), tmp_path / name, size=16)
    assert differences["float32"] <= 1e-6
    assert differences["float64"] <= 1e-12


@pytest.mark.parametrize("name", KINDS)
def test_it_runs_compiled_in_channels_last_and_in_bfloat16(name: str) -> None:
    network = thin(NETWORKS[name]).eval()
    expected = outputs(network, images())
    last = outputs(network.to(memory_format=torch.channels_last), images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = outputs(network, images())
    assert half.isfinite().all()
    torch.compiler.reset()
    # An equation is solved until it is, which no graph can say.
    solved = isinstance(network.scheme.tableau, ImplicitMultistep)
    compiled = torch.compile(network, backend="eager", fullgraph=not solved)
    torch.testing.assert_close(outputs(compiled, images()), expected, rtol=1e-3, atol=1e-4)
