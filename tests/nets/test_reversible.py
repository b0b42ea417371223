"""Recomputed states: the same gradients and statistics as kept ones, from memory that does not grow with depth."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.reversible import Kick, kicked, recomputed, unkicked
from odenas.space import Blocks, OdenasError, Scheme, Stochasticity, scheme

NAMES = ("symplectic_euler", "stormer_verlet", "ruth3", "forest_ruth")
TYINGS = ("none", "stages", "steps")


def made(value: Scheme, reversible: bool = True, depth: int | None = 20, width: int = 4) -> Any:
    torch.manual_seed(0)
    network = build(value, depth, width=width, reversible=reversible).double()
    for module in network.modules():  # nothing has the value it starts with
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def pair(name: str = "symplectic_euler", training: bool = True, tying: str = "none") -> tuple[Any, Any]:
    """Return the reversible network and the plain one of equal weights."""
    value = replace(scheme(name), tying=tying)
    return made(value).train(training), made(value, reversible=False).train(training)


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same_gradients(one: nn.Module, other: nn.Module) -> None:
    for (key, found), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (found.grad is None) == (expected.grad is None), key
        if found.grad is not None and expected.grad is not None:
            scale = float(expected.grad.abs().max())
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-10, atol=1e-10 * scale, msg=key)


def assert_same_statistics(one: nn.Module, other: nn.Module) -> None:
    """Up to rounding: a sum over strided halves is not taken in the order of one over copies."""
    for found, expected in zip(one.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_statistics_are_those_of_plain_autograd(name: str, tying: str, training: bool) -> None:
    """Of weights and of images; the running statistics count every batch once."""
    given = []
    networks = pair(name, training, tying)
    for network in networks:
        x = images().requires_grad_()
        network(x).square().sum().backward()
        given.append(x.grad)
    assert given[1] is not None
    torch.testing.assert_close(given[0], given[1], rtol=1e-10, atol=1e-10 * float(given[1].abs().max()))
    assert_same_gradients(*networks)
    assert_same_statistics(*networks)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_many_steps_are_undone(name: str, training: bool) -> None:
    """To 1e-12 of the largest number of the state, there and back; the running statistics stay."""
    network = made(replace(scheme(name), blocks=Blocks(per_stage=(1, 31))), depth=None)
    stage = network.stages[1]
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # so that in evaluation too the slopes are of size 1
    stage.stepped(x)
    network.train(training)
    after = stage.stepped(x)
    statistics = [buffer.clone() for buffer in network.buffers()]
    torch.testing.assert_close(stage.inverse(after), x, rtol=0, atol=1e-12 * float(after.abs().max()))
    assert all(torch.equal(old, new) for old, new in zip(statistics, network.buffers(), strict=True))
    assert (after - x).abs().max() > 1
    assert all(norm.track_running_stats for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))


def test_the_gradients_are_those_of_finite_differences() -> None:
    """With one branch twice in the row, and one of no parameters."""
    torch.manual_seed(0)
    shared = nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Tanh()).double()
    kicks = [Kick(0, 1.0, shared), Kick(1, -0.5, nn.Tanh()), Kick(1, 0.7, shared)]
    x = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: recomputed(kicks, x), (x,))
    y = recomputed(kicks, x)
    torch.testing.assert_close(y, kicked(kicks, x), rtol=0, atol=1e-14)
    torch.testing.assert_close(unkicked(kicks, y), x, rtol=0, atol=1e-14)
    found, expected = (
        torch.autograd.grad(result.sin().sum(), list(shared.parameters())) for result in (y, kicked(kicks, x))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def kept_bytes(name: str, reversible: bool, blocks: int) -> int:
    """Return the bytes that a forward keeps for the gradient, parameters and statistics left out."""
    network = made(replace(scheme(name), blocks=Blocks(per_stage=(blocks, blocks))), reversible, None)
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = network(images())
    assert result.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_for_the_gradient_does_not_grow_with_depth(name: str) -> None:
    short, deep = (kept_bytes(name, True, blocks) for blocks in (3, 9))
    assert deep == short
    assert kept_bytes(name, False, 9) > 2 * kept_bytes(name, False, 3) > 2 * short


_PEAK = """
import sys
from pathlib import Path
import torch
from odenas.nets import build
from odenas.space import scheme

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM"))

