"""The contract of a network, for every named scheme: it is built, trains, and evaluates as its tableau says."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import SchemeNetwork, build, coefficients, parameters
from odenas.nets.branch import Branch
from odenas.nets.residual import Stage
from odenas.nets.weights import Step
from odenas.space import Scheme, Tableau, scheme, schemes
from odenas.space.partitioned import Partitioned

STEPPED = [name for name in schemes() if isinstance(scheme(name).tableau, Tableau)]


def depth_of(value: Scheme) -> int:
    """Return a depth with at least two steps of the scheme's own in each stage."""
    assert isinstance(value.tableau, Tableau)
    return 6 * max(3, value.tableau.steps + 1) + 2


@cache
def made(name: str) -> SchemeNetwork:
    torch.manual_seed(0)
    return build(scheme(name), depth_of(scheme(name)), width=2).double()


def test_all_others_are_partitioned() -> None:
    """Those have networks of their own: test_partitioned_networks.py."""
    others = [name for name in schemes() if name not in STEPPED]
    assert all(isinstance(scheme(name).tableau, Partitioned) for name in others)
    assert len(STEPPED) > len(others) > 0


@pytest.mark.parametrize("name", STEPPED)
def test_the_named_network_has_the_branches_of_its_tableau(name: str) -> None:
    """And no others: counted by hand, with widths 2, 4, 8 and 3×3 convolutions."""
    value, network = scheme(name), made(name)
    assert isinstance(value.tableau, Tableau)
    blocks = (depth_of(value) - 2) // 6
    late = max(0, value.tableau.steps - 2) if value.start == "euler" else 0
    each = 1 if value.tying == "stages" else value.tableau.stages
    own = {"none": 0, "stages": 0}.get(value.tying, 1) or late + each * (blocks - 1 - late)
    expected, inputs = 3 * 2 * 9 + 2 * 8 + 8 * 10 + 10, 2
    for width in (2, 4, 8):
        if width != inputs:
            expected += 2 * inputs + inputs * width
        expected += 2 * inputs + 9 * inputs * width + 2 * width + 9 * width * width
        expected += own * (4 * width + 18 * width * width)
        inputs = width
    learned = sum(p.numel() for p in network.weights.parameters())
    assert parameters(network) == expected + learned
    assert sum(isinstance(module, Branch) for module in network.modules()) == 3 * (1 + own)


@pytest.mark.parametrize("name", STEPPED)
def test_every_parameter_of_the_named_network_is_alive(name: str) -> None:
    """A gradient reaches it: no branch is there that no logit depends on."""
    network = made(name).train()
    torch.manual_seed(1)
    images = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    for _ in range(8 if scheme(name).stochasticity.kind == "depth" else 1):  # a dropped branch has no gradient
        network(images).square().sum().backward()
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    dead = [key for key, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert not dead


@pytest.mark.parametrize("name", STEPPED)
@torch.no_grad()
def test_the_named_network_is_its_tableau_written_out(name: str) -> None:
    """Every stage, with its own convolutions, from the definition of a tableau, all of history kept."""
    network: Any = made(name).eval()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    x = network.stem(torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    images_state = x
    for index, stage in enumerate(network.stages):
        x = written_out(network, index, stage, x)
    expected = network.head(network.norm(x).relu().mean((2, 3)))
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(network.stem(images), images_state, rtol=0, atol=0)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert torch.equal(torch.get_rng_state(), before)  # no noise


def written_out(network: SchemeNetwork, index: int, stage: Any, x: Tensor) -> Any:
    """Return the state after a stage, by the scheme's tableau; learned weights are read off the network."""
    value = network.scheme
    tableau = value.applied
    assert isinstance(tableau, Tableau)
    shortcut, slope = stage.shortcut(x), stage.first(x)
    states: list[Any] = [shortcut + slope, shortcut]
    slopes: list[Any] = [slope]
    if value.start == "copy":
        states, slopes = [states[0]] * tableau.steps, []
    rows = {(row["block"], row["symbol"], row["index"]): row["value"] for row in coefficients(network)
            if row["stage"] == index}  # fmt: skip
    for block, branches in enumerate(stage.blocks, start=1):
        if (block, "V", 0) not in rows:
            slopes.insert(0, branches[0](states[0]))
            states.insert(0, states[0] + slopes[0])
            continue
        new: list[Any] = []
        for i in range(tableau.stages):
            branch = branches[0 if value.tying == "stages" else i]
            y = total(tableau.U[i], states) + total(tableau.W[i], slopes) + total(tableau.A[i], new)
            new.append(branch(y))
            slopes = slopes or [new[0]] * (tableau.steps - 1)
        sizes = {"V": tableau.steps, "R": tableau.steps - 1, "B": tableau.stages}
        V, R, B = ([rows.get((block, name, j), 0.0) for j in range(size)] for name, size in sizes.items())
        states.insert(0, total(V, states) + total(R, slopes) + total(B, new))
        slopes.insert(0, new[0])
    return states[0]


def total(weights: Any, tensors: list[Any]) -> Any:
    return sum((float(w) * x for w, x in zip(weights, tensors, strict=False)), 0 * tensors[0] if tensors else 0.0)


def test_the_network_of_a_second_order_equation_is_leapfrog() -> None:
    """Verlet's x ← 2x − x_prev + f(x): the step size is the network's."""
    network: Any = made("verlet").eval()
    stage = network.stages[0]
    with torch.no_grad():
        x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
        (state, *_) = stage([x], network.weights(0, x.dtype), "copy", (2, 0))
        now = past = x + stage.first(x)
        for (branch,) in stage.blocks:
            now, past = 2 * now - past + branch(now), now
        torch.testing.assert_close(state, now, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["poly2", "poly3"])
@torch.no_grad()
def test_poly_net_is_a_sum_of_powers(name: str) -> None:
    """I + F + F² + …: the state plays no part in what F is applied to again (Zhang et al. 2017)."""
    network: Any = made(name).eval()
    stage = network.stages[0]
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    (state,) = stage([x], network.weights(0, x.dtype), "euler", (1, 0))
    expected = x + stage.first(x)
    for (branch,) in stage.blocks:
        power = expected
        for _ in range(int(name[-1])):
            power = branch(power)
            expected = expected + power
    torch.testing.assert_close(state, expected, rtol=1e-10, atol=1e-10)


def test_a_dropped_power_is_nothing_to_the_next() -> None:
    """F(0), where F was dropped: a stage value without a term is 0."""

    class Plus(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 5

    stage: Any = Stage(1, 1, 1, [1, 2], [0.0, 1 - 1e-9], noise="depth")
    stage.first, stage.blocks = Plus(), nn.ModuleList([nn.ModuleList([Plus(), Plus()])])
    step = Step(B=(1.0, 1.0), A=((0.0, 0.0), (1.0, 0.0)), U=((1.0,), (0.0,)), W=((), ()))
    x = torch.ones(1, 1, 1, 1)
    seen: list[float] = []
    stage.blocks[0][1].register_forward_hook(lambda module, arguments, output: seen.append(float(arguments[0])))
    stage.noises[1].rate = 0.5
    torch.manual_seed(0)
    values = {float(stage([x], [step], "euler", (1, 0))[0]) for _ in range(60)}
    assert 0.0 in seen
    # x = 7 after the first block; F(7) = 12 kept is 24, F(24) = 29 kept is 58, F(0) = 5 kept is 10.
    assert values == {7.0, 7.0 + 24, 7.0 + 24 + 58, 7.0 + 10}
