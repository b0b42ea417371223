"""The blocks of a network: what is in them, how many there are, and mistakes about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets import build, parameters
from odenas.nets.activations import ACTIVATIONS
from odenas.nets.blocks import BLOCKS
from odenas.nets.branch import Bottleneck, Branch
from odenas.nets.shortcuts import SHORTCUTS
from odenas.space import Blocks, OdenasError, Scheme, scheme
from odenas.space.blocks import ACTIVATIONS as NAMED_ACTIVATIONS
from odenas.space.blocks import BLOCKS as NAMED_BLOCKS
from odenas.space.blocks import SHORTCUTS as NAMED_SHORTCUTS

PRE_ACTIVATED = ("basic", "bottleneck")
# By their definitions; the fluxes of diffusion have tests of their own.
DEFINED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
}


def with_blocks(kind: str = "basic", activation: str = "relu", per_stage: tuple[int, ...] = ()) -> Scheme:
    return replace(scheme("euler"), blocks=Blocks(kind, activation, per_stage))


def randomised(module: nn.Module) -> Any:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return module.double().eval()


def normalised(norm: Any, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        v.view(1, -1, 1, 1) for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias  # type: ignore[no-any-return]


def written_out(branch: Any, x: Tensor, stride: int, activation: str) -> Tensor:
    """Return f(x) of either kind of block: 3×3 and 3×3, or 1×1, 3×3 and 1×1; the stride at the first 3×3."""
    strided = "conv1" if isinstance(branch, Branch) else "conv2"
    for i in range(1, 1 + branch.layers):
        convolution = getattr(branch, f"conv{i}")
        x = DEFINED[activation](normalised(getattr(branch, f"norm{i}"), x))
        size = convolution.weight.shape[-1]
        step = stride if f"conv{i}" == strided else 1
        x = functional.conv2d(x, convolution.weight, stride=step, padding=size // 2)
    return x


def test_every_kind_that_a_scheme_may_name_is_there() -> None:
    assert set(BLOCKS) == set(NAMED_BLOCKS)
    assert set(ACTIVATIONS) == set(NAMED_ACTIVATIONS) > set(DEFINED)
    assert set(SHORTCUTS) - {"post-projection"} == set(NAMED_SHORTCUTS)


@pytest.mark.parametrize("activation", DEFINED)
@pytest.mark.parametrize("kind", PRE_ACTIVATED)
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 2), (3, 2, 1)])
@torch.no_grad()
def test_a_branch_is_its_definition(kind: str, activation: str, inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    branch = randomised(BLOCKS[kind](inputs, outputs, stride, activation))
    x = torch.randn(2, inputs, 7, 7, dtype=torch.float64)
    given = x.clone()
    torch.testing.assert_close(branch(x), written_out(branch, x, stride, activation), rtol=1e-11, atol=1e-11)
    assert torch.equal(x, given)  # the activations write on what is theirs alone


@pytest.mark.parametrize("activation", DEFINED)
@pytest.mark.parametrize("kind", PRE_ACTIVATED)
def test_gradients_are_those_of_finite_differences(kind: str, activation: str) -> None:
    """In training too, where an activation in place could spoil what batch normalisation keeps for its gradient."""
    torch.manual_seed(0)
    branch = randomised(BLOCKS[kind](2, 4, 1, activation)).train()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(branch, x)


@pytest.mark.parametrize("activation", DEFINED)
@pytest.mark.parametrize("kind", PRE_ACTIVATED)
@torch.no_grad()
def test_one_activation_is_that_of_the_whole_network(kind: str, activation: str) -> None:
    """In the branches, the shortcuts and after the last block."""
    network: Any = randomised(build(with_blocks(kind, activation), width=8))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    x = functional.conv2d(images, network.stem.weight, padding=1)
    for index, stage in enumerate(network.stages):
        carried = x
        if index:
            y = DEFINED[activation](normalised(stage.shortcut.norm, x))[..., ::2, ::2]
            carried = torch.einsum("oi,bihw->bohw", stage.shortcut.conv.weight[:, :, 0, 0], y)
        x = carried + written_out(stage.first, x, 2 if index else 1, activation)
        for (branch,) in stage.blocks:
            x = x + written_out(branch, x, 1, activation)
    x = DEFINED[activation](normalised(network.norm, x)).mean((2, 3))
    torch.testing.assert_close(network(images), x @ network.head.weight.T + network.head.bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [11, 20, 164])
def test_a_network_of_bottlenecks_has_9n_plus_2_layers(depth: int) -> None:
    with torch.device("meta"):
        network = build(with_blocks("bottleneck"), depth, width=64)
    n = (depth - 2) // 9
    assert [len(row) for row in network.architecture["branches"]] == [n] * 3
    expected, inputs = 27 * 64 + 2 * 256 + 256 * 10 + 10, 64
    for width in (64, 128, 256):
        quarter = width // 4
        for i in range(n):
            entering = width if i else inputs
            expected += 2 * entering + 4 * quarter + entering * quarter + 9 * quarter * quarter + quarter * width
        expected += (2 * inputs + inputs * width) if width != inputs else 0
        inputs = width
    assert parameters(network) == expected
    convolutions = sum(isinstance(m, nn.Conv2d) for m in network.modules()) - 2  # the shortcuts are no layers
    assert convolutions + 1 == depth


def test_bottlenecks_of_resnet_164_have_the_parameters_of_its_authors() -> None:
    """1 703 725 are alive in the code of LM-ResNet's authors, which begins with 16 channels."""
    with torch.device("meta"):
        network = build(replace(scheme("lm"), blocks=Blocks("bottleneck")), 164, width=64, stem_width=16)
    assert parameters(network) == 1_703_725


