"""Noise in training: its distribution, where it acts, how often it is drawn, and that there is none at test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from odenas.nets import build
from odenas.nets.noise import NOISES, Shake, StochasticDepth
from odenas.nets.residual import Stage
from odenas.nets.weights import Step
from odenas.space import OdenasError, Scheme, Stochasticity, Tableau, scheme
from odenas.space.stochasticity import BACKWARDS, DRAWN_PER, FORWARDS, GROWTHS, STOCHASTICITIES

TWO = Scheme(Tableau.runge_kutta(((0, 0), (0, 0)), ("1/2", "1/2")))
RATES = {"depth": 0.5, "shake": 1.0, "additive": 0.3, "multiplicative": 0.4}
MakeStage = Callable[..., Stage]
PAIR = Step(B=(0.5, 0.5), A=((0.0, 0.0), (0.0, 0.0)), U=((1.0,), (1.0,)), W=((), ()))


def every_noise() -> dict[str, Stochasticity]:
    """Return all that a scheme may ask for, by variant."""
    values = [Stochasticity()]
    for kind, *how in product(RATES, DRAWN_PER, FORWARDS, BACKWARDS):
        with suppress(OdenasError):
            values.append(Stochasticity(kind, RATES[kind], "constant", *how))
    return {value.variant: value for value in values}


NOISY = {name: replace(TWO, stochasticity=value) for name, value in every_noise().items() if value.rate}


def last(stage: Stage, x: Tensor, steps: Sequence[Step]) -> Tensor:
    """Return the state after a stage."""
    states: list[Tensor] = stage([x], steps, "euler", (1, 0))
    return states[0]


def ones(count: int) -> Tensor:
    return torch.ones(count, 1, 4, 4, dtype=torch.float64)


def test_every_kind_that_a_scheme_may_name_is_there() -> None:
    assert set(RATES) == set(STOCHASTICITIES) - {"none"}
    assert set(every_noise()) == set(NOISES)
    for name, value in every_noise().items():
        noise = NOISES[name](value.rate)
        assert noise.rate == value.rate
        if isinstance(noise, Shake):
            assert (noise.forward, noise.backward) == (value.forward, value.backward)
        assert not isinstance(noise, Shake | StochasticDepth) or noise.per == value.per


@pytest.mark.parametrize("kind", NOISY)
def test_at_test_there_is_no_noise_and_nothing_is_drawn(kind: str) -> None:
    torch.manual_seed(0)
    noisy, plain = build(NOISY[kind], width=2).eval(), build(TWO, width=2).eval()
    plain.load_state_dict(noisy.state_dict())
    images = torch.randn(2, 3, 8, 8)
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(noisy(images), plain(images))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", NOISY)
def test_the_seed_makes_the_noise(kind: str) -> None:
    torch.manual_seed(0)
    network = build(NOISY[kind], width=2)
    images = torch.randn(4, 3, 8, 8)
    found = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        logits = network(images)
        # Noise of the backward pass alone leaves the logits.
        (gradient,) = torch.autograd.grad(logits.square().sum(), network.stem.weight)
        found.append((logits.detach(), gradient))
    assert all(map(torch.equal, found[0], found[1]))
    assert len({float(gradient.sum()) for _, gradient in found}) > 2
    assert len({float(logits.sum()) for logits, _ in found}) > 2 or kind.startswith("shake E")


@pytest.mark.parametrize("kind", NOISY)
def test_a_noisy_network_has_gradients(kind: str) -> None:
    torch.manual_seed(0)
    network = build(NOISY[kind], 14, width=2)
    for _ in range(12):
        network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_shake_moves_weight_from_one_branch_to_the_other(stage_of: MakeStage, rate: float) -> None:
    """x + η f₁ + (1 − η) f₂ with η uniform in ½ ± rate/2: mean ½, variance rate²/12 (for rate 1: Gastaldi 2017)."""
    stage, x, etas = stage_of("shake", [0.0, rate], [[0.0], [1.0, 0.0]]), ones(3), []
    for _ in range(3000):
        state = last(stage, x, [PAIR])
        assert len(set(state.flatten().tolist())) == 1  # one draw for the batch
        etas.append(float(state[0, 0, 0, 0]) - 1)
    eta = torch.tensor(etas)
    assert 0.5 - rate / 2 <= eta.min() < 0.5 - 0.49 * rate
    assert 0.5 + 0.49 * rate < eta.max() <= 0.5 + rate / 2
    assert float(eta.mean()) == pytest.approx(0.5, abs=4 * rate / (12 * 3000) ** 0.5)
    assert float(eta.var()) == pytest.approx(rate**2 / 12, rel=0.1)
    quartiles = (eta.quantile(torch.tensor([0.25, 0.75])) - 0.5) / rate
    torch.testing.assert_close(quartiles, torch.tensor([-0.25, 0.25]), rtol=0, atol=0.04)


def test_shake_keeps_the_sum_of_the_weights(stage_of: MakeStage) -> None:
    state = last(stage_of("shake", [1.0, 1.0], [[0.0], [3.0, 3.0]]), ones(2), [PAIR])
    torch.testing.assert_close(state, torch.full_like(state, 4.0), rtol=1e-12, atol=0)


def test_shake_draws_for_every_step_and_leaves_other_branches_alone(stage_of: MakeStage) -> None:
    three = Step(B=(1 / 3,) * 3, A=((0.0,) * 3,) * 3, U=((1.0,),) * 3, W=((),) * 3)
    state = last(stage_of("shake", [1.0] * 4, [[0.0], *[[1.0, 0.0, 9.0]] * 3]), ones(1), [three] * 3)
    torch.manual_seed(0)
    etas = [float(torch.rand((), dtype=torch.float64)) for _ in range(3)]
    assert len(set(etas)) == 3
    assert float(state[0, 0, 0, 0]) == pytest.approx(1 + 9 + sum(2 * eta / 3 for eta in etas), abs=1e-12)
    # A step with one branch, of the start, has no other to shift weight to.
    assert float(last(stage_of("shake", [1.0], [[5.0]]), ones(1), [])[0, 0, 0, 0]) == 6.0


@pytest.mark.parametrize(
    "value",
    [
        scheme("euler"),
        scheme("ab2"),
        scheme("heun3"),
        Scheme(Tableau.runge_kutta(((0, 0, 0), (0, 0, 0), (0, 0, 0)), (0, 0, 1))),
    ],
)
def test_shake_needs_two_branches_of_equal_weight(value: Scheme) -> None:
    with pytest.raises(
        OdenasError, match=r"`stochasticity` is 'shake' with the weights \(.*\) of the stages"
    ) as caught:
        build(replace(value, stochasticity=Stochasticity("shake", 0.5)))
    assert "\n" not in str(caught.value)


def test_additive_noise_is_added_after_every_step(stage_of: MakeStage) -> None:
    """To each number its own; the variances of the steps add up, each with the rate of its block."""
    rates = [0.1, 0.0, 0.2, 0.3]
    state = last(stage_of("additive", rates, [[1.0], [2.0], [3.0], [4.0]]), ones(4000), [])
    noise = state - 11
    assert float(noise.std()) == pytest.approx(sum(rate**2 for rate in rates) ** 0.5, rel=0.02)
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / noise.numel() ** 0.5
    kurtosis = float((noise / noise.std()).pow(4).mean())
    assert kurtosis == pytest.approx(3, abs=0.1)
    pixels = torch.corrcoef(noise.flatten(1).T)
    assert float((pixels - torch.eye(16)).abs().max()) < 0.08


def test_additive_noise_becomes_part_of_history(stage_of: MakeStage) -> None:
    """The next step sees x_n with its noise."""
    stage = stage_of("additive", [0.5, 0.0], [[0.0], [0.0]])
    step = Step(V=(1.0, 1.0), R=(0.0,), U=((1.0, 0.0),), W=((0.0,),))
    states = stage([ones(2)], [step], "euler", (2, 0))
    torch.manual_seed(0)
    noisy = 1 + 0.5 * torch.randn_like(ones(2))
    torch.testing.assert_close(states[1], noisy)
    torch.testing.assert_close(states[0], noisy + 1)


def test_multiplicative_noise_scales_the_branches_and_not_the_state(stage_of: MakeStage) -> None:
    stage = stage_of("multiplicative", [0.0, 0.4], [[0.0], [3.0, -1.0]])
    noise = last(stage, 100 * ones(6000), [PAIR]) - 101  # (3 − 1)/2
    assert float(noise.std()) == pytest.approx(0.4 * (1.5**2 + 0.5**2) ** 0.5, rel=0.02)
    assert abs(float(noise.mean())) < 4 * float(noise.std()) / noise.numel() ** 0.5
    assert len(set(noise.flatten().tolist())) == noise.numel()


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("kind", NOISY)
def test_the_rates_of_the_blocks_grow_as_the_scheme_says(kind: str, growth: str) -> None:
    value = replace(NOISY[kind].stochasticity, growth=growth)
    stages: Any = build(replace(TWO, stochasticity=value), width=1).stages
    rates = [noise.rate for stage in stages for noise in stage.noises]
    shares = {"linear": range(9), "proportional": range(1, 10), "constant": [1] * 9}[growth]
    assert rates == pytest.approx([value.rate * share / max(shares) for share in shares])
    kinds = {type(noise) for stage in stages for noise in stage.noises if noise.rate}
    assert kinds == {type(NOISES[kind](1.0))}
