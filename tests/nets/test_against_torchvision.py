"""ResNets for 224×224 images against torchvision's, weights copied; and its networks rewired against our own."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from odenas.nets import build, parameters, rewire
from odenas.space import Blocks, Coefficients, Scheme, scheme

NETWORKS: dict[str, tuple[Blocks, int, int]] = {
    # Their blocks and first width here, and the parameters that their authors' release lists.
    "resnet18": (Blocks("post-basic", per_stage=(2, 2, 2, 2)), 64, 11_689_512),
    "resnet34": (Blocks("post-basic", per_stage=(3, 4, 6, 3)), 64, 21_797_672),
    "resnet50": (Blocks("post-bottleneck", per_stage=(3, 4, 6, 3)), 256, 25_557_032),
    "resnet101": (Blocks("post-bottleneck", per_stage=(3, 4, 23, 3)), 256, 44_549_160),
    "resnext50_32x4d": (Blocks("post-bottleneck", per_stage=(3, 4, 6, 3), groups=32, inner=0.5), 256, 25_028_904),
    "resnext101_32x8d": (Blocks("post-bottleneck", per_stage=(3, 4, 23, 3), groups=32, inner=1), 256, 88_791_336),
    "resnext101_64x4d": (Blocks("post-bottleneck", per_stage=(3, 4, 23, 3), groups=64, inner=1), 256, 83_455_272),
    "wide_resnet50_2": (Blocks("post-bottleneck", per_stage=(3, 4, 6, 3), inner=0.5), 256, 68_883_240),
}


LARGE = ("resnet18", "resnet50", "resnext50_32x4d")


def ours_of(name: str) -> Any:
    blocks, width, _ = NETWORKS[name]
    return build(replace(scheme("euler"), blocks=blocks), classes=1000, width=width, stem="imagenet", stem_width=64)


def moved(network: nn.Module) -> nn.Module:
    """Return the network with its norms and their statistics away from where they begin."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 32, 32, dtype=next(network.parameters()).dtype))
    return network.eval()


def layers(*modules: Any) -> Iterator[nn.Module]:
    """Yield the convolutions, norms and linear layers of the modules in turn."""
    for module in modules:
        yield from (each for each in module.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.Linear))


def matched(ours: Any, theirs: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each layer here with that of torchvision: stem, then each block's branch and shortcut, then the head."""
    yield from zip(layers(ours.stem), layers(theirs.conv1, theirs.bn1), strict=True)
    stages = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
    for stage, blocks in zip(ours.stages, stages, strict=True):
        branches = [stage.first, *(branch for (branch,) in stage.blocks)]
        for i, (branch, block) in enumerate(zip(branches, blocks, strict=True)):
            names = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")
            yield from zip(
                layers(branch), layers(*(getattr(block, n) for n in names if hasattr(block, n))), strict=True
            )
            carried = () if block.downsample is None else (block.downsample,)
            yield from zip(layers(*([] if i else [stage.shortcut])), layers(*carried), strict=True)
    yield ours.head, theirs.fc


def copied(ours: Any, theirs: Any) -> Any:
    """Return our network with the other's weights and statistics."""
    seen: set[nn.Module] = set()
    for own, other in matched(ours, theirs):
        assert type(own) is type(other)
        own.load_state_dict(other.state_dict())
        seen.add(own)
    assert seen == {*layers(ours)}
    return ours.train(theirs.training)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parameters_are_as_many(name: str) -> None:
    with torch.device("meta"):
        assert parameters(ours_of(name)) == parameters(getattr(resnet, name)()) == NETWORKS[name][-1]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 33), *((name, 64) for name in LARGE)])
@torch.no_grad()
def test_the_logits_are_equal(name: str, size: int) -> None:
    torch.manual_seed(0)
    theirs = moved(getattr(resnet, name)())
    with torch.device("meta"):
        ours = ours_of(name)
    ours = copied(ours.to_empty(device="cpu"), theirs)
    images = torch.randn(1, 3, size, size)
    expected = theirs(images)
    assert expected.std() > 1e-2
    torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    if size == 64:
        double, expected = ours.double()(images.double()), theirs.double()(images.double())
        torch.testing.assert_close(double, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


def small(layers: list[int], block: Any = resnet.BasicBlock, **options: Any) -> nn.Module:
    """Return a network of torchvision's, with weights of its own, in float64."""
    torch.manual_seed(0)
    return moved(resnet.ResNet(block, layers, num_classes=7, **options).double())


def test_a_training_step_is_equal() -> None:
    theirs = small([1, 1, 1, 1])
    blocks = Blocks("post-basic", per_stage=(1, 1, 1, 1))
    ours: Any = build(replace(scheme("euler"), blocks=blocks), classes=7, width=64, stem="imagenet").double()
    copied(ours, theirs)
    images, labels = torch.randn(4, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1, 5, 6])
    networks: list[Any] = [ours, theirs]
    for network in networks:
        nn.functional.cross_entropy(network.train()(images), labels).backward()  # type: ignore[no-untyped-call]
    for own, other in matched(ours, theirs):
        for p, q in zip(own.parameters(), other.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)
        for buffer, expected in zip(own.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(buffer, expected, rtol=1e-12, atol=1e-12)


STEPS: dict[str, Scheme] = {
    "euler": scheme("euler"),
    "lm": replace(scheme("lm"), coefficients=Coefficients("learned", "step", "none", spread=0.5)),
    "lm by channel": replace(scheme("lm"), coefficients=Coefficients("learned", "channel", "none", spread=0.5)),
    "momentum": scheme("momentum", gamma="1/2"),
    "ab2": scheme("ab2"),
    "ab3": scheme("ab3"),
    "rk4": replace(scheme("rk4"), tying="stages"),
    "pece_ab2_am2": scheme("pece_ab2_am2"),
}


@pytest.mark.parametrize("name", STEPS)
@torch.no_grad()
def test_a_rewired_network_is_the_one_that_is_built(name: str) -> None:
    """With the same weights: states are those after φ, and begin with what the shortcut makes of the stage before."""
    counts = [4, 3, 1, 1]
    theirs = small(counts)
    plain = deepcopy(theirs)
    blocks = Blocks("post-basic", per_stage=tuple(counts))
    value = replace(STEPS[name], blocks=blocks)
    ours: Any = build(value, classes=7, width=64, stem="imagenet").double()
    copied(ours, theirs)
    rewired: Any = rewire(theirs, STEPS[name])
    if value.coefficients.learning == "learned":
        for own, other in zip(ours.weights.coordinates, rewired.rewiring.weights.coordinates, strict=False):
            other.copy_(own)  # those of the first two stages: the others have no step
        assert max(float(k.abs().max()) for k in ours.weights.coordinates[:2]) > 0.1
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for training in (False, True):
        expected = rewired.train(training)(images)
        output = ours.train(training)(images)
        torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11 * float(expected.abs().max()))
        same = float((plain.train(training)(images) - expected).abs().max()) < 1e-9
        assert same == (name == "euler")
