"""Stochastic depth: no noise at test, the linear part of a step always, and the right mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.coefficients import plain_table
from odenas.nets.residual import Stage
from odenas.nets.weights import Step, TableWeights, reach
from odenas.space import Scheme, Stochasticity, Tableau, scheme

HALF = Stochasticity("depth", 0.5)
NAMES = ["euler", "lm", "midpoint", "ab2", "ab3", "momentum"]


class Constant(nn.Module):
    """A right-hand side that is the same everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


def stage_of(values: Sequence[float], rates: Sequence[float], branches: int = 1) -> Stage:
    """Return a training stage of constant branches, one value and one drop rate for each block."""
    stage = Stage(1, 1, 1, [1, *[branches] * (len(values) - 1)], rates, noise="depth")
    stage.first = Constant(values[0])  # type: ignore[assignment]
    stage.blocks = nn.ModuleList(nn.ModuleList(Constant(v) for _ in range(branches)) for v in values[1:])
    return stage.double()


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
def test_a_dropped_step_of_lm_resnet_keeps_its_linear_part(k: float) -> None:
    """x ← (1 − k) x + k x_prev, not x ← x: the whole step without its slope."""
    value = Scheme(Tableau.multistep((1 - k, k), (1 + k,)), scale="absorbed")
    stage = stage_of([2.0, 5.0], [0.0, 1 - 1e-9])
    torch.manual_seed(0)
    x, previous = 1.0 + 2.0, 1.0
    assert run(stage, value) == pytest.approx((1 - k) * x + k * previous, abs=1e-12)
    assert run(stage.eval(), value) == pytest.approx((1 - k) * x + k * previous + 5.0, abs=1e-12)


@pytest.mark.parametrize("start", ["euler", "copy"])
@pytest.mark.parametrize("name", NAMES)
def test_with_every_branch_dropped_the_linear_part_is_left(name: str, start: str) -> None:
    """States alone: the mean of the slopes' part is then zero, not the slope of some other step."""
    value = replace(scheme(name), start=start)
    blocks = 5 if name == "ab3" else 4
    stage = stage_of([2.0] * blocks, [1 - 1e-9] * blocks)
    # Warm-up blocks are Euler steps; with nothing but the linear part all consistent steps keep a constant.
    assert run(stage, value, 3.0) == pytest.approx(3.0, abs=1e-12)


def test_a_dropped_multi_stage_step_keeps_the_state() -> None:
    value = Scheme(Tableau.runge_kutta(((0, 0), (1, 0)), ("1/2", "1/2")))
    assert run(stage_of([2.0, 7.0], [0.0, 1 - 1e-9], branches=2), value) == 3.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_the_mean_over_the_coins_is_the_evaluation(name: str, rate: float) -> None:
    """With constant slopes a stage is linear in the coins, so its mean is exact; inverse scaling at training."""
    value = scheme(name)
    stage = stage_of([1.0, -2.0, 0.5, 1.5, -0.7], [0.0, rate / 3, rate / 2, rate, rate])
    steps = TableWeights(plain_table(value), [len(stage.blocks) - (name == "ab3")])(0, torch.float64)
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    expected = float(last(stage.eval(), x, steps, value.start))
    torch.manual_seed(0)
    stage.train()
    values = torch.tensor([float(last(stage, x, steps, value.start)) for _ in range(600)])
    error = float(values.std()) / len(values) ** 0.5
    assert error > 0
    assert abs(float(values.mean()) - expected) < 4 * error


def test_the_rate_is_the_share_of_dropped_branches() -> None:
    rates = [0.0, 0.1, 0.4, 0.9]
    stage: Any = stage_of([1.0] * 4, rates)
    torch.manual_seed(0)
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