@pytest.mark.parametrize(
    ("per_stage", "kind", "depth"),
    [((1, 2, 3), "basic", 14), ((2, 2, 2), "bottleneck", 20), ((4, 1), "basic", 12), ((1, 1, 1, 2), "basic", 12)],
)
def test_the_number_of_blocks_in_each_stage_is_what_the_scheme_says(
    per_stage: tuple[int, ...], kind: str, depth: int
) -> None:
    value = with_blocks(kind, per_stage=per_stage)
    for given in (None, depth):
        network = build(value, given, width=4).eval()
        assert [len(row) for row in network.architecture["branches"]] == list(per_stage)
        assert network.architecture["widths"] == [4 * 2**i for i in range(len(per_stage))]
        assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_without_a_depth_there_are_twenty_layers() -> None:
    for kind, blocks in (("basic", 3), ("bottleneck", 2)):
        assert build(with_blocks(kind), width=4).architecture["branches"] == [[1] * blocks] * 3


@pytest.mark.parametrize("per_stage", [(1, 3, 2), (2, 3), (1, 2, 1, 2)])
@pytest.mark.parametrize("kind", PRE_ACTIVATED)
def test_a_budget_is_met_whatever_the_blocks(kind: str, per_stage: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = build(with_blocks(kind, per_stage=per_stage), params=90_000)
    assert abs(parameters(network) / 90_000 - 1) < 0.02
    widths = network.architecture["widths"]
    assert all(abs(width - widths[-1] / 2 ** (len(widths) - 1 - i)) <= 2 for i, width in enumerate(widths))


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (
            with_blocks(per_stage=(1, 2, 3)),
            {"depth": 20},
            r"`depth` is 20, but `per_stage` is \[1, 2, 3\], .* 14",
        ),
        (with_blocks("bottleneck", per_stage=(1, 1, 1)), {"depth": 8}, r"`depth` is 8, but .* makes 11"),
        (with_blocks("bottleneck"), {"depth": 26}, r"`depth` is 26, but must be 9n \+ 2 .* nearest is 29"),
        (with_blocks("bottleneck"), {"depth": 2}, r"`depth` is 2, but must be 9n \+ 2 .* nearest is 11"),
        (with_blocks(per_stage=(1, 2)), {"width": (2, 4, 8)}, "`width` has 3 numbers, but needs one, or 2"),
    ],
)
def test_mistakes_about_blocks_are_answered_in_one_line(value: Scheme, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        build(value, **{"width": 1} | options)
    assert "\n" not in str(caught.value)


def test_convolutions_of_bottlenecks_start_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    for module in build(with_blocks("bottleneck"), 20, width=64).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert any(isinstance(module, Bottleneck) for module in build(with_blocks("bottleneck"), 11, width=4).modules())