torch.set_num_threads(1)
network = build(scheme("symplectic_euler"), int(sys.argv[1]), reversible=True)
images = torch.randn(32, 3, 32, 32)
network(images[:2]).square().mean().backward()  # what is there once, whatever the network, is there now
Path("/proc/self/clear_refs").write_text("5")
before = peak()
network(images).square().mean().backward()
print((peak() - before) / 2**10)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_does_not_grow_with_depth() -> None:
    """Of forward and backward together, in processes of their own, in MiB; gradients are of the weights' size."""

    def peak(depth: int) -> float:
        command = [sys.executable, "-c", _PEAK, str(depth)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    short, deep = map(peak, (38, 110))
    gradients = 4 * (908_090 - 322_106) / 2**20
    assert deep - 3 * gradients < 1.2 * short  # one of them summed, one new, one of a branch at work


@torch.no_grad()
def test_without_gradients_it_is_the_plain_network() -> None:
    for training in (True, False):
        one, other = pair("stormer_verlet", training)
        found = one(images())
        assert torch.equal(found, other(images()))
        assert not found.requires_grad
        assert_same_statistics(one, other)


def test_forwards_and_backwards_in_any_order() -> None:
    """Two batches before the first backward, the mode changed in between, gradients summed."""
    one, other = pair()
    for network in (one, other):
        losses = [network.train()(images(batch)).square().sum() for batch in (3, 5)]
        network.eval()
        for loss in losses:
            loss.backward()
        assert not any(module.training for module in network.modules())
    assert_same_gradients(one, other)
    assert_same_statistics(one, other)


def test_frozen_weights_have_no_gradient_and_change_no_other() -> None:
    one, other = pair("ruth3")
    for network in (one, other):
        for frozen in (network.stem, network.stages[0], network.stages[1].steps[0][1], network.stages[2].steps[1]):
            frozen.requires_grad_(False)
        network(images()).square().sum().backward()
    assert_same_gradients(one, other)
    assert one.stages[1].steps[0][1].conv1.weight.grad is None
    assert one.stages[1].steps[0][0].conv1.weight.grad is not None


def test_weights_changed_before_the_gradient_are_an_error() -> None:
    for training, changed in ((True, "weight"), (False, "weight"), (False, "running_mean")):
        network = made(scheme("symplectic_euler")).train(training)
        loss = network(images()).sum()
        with torch.no_grad():
            getattr(network.stages[1].steps[0][0].norm1, changed).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("inside", [True, False])
def test_gradients_under_autocast(inside: bool) -> None:
    """Backward inside the context or after it: every weight has its gradient, as near to float32 as bfloat16 is."""
    one, other = (network.float() for network in pair())
    with torch.autocast("cpu", torch.bfloat16):
        loss = one(images().float()).square().sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    other(images().float()).square().sum().backward()
    for (key, found), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        assert found.grad is not None, key
        assert expected.grad is not None
        similarity = torch.cosine_similarity(found.grad.flatten(), expected.grad.flatten(), 0)
        assert similarity > 0.85, (key, similarity)


@pytest.mark.parametrize("name", ["coupled_euler", "euler", "rk4", "lm"])
def test_steps_that_cannot_be_undone_are_refused(name: str) -> None:
    with pytest.raises(OdenasError, match=r"^`reversible` is True, but a step [^\n]* such as symplectic_euler$"):
        build(scheme(name), 26, reversible=True)


@pytest.mark.parametrize("kind", ["depth", "additive", "multiplicative"])
def test_noise_is_refused(kind: str) -> None:
    value = replace(scheme("stormer_verlet"), stochasticity=Stochasticity(kind, 0.1))
    build(value, 20)
    with pytest.raises(OdenasError, match=rf"^`reversible` is True, but the noise '{kind}' [^\n]*$"):
        build(value, 20, reversible=True)


def test_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(OdenasError, match=r"^`reversible` is 1, but must be true or false$"):
        build(scheme("symplectic_euler"), 20, reversible=1)  # type: ignore[arg-type]
