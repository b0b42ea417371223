"""Stochastic depth: no noise at test, the linear part of a step always, and the right mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.coefficients import plain_table
from odenas.nets.noise import NOISES
from odenas.nets.partitioned import PartitionedStage
from odenas.nets.residual import Stage
from odenas.nets.stepping import plain_method
from odenas.nets.weights import Step, TableWeights, reach
from odenas.space import Scheme, Stochasticity, Tableau, scheme

HALF = Stochasticity("depth", 0.5)
MakeStage = Callable[..., Stage]
Slopes = Sequence[Callable[[float], float]]
NAMES = ["euler", "lm", "midpoint", "ab2", "ab3", "momentum"]


def run(stage: Stage, value: Scheme, x: float = 1.0) -> float:
    steps = TableWeights(plain_table(value), [len(stage.blocks)])(0, torch.float64)
    return float(last(stage, torch.full((1, 1, 1, 1), x, dtype=torch.float64), steps, value.start))


def last(stage: Stage, x: Tensor, steps: Sequence[Step], start: str) -> Tensor:
    """Return the state after a stage whose history begins with x."""
    states: list[Tensor] = stage([x], steps, start, reach(steps))
    return states[0]


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_draws_nothing(name: str) -> None:
    torch.manual_seed(0)
    noisy = build(replace(scheme(name), stochasticity=HALF), 20, width=3).eval()
    plain = build(scheme(name), 20, width=3).eval()
    plain.load_state_dict(noisy.state_dict())
    images = torch.randn(2, 3, 8, 8)
    before = torch.get_rng_state()
    with torch.no_grad():
        logits = noisy(images)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(noisy(images), logits)
        assert torch.equal(plain(images), logits)


def test_training_without_stochastic_depth_draws_nothing() -> None:
    network = build(scheme("lm"), 14, width=2)
    before = torch.get_rng_state()
    network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_is_the_same_for_the_same_seed_and_differs_otherwise() -> None:
    network = build(replace(scheme("lm"), stochasticity=HALF), 20, width=2)
    images = torch.randn(4, 3, 8, 8)
    logits = []
    for seed in (1, 1, *range(2, 8)):
        torch.manual_seed(seed)
        logits.append(network(images).detach())
    assert torch.equal(logits[0], logits[1])
    assert len({float(x.sum()) for x in logits}) > 4


@pytest.mark.parametrize("k", [-0.5, 0.25, 1.0])
def test_a_dropped_step_of_lm_resnet_keeps_its_linear_part(stage_of: MakeStage, k: float) -> None:
    """x ← (1 − k) x + k x_prev, not x ← x: the whole step without its slope."""
    value = Scheme(Tableau.multistep((1 - k, k), (1 + k,)), scale="absorbed")
    stage = stage_of("depth", [0.0, 1 - 1e-9], [[2.0], [5.0]])
    torch.manual_seed(0)
    x, previous = 1.0 + 2.0, 1.0
    assert run(stage, value) == pytest.approx((1 - k) * x + k * previous, abs=1e-12)
    assert run(stage.eval(), value) == pytest.approx((1 - k) * x + k * previous + 5.0, abs=1e-12)


@pytest.mark.parametrize("start", ["euler", "copy"])
@pytest.mark.parametrize("name", NAMES)
def test_with_every_branch_dropped_the_linear_part_is_left(stage_of: MakeStage, name: str, start: str) -> None:
    """States alone: the mean of the slopes' part is then zero, not the slope of some other step."""
    value = replace(scheme(name), start=start)
    blocks = 5 if name == "ab3" else 4
    stage = stage_of("depth", [1 - 1e-9] * blocks, [[2.0]] * blocks)
    # Warm-up blocks are Euler steps; with nothing but the linear part all consistent steps keep a constant.
    assert run(stage, value, 3.0) == pytest.approx(3.0, abs=1e-12)


def test_a_dropped_multi_stage_step_keeps_the_state(stage_of: MakeStage) -> None:
    value = Scheme(Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2")))
    assert run(stage_of("depth", [0.0, 1 - 1e-9], [[2.0], [7.0, 7.0]]), value) == 3.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [0.2, 0.7])
