"""The plain networks against those of `pytorchcv`, weights copied: as many parameters, and the same logits.

Where an architecture of theirs is another one, the test that compares them makes the one difference and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from odenas.nets import build, parameters
from odenas.space import Blocks, scheme

model_provider = pytest.importorskip("pytorchcv.model_provider")
preresnet = pytest.importorskip("pytorchcv.models.preresnet_cifar")
resnext = pytest.importorskip("pytorchcv.models.resnext_cifar")

SMALL: dict[str, dict[str, Any]] = {"plain": {"width": 16}, "wide": {"width": 64, "stem_width": 16}}
CIFAR = {"stem": "normalised"}
IMAGENET = {"stem": "imagenet", "stem_width": 64, "width": 256, "classes": 1000}

# A name of theirs; our blocks; depth and the rest of `build`; the number of parameters.
EQUAL: dict[str, tuple[Blocks, dict[str, Any], int]] = {
    "resnet20_cifar10": (Blocks("post-basic"), {"depth": 20, **SMALL["plain"], **CIFAR}, 272_474),
    "resnet56_cifar10": (Blocks("post-basic"), {"depth": 56, **SMALL["plain"], **CIFAR}, 855_770),
    "resnet110_cifar10": (Blocks("post-basic"), {"depth": 110, **SMALL["plain"], **CIFAR}, 1_730_714),
    "resnet1202_cifar10": (Blocks("post-basic"), {"depth": 1202, **SMALL["plain"], **CIFAR}, 19_424_026),
    "resnet164bn_cifar10": (Blocks("post-bottleneck"), {"depth": 164, **SMALL["wide"], **CIFAR}, 1_704_154),
    "resnet1001_cifar10": (Blocks("post-bottleneck"), {"depth": 1001, **SMALL["wide"], **CIFAR}, 10_328_602),
    "resnext20_32x2d_cifar10": (
        Blocks("post-bottleneck", groups=32, inner=0.25),
        {"depth": 20, "width": 256, "stem_width": 64, **CIFAR},
        1_946_698,
    ),
    "resnext29_32x4d_cifar10": (
        Blocks("post-bottleneck", groups=32, inner=0.5),
        {"depth": 29, "width": 256, "stem_width": 64, **CIFAR},
        4_775_754,
    ),
    "resnext29_16x64d_cifar10": (
        Blocks("post-bottleneck", groups=16, inner=4),
        {"depth": 29, "width": 256, "stem_width": 64, **CIFAR},
        68_155_210,
    ),
    "resnet18": (Blocks("post-basic", per_stage=(2, 2, 2, 2)), {**IMAGENET, "width": 64}, 11_689_512),
    "resnet50b": (Blocks("post-bottleneck", per_stage=(3, 4, 6, 3)), IMAGENET, 25_557_032),
    "resnet101b": (Blocks("post-bottleneck", per_stage=(3, 4, 23, 3)), IMAGENET, 44_549_160),
    "resnext50_32x4d": (
        Blocks("post-bottleneck", per_stage=(3, 4, 6, 3), groups=32, inner=0.5),
        IMAGENET,
        25_028_904,
    ),
    "resnext101_32x4d": (
        Blocks("post-bottleneck", per_stage=(3, 4, 23, 3), groups=32, inner=0.5),
        IMAGENET,
        44_177_704,
    ),
}
PREACTIVATION: dict[str, tuple[Blocks, dict[str, Any], int]] = {
    "preresnet20_cifar10": (Blocks("basic"), {"depth": 20, **SMALL["plain"]}, 272_282),
    "preresnet56_cifar10": (Blocks("basic"), {"depth": 56, **SMALL["plain"]}, 855_578),
    "preresnet110_cifar10": (Blocks("basic"), {"depth": 110, **SMALL["plain"]}, 1_730_522),
    "preresnet1202_cifar10": (Blocks("basic"), {"depth": 1202, **SMALL["plain"]}, 19_423_834),
    "preresnet164bn_cifar10": (Blocks("bottleneck"), {"depth": 164, **SMALL["wide"]}, 1_703_258),
    "preresnet1001_cifar10": (Blocks("bottleneck"), {"depth": 1001, **SMALL["wide"]}, 10_327_706),
}
PUBLISHED = {
    # Millions of parameters, as He et al. 2016 ("Deep Residual Learning", table 6; "Identity Mappings") print them.
    "resnet20_cifar10": 0.27,
    "resnet56_cifar10": 0.85,
    "resnet110_cifar10": 1.7,
    "resnet1202_cifar10": 19.4,
    "preresnet164bn_cifar10": 1.7,
}


def rows(table: dict[str, tuple[Blocks, dict[str, Any], int]]) -> list[Any]:
    """Return the names, those of very deep networks marked as slow."""
    deep = {name for name, (_, arguments, _) in table.items() if arguments.get("depth", 0) > 1000}
    return [pytest.param(name, marks=pytest.mark.slow) if name in deep else name for name in table]


def made(name: str, **options: Any) -> Any:
    blocks, arguments, _ = {**EQUAL, **PREACTIVATION}[name]
    return build(replace(scheme("euler"), blocks=blocks), **{**arguments, **options})


def moved(network: Any) -> Any:
    """Return the network in float64, its norms and their statistics away from where they begin, for any image."""
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    for module in network.double().modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 32, 32, dtype=torch.float64))
    return network.eval()


def layers(*modules: Any) -> Iterator[nn.Module]:
    """Yield the convolutions, norms and linear layers of the modules in turn."""
    for module in modules:
        yield from (each for each in module.modules() if isinstance(each, nn.Conv2d | nn.BatchNorm2d | nn.Linear))


def matched(ours: Any, theirs: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each layer here with theirs; a norm of a shortcut that they have not, with the branch's it stands for."""
    features = theirs.features
    yield from zip(layers(ours.stem), layers(features.init_block), strict=True)
    for number, stage in enumerate(ours.stages, start=1):
        branches = [stage.first, *(branch for (branch,) in stage.blocks)]
        for i, (branch, unit) in enumerate(zip(branches, getattr(features, f"stage{number}"), strict=True)):
            # In a block before whose convolutions the norms are, theirs list a convolution before its norm.
            of_unit = layers(*(each for part in unit.body.children() for each in in_turn(part)))
            yield from zip(layers(branch), of_unit, strict=True)
            if i == 0 and unit.resize_identity:
                shared = () if hasattr(unit, "activ") else (unit.body.conv1.bn,)
                yield from zip(layers(stage.shortcut), layers(*shared, unit.identity_conv), strict=True)
            else:
                assert not unit.resize_identity
    yield from zip(layers(ours.norm), layers(getattr(features, "post_activ", nn.Identity())), strict=True)
    yield ours.head, theirs.output