@pytest.mark.parametrize("noise", ["depth", "depth per image"])
def test_the_mean_over_the_coins_is_the_evaluation(stage_of: MakeStage, noise: str, name: str, rate: float) -> None:
    """With constant slopes a stage is linear in the coins, so its mean is exact; inverse scaling at training."""
    value = scheme(name)
    stage = stage_of(noise, [0.0, rate / 3, rate / 2, rate, rate], [[f] for f in (1.0, -2.0, 0.5, 1.5, -0.7)])
    steps = TableWeights(plain_table(value), [len(stage.blocks) - (name == "ab3")])(0, torch.float64)
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    expected = float(last(stage.eval(), x, steps, value.start))
    torch.manual_seed(0)
    stage.train()
    if noise == "depth":
        values = torch.tensor([float(last(stage, x, steps, value.start)) for _ in range(600)])
    else:
        values = last(stage, x.expand(6000, 1, 1, 1), steps, value.start).flatten()
    error = float(values.std()) / len(values) ** 0.5
    assert error > 0
    assert abs(float(values.mean()) - expected) < 4 * error


def test_the_rate_is_the_share_of_dropped_branches(stage_of: MakeStage) -> None:
    rates = [0.0, 0.1, 0.4, 0.9]
    stage: Any = stage_of("depth", rates, [[1.0]] * 4)
    for index, rate in enumerate(rates):
        x = torch.ones(1, 1, 1, 1)
        kept = [stage.noises[index].slope(stage.first, x) for _ in range(2000)]
        assert sum(value is None for value in kept) / 2000 == pytest.approx(rate, abs=0.04)
        assert all(float(value) == pytest.approx(1 / (1 - rate)) for value in kept if value is not None)


def test_a_dropped_branch_is_not_evaluated() -> None:
    """It costs nothing, and its batch normalisation does not see the batch."""
    network: Any = build(replace(scheme("euler"), stochasticity=Stochasticity("depth", 0.999)), 14, width=2)
    torch.manual_seed(0)
    network(torch.randn(4, 3, 8, 8))
    batches = [int(branch.norm1.num_batches_tracked) for stage in network.stages for (branch,) in stage.blocks]
    assert 0 in batches


def test_a_network_whose_branches_are_dropped_has_gradients() -> None:
    """Those of the parameters that took part; the others have none."""
    torch.manual_seed(0)
    network: Any = build(replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.9)), 20, width=2)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert network.stem.weight.grad.abs().max() > 0
    assert any(parameter.grad is None for parameter in network.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


# A coin for each image.


class Sine(nn.Module):
    """The right-hand side a sin x."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x.sin()


def of_lm(x: float, f: Slopes) -> float:
    """Return the state after a forward Euler step and two of LM-ResNet, by Lu et al. 2018 (k as it begins)."""
    k = float(scheme("lm").tableau.V[1])  # type: ignore[union-attr]
    states = [x + f[0](x), x]
    for slope in f[1:3]:
        states = [(1 - k) * states[0] + k * states[1] + slope(states[0]), states[0]]
    return states[0]


def of_ab2(x: float, f: Slopes) -> float:
    """Return the state after a forward Euler step and two of x + (3/2) F_n − (1/2) F_{n−1}."""
    before = f[0](x)
    x = x + before
    for slope in f[1:3]:
        now = slope(x)
        x, before = x + 3 / 2 * now - 1 / 2 * before, now
    return x


def of_rk4(x: float, f: Slopes) -> float:
    """Return the state after a forward Euler step and one of the classical Runge–Kutta method."""
    x = x + f[0](x)
    k1 = f[1](x)
    k2 = f[2](x + k1 / 2)
    k3 = f[3](x + k2 / 2)
    k4 = f[4](x + k3)
    return x + (k1 + 2 * k2 + 2 * k3 + k4) / 6


def of_halves(x: list[float], f: Slopes) -> list[float]:
    """Return the halves after two steps y ← y + f(z), z ← z + g(y)."""
    y, z = x
    for i in (0, 2):
        y = y + f[i](z)
        z = z + f[i + 1](y)
    return [y, z]


def kept_slopes(sizes: Sequence[float], kept: Sequence[bool], rates: Sequence[float]) -> Slopes:
    """Return the right-hand sides of one image: a sin x / (1 − rate), or 0 where the coin says so."""
    factors = [a / (1 - rate) if keep else 0.0 for a, keep, rate in zip(sizes, kept, rates, strict=True)]

    def slope(factor: float) -> Callable[[float], float]:
        return lambda x: factor * math.sin(x)

    return list(map(slope, factors))


@pytest.mark.parametrize(
    ("name", "formula", "counts"), [("lm", of_lm, (1, 1, 1)), ("ab2", of_ab2, (1, 1, 1)), ("rk4", of_rk4, (1, 4))]
)
def test_each_image_has_its_own_coins(
    stage_of: MakeStage, name: str, formula: Callable[[float, Slopes], float], counts: Sequence[int]
) -> None:
    """Against the scheme's formula, image by image: what is dropped adds nothing, now or later, and the rest stays."""
    sizes, images = [0.9, -1.3, 0.6, 1.7, -0.8], 64
    rates = [0.25, 0.5, 0.4]
    rows = iter(sizes)
    branches = [[Sine(next(rows)) for _ in range(count)] for count in counts]
    stage = stage_of("depth per image", rates[: len(counts)], branches)
    of_each = [rate for rate, count in zip(rates, counts, strict=False) for _ in range(count)]
    coins = torch.stack([torch.rand(images, 1, 1, 1).flatten() >= rate for rate in of_each], 1)
    x = torch.linspace(-2, 2, images, dtype=torch.float64)
    torch.manual_seed(0)
    steps = TableWeights(plain_table(scheme(name)), [len(counts) - 1])(0, torch.float64)
    found = last(stage, x.view(-1, 1, 1, 1), steps, "euler").flatten()
    expected = [
        formula(float(x[i]), kept_slopes(sizes[: len(of_each)], coins[i].tolist(), of_each)) for i in range(images)
    ]
    assert len(set(map(tuple, coins.tolist()))) > 6  # or there would be little to see
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_each_image_has_its_own_coins_in_both_halves() -> None:
    sizes, rate, images = [0.9, -1.3, 0.6, 1.7], 0.5, 32
    noise, method = "depth per image", plain_method(scheme("symplectic_euler").tableau)  # type: ignore[arg-type]
    stage = PartitionedStage(2, 2, 1, [1, 2, 2], [0.0, rate, rate], noise=noise, method=method)
    f = list(map(Sine, sizes))
    stage.steps = nn.ModuleList([nn.ModuleList(f[:2]), nn.ModuleList(f[2:])])
    x = torch.randn(images, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    found = stage.stepped(x).view(images, 2)
    torch.manual_seed(0)
    coins = torch.stack([torch.rand(images, 1, 1, 1).flatten() >= rate for _ in sizes], 1)
    expected = [
        of_halves(x[i].flatten().tolist(), kept_slopes(sizes, coins[i].tolist(), [rate] * 4)) for i in range(images)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4000, 1, 2, 2), (4000, 3, 5), (4000, 2, 2, 3), (4000, 6)])