def in_turn(part: Any) -> list[nn.Module]:
    """Return the norm and the convolution of a part of a block as they are applied."""
    return [part.bn, part.conv] if type(part).__name__.startswith("Pre") else [part.conv, part.bn]


def copied(ours: Any, theirs: Any) -> Any:
    """Return our network with the other's weights and statistics."""
    ours, seen = ours.double(), set()
    for own, other in matched(ours, theirs):
        assert type(own) is type(other)
        own.load_state_dict(other.state_dict())
        seen.add(own)
    assert seen == {*layers(ours)}
    return ours.train(theirs.training)


@pytest.mark.parametrize("name", rows(EQUAL))
def test_the_parameters_are_as_many(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = parameters(made(name)), parameters(model_provider.get_model(name))
    assert ours == theirs == EQUAL[name][-1]
    assert name not in PUBLISHED or round(ours / 1e6, 2 if ours < 1e6 else 1) == pytest.approx(
        PUBLISHED[name], abs=0.011
    )


@pytest.mark.parametrize("name", rows(PREACTIVATION))
def test_the_shortcuts_of_pre_activation_have_norms_of_their_own(name: str) -> None:
    """Theirs read what the branch's first norm gives; ours have one of their own, as LM-ResNet's authors' have."""
    with torch.device("meta"):
        network: Any = made(name)
        ours, theirs = parameters(network), parameters(model_provider.get_model(name))
    norms = [stage.shortcut.norm for stage in network.stages if not isinstance(stage.shortcut, nn.Identity)]
    assert len(norms) == (2 if PREACTIVATION[name][0].kind == "basic" else 3)
    assert ours - sum(2 * norm.num_features for norm in norms) == theirs == PREACTIVATION[name][-1]
    assert name not in PUBLISHED or round(ours / 1e6, 1) == PUBLISHED[name]


def test_resnext_29_8x64d_has_the_parameters_of_its_authors() -> None:
    """34.4 million, and 68.1 for 16×64d (Xie et al. 2017, table 7)."""
    blocks = Blocks("post-bottleneck", groups=8, inner=2)
    arguments = {**EQUAL["resnext29_16x64d_cifar10"][1]}
    with torch.device("meta"):
        ours = parameters(build(replace(scheme("euler"), blocks=blocks), **arguments))
        theirs = parameters(resnext.get_resnext_cifar(10, 29, 8, 64))
    assert ours == theirs
    assert round(ours / 1e6, 1) == 34.4


@pytest.mark.parametrize(("training", "size"), [(False, 32), (False, 27), (True, 16)])
@pytest.mark.parametrize("name", ["resnet20_cifar10", "preresnet20_cifar10", "resnext20_32x2d_cifar10"])
@torch.no_grad()
def test_the_logits_are_equal(name: str, training: bool, size: int) -> None:
    """With an even number of pixels or an odd one, by the statistics kept or by those of the batch."""
    torch.manual_seed(0)
    theirs = moved(model_provider.get_model(name)).train(training)
    ours = copied(made(name), theirs)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    expected = theirs(images)
    assert expected.std() > 1e-2
    torch.testing.assert_close(ours(images), expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


@torch.no_grad()
def test_the_logits_of_pre_activation_bottlenecks_are_equal() -> None:
    """As ResNet-164 has them, with 2 blocks in each stage."""
    torch.manual_seed(0)
    channels = [[64] * 2, [128] * 2, [256] * 2]
    theirs = moved(preresnet.CIFARPreResNet(channels, init_block_channels=16, bottleneck=True))
    ours = copied(made("preresnet164bn_cifar10", depth=20), theirs)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = theirs(images)
    torch.testing.assert_close(ours(images), expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


@torch.no_grad()
def test_the_logits_for_large_images_are_equal_but_for_where_the_strides_are() -> None:
    """Their resnet50 has them in the first convolutions of the blocks; ours in the second, as their resnet50b."""
    torch.manual_seed(0)
    theirs = moved(model_provider.get_model("resnet50"))
    with torch.device("meta"):
        ours = made("resnet50b")
    ours = copied(ours.to_empty(device="cpu"), theirs)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = theirs(images)
    assert float((ours(images) - expected).abs().max()) > 1e-3
    for unit in (
        stage[0] for name, stage in theirs.features.named_children() if name in ("stage2", "stage3", "stage4")
    ):
        unit.body.conv1.conv.stride, unit.body.conv2.conv.stride = (1, 1), (2, 2)
    expected = theirs(images)
    torch.testing.assert_close(ours(images), expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))


@torch.no_grad()
def test_the_reversible_units_of_revnet_are_partitioned_steps() -> None:
    """All but the first of each stage, which they make with another shortcut: a norm after the convolution, not before.

    Their second and third stages: in the first one they leave out a norm.
    """
    torch.manual_seed(0)
    theirs = moved(model_provider.get_model("revnet38"))
    ours: Any = build(scheme("symplectic_euler"), 20, width=(32, 64, 112)).double().eval()
    for number in (1, 2):
        stage = ours.stages[number]
        _, *units = getattr(theirs.features, f"stage{number + 1}")
        for row, unit in zip(stage.steps, units, strict=True):
            for own, other in zip(row, (unit.body.fm, unit.body.gm), strict=True):
                of_other = layers(*(each for part in other.children() for each in in_turn(part)))
                for layer, given in zip(layers(own), of_other, strict=True):
                    layer.load_state_dict(given.state_dict())
        x = torch.randn(2, (32, 64, 112)[number], 8, 8, dtype=torch.float64)
        expected = x.clone()
        for unit in units:
            expected = unit.body(expected)
        output = stage.stepped(x)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        back = expected
        for unit in reversed(units):
            back = unit.body.inverse(back)
        torch.testing.assert_close(stage.inverse(output), back, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(back, x, rtol=1e-11, atol=1e-11)