def test_the_rate_is_the_share_of_dropped_images(shape: tuple[int, ...]) -> None:
    """Of images, of tokens (batch, n, channels), of states with the channels last: all of an image or nothing."""
    torch.manual_seed(0)
    for rate in (0.1, 0.4, 0.9):
        kept = NOISES["depth per image"](rate).slope(nn.Identity(), torch.ones(shape))
        assert kept is not None
        numbers = kept.flatten(1)
        assert torch.equal(numbers, numbers[:, :1].expand_as(numbers))
        assert float((numbers[:, 0] == 0).double().mean()) == pytest.approx(rate, abs=0.03)
        found = sorted(set(numbers.flatten().tolist()))
        assert found == pytest.approx([0, 1 / (1 - rate)])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("noise", ["depth", "depth per image"])
def test_with_rate_1_nothing_but_the_linear_part_is_left(stage_of: MakeStage, noise: str, compiled: bool) -> None:
    """And no gradient but zero reaches the branch: no infinity times 0."""
    stage: Any = stage_of(noise, [0.0, 1.0], [[0.0], [Sine(1.0)]])
    step = TableWeights(plain_table(scheme("euler")), [1])(0, torch.float64)
    run_stage = torch.compile(last, fullgraph=True, backend="aot_eager") if compiled else last
    x = torch.linspace(0, 1, 4, dtype=torch.float64).view(4, 1, 1, 1).requires_grad_()
    state = run_stage(stage, x, step, "euler")
    assert torch.equal(state, x)
    (gradient,) = torch.autograd.grad(state.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize("noise", ["depth", "depth per image"])
def test_with_rate_0_nothing_is_drawn(stage_of: MakeStage, noise: str) -> None:
    stage = stage_of(noise, [0.0, 0.0], [[1.0], [2.0]])
    before = torch.get_rng_state()
    steps = TableWeights(plain_table(scheme("euler")), [1])(0, torch.float64)
    assert float(last(stage, torch.zeros(1, 1, 1, 1), steps, "euler")) == 3.0
    assert torch.equal(torch.get_rng_state(), before)
