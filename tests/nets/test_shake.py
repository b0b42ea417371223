"""Shake-shake as published (Gastaldi 2017): what each model draws, in the forward and in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.combine import combine
from odenas.nets.noise import NOISES
from odenas.nets.residual import Stage
from odenas.nets.weights import Step
from odenas.space import Scheme, Tableau, scheme
from odenas.space.stochasticity import SHAKE_SHAKE

MakeStage = Callable[..., Stage]
# Two branches at one state, and at two: Heun's method, whose second branch sees what the first one gave.
PAIR = Step(B=(0.5, 0.5), A=((0.0, 0.0), (0.0, 0.0)), U=((1.0,), (1.0,)), W=((), ()))
HEUN = PAIR._replace(A=((0.0, 0.0), (1.0, 0.0)))
MODELS = [name for name in SHAKE_SHAKE if name != "E-E-B"]
IMAGES = 4000


class Given(nn.Module):
    """A branch whose value is a tensor that asks for gradients, whatever the state."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.value


def variant(model: str) -> str:
    return SHAKE_SHAKE[model].variant


def shaken(stage: Stage, x: Tensor, step: Step = PAIR) -> Tensor:
    """Return the state after a stage of one plain block and one step."""
    states: list[Tensor] = stage([x], [step], "euler", (1, 0))
    return states[0]


def shares(
    stage_of: MakeStage, model: str, rate: float, images: int = IMAGES, batches: int = 1
) -> tuple[Tensor, Tensor]:
    """Return the shares η (batches, images) of the first branch in the forward and in the backward pass.

    With f₁ = 1 and f₂ = 0 the state is x + η, and the gradient of its sum with respect to f₁ is the backward pass's.
    """
    f = [torch.full((images, 1, 2, 1), value, dtype=torch.float64, requires_grad=True) for value in (1.0, 0.0)]
    stage = stage_of(variant(model), [0.0, rate], [[0.0], list(map(Given, f))])
    x = torch.full((images, 1, 2, 1), 7.0, dtype=torch.float64, requires_grad=True)
    rows = []
    for _ in range(batches):
        state = shaken(stage, x)
        to_f1, to_f2, to_x = torch.autograd.grad(state.sum(), [*f, x])
        torch.testing.assert_close(to_f1 + to_f2, torch.ones_like(x))
        assert torch.equal(to_x, torch.ones_like(x))  # the linear part is not shaken
        pair = torch.stack([state.detach() - 7, to_f1]).flatten(2)
        assert torch.equal(pair[..., 0], pair[..., 1])  # all pixels together
        rows.append(pair[..., 0])
    ahead, back = torch.stack(rows, 1)
    return ahead, back


def assert_uniform(eta: Tensor, rate: float) -> None:
    """Check that η is uniform in ½ ± rate/2: mean ½, variance rate²/12, quartiles a quarter of the way off."""
    assert 0.5 - rate / 2 - 1e-12 <= eta.min() < 0.5 - 0.49 * rate
    assert 0.5 + 0.49 * rate < eta.max() <= 0.5 + rate / 2 + 1e-12
    assert float(eta.mean()) == pytest.approx(0.5, abs=4 * rate / (12 * len(eta)) ** 0.5)
    assert float(eta.var()) == pytest.approx(rate**2 / 12, rel=0.08)
    quartiles = (eta.quantile(torch.tensor([0.25, 0.75], dtype=eta.dtype)) - 0.5) / rate
    torch.testing.assert_close(quartiles, torch.tensor([-0.25, 0.25]).to(quartiles), rtol=0, atol=0.03)


@pytest.mark.parametrize("rate", [0.25, 1.0])
@pytest.mark.parametrize("model", [name for name in MODELS if name.endswith("I")])
def test_each_image_draws_its_own_share(stage_of: MakeStage, model: str, rate: float) -> None:
    ahead, back = (eta.flatten() for eta in shares(stage_of, model, rate))
    forward, backward, _ = model.split("-")
    if forward == "S":
        assert_uniform(ahead, rate)
        assert len(set(ahead.tolist())) == IMAGES
    else:
        torch.testing.assert_close(ahead, torch.full_like(ahead, 0.5), rtol=0, atol=1e-12)
    if backward == "S":
        assert_uniform(back, rate)
        correlation = 0.0 if forward == "E" else float(torch.corrcoef(torch.stack([ahead, back]))[0, 1])
        assert abs(correlation) < 4 / IMAGES**0.5  # drawn anew
    elif backward == "K":
        torch.testing.assert_close(back, ahead, rtol=0, atol=1e-12)
    else:
        assert torch.equal(back, torch.full_like(back, 0.5))


@pytest.mark.parametrize("model", [name for name in MODELS if name.endswith("B")])
def test_a_batch_draws_one_share(stage_of: MakeStage, model: str) -> None:
    forward, backward, _ = model.split("-")
    pair = shares(stage_of, model, 1.0, images=2, batches=600)
    assert all(torch.equal(eta[:, 0], eta[:, 1]) for eta in pair)
    ahead, back = pair[0][:, 0], pair[1][:, 0]
    spreads = {"S": 12**-0.5, "E": 0.0, "K": 12**-0.5}
    assert float(ahead.std()) == pytest.approx(spreads[forward], rel=0.1)
    assert float(back.std()) == pytest.approx(spreads[backward], rel=0.1)
    assert torch.allclose(ahead, back) == (backward == "K")
    if model == "S-S-B":
        assert abs(float(torch.corrcoef(torch.stack([ahead, back]))[0, 1])) < 0.2


@pytest.mark.parametrize("rate", [0.5, 1.0])
@pytest.mark.parametrize("model", ["S-K-I", "S-S-I", "S-E-I"])
def test_the_moments_of_a_step_are_those_of_its_stochastic_equation(
    stage_of: MakeStage, model: str, rate: float
) -> None:
    """Drift ½(f₁ + f₂), which is the step without noise, and variance (f₁ − f₂)²/12, for rate 1."""
    for f1, f2 in ((3.0, -1.0), (0.5, 2.0), (4.0, 4.0)):
        stage = stage_of(variant(model), [0.0, rate], [[0.0], [f1, f2]])
        x = torch.zeros(IMAGES, 1, 1, 1, dtype=torch.float64)
        step = shaken(stage, x)
        quiet = float(shaken(stage.eval(), x[:1]))
        assert quiet == pytest.approx((f1 + f2) / 2)
        assert float(step.var()) == pytest.approx((rate * (f1 - f2)) ** 2 / 12, rel=0.06, abs=1e-20)
        assert float(step.mean()) == pytest.approx(quiet, abs=4 * rate * abs(f1 - f2) / (12 * IMAGES) ** 0.5 + 1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_only_the_sum_is_shaken(stage_of: MakeStage, model: str) -> None:
    """With f₁ given and f₂(Y) = Y Heun's step is x + η f₁ + (1 − η)(x + f₁): the stage sees f₁ as it is, both ways."""
    f1 = torch.full((3, 1, 1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([1.0, -3.0, 0.5], dtype=torch.float64).view(3, 1, 1, 1).requires_grad_()
    eta, beta = (each.view(-1, 1, 1, 1) for each in shares(stage_of, model, 1.0, 3))
    stage = stage_of(variant(model), [0.0, 1.0], [[0.0], [Given(f1), nn.Identity()]])
    state = shaken(stage, x, HEUN)
    torch.testing.assert_close(state, x + eta * f1 + (1 - eta) * (x + f1), rtol=1e-12, atol=1e-12)
    to_f1, to_x = torch.autograd.grad(state.sum(), [f1, x])
    torch.testing.assert_close(to_f1, torch.ones_like(f1), rtol=1e-12, atol=1e-12)  # β + (1 − β) · 1
    torch.testing.assert_close(to_x, 1 + (1 - beta), rtol=1e-12, atol=1e-12)


def test_the_branches_beyond_the_second_keep_their_weights(stage_of: MakeStage) -> None:
    three = Step(B=(0.25, 0.25, 0.5), A=((0.0,) * 3,) * 3, U=((1.0,),) * 3, W=((),) * 3)
    for model in MODELS:
        stage = stage_of(variant(model), [0.0, 1.0], [[0.0], [5.0, 5.0, 8.0]])
        state = shaken(stage, torch.zeros(4, 1, 1, 1, dtype=torch.float64), three)
        torch.testing.assert_close(state, torch.full_like(state, 6.5), rtol=1e-12, atol=0)
        # A step with one branch, of the start, has no other to shift weight to.
        start = stage_of(variant(model), [1.0], [[5.0]])
        assert float(start([torch.ones(1, 1, 1, 1)], [], "euler", (1, 0))[0]) == 6.0


@pytest.mark.parametrize("model", ["S-S-I", "S-K-I", "E-S-B"])
def test_compiled_steps_are_one_graph_and_the_same(stage_of: MakeStage, model: str) -> None:
    """Of several steps, so that draws out of turn show."""
    f = [torch.randn(3, 1, 2, 2, requires_grad=True) for _ in range(6)]
    pairs = [list(map(Given, f[i : i + 2])) for i in (0, 2, 4)]
    stage = stage_of(variant(model), [0.0, 0.8, 1.0, 0.5], [[0.0], *pairs])

    def last(x: Tensor) -> Tensor:
        states: list[Tensor] = stage([x], [PAIR] * 3, "euler", (1, 0))
        return states[0]

    found = []
    for run in (last, torch.compile(last, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(3)
        state = run(torch.zeros(3, 1, 2, 2))
        found.append([state.detach(), *torch.autograd.grad(state.square().sum(), f)])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [*map(variant, MODELS), "depth per image"])
def test_noise_changes_neither_type_nor_memory_format(stage_of: MakeStage, noise: str, dtype: torch.dtype) -> None:
    stage = stage_of(noise, [0.0, 0.5], [[0.0], [nn.Conv2d(4, 4, 1, dtype=dtype), nn.Identity()]])
    x = torch.randn(3, 4, 5, 5).to(dtype).to(memory_format=torch.channels_last)
    state = shaken(stage, x)
    assert state.dtype == dtype
    assert state.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("model", ["S-S-I", "S-E-B"])
def test_a_network_trains_in_bfloat16_and_deterministically(model: str) -> None:
    torch.manual_seed(0)
    network = build(replace(scheme("shake_shake"), stochasticity=SHAKE_SHAKE[model]), 14, width=2)
    images, found = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last), []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            torch.manual_seed(5)
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = network(images).float().square().sum()
            loss.backward()
            found.append([loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, *found))
    assert len(found[0]) == 1 + len(list(network.parameters()))
    assert all(tensor.isfinite().all() for tensor in found[0])


def test_a_weight_of_each_image_has_the_gradients_of_the_sum_written_out() -> None:
    """In `combine`, with weights that learn too: of all, of a channel, of an image, of an image's channel."""
    torch.manual_seed(0)
    shapes: Sequence[tuple[int, ...]] = [(), (3, 1, 1), (5, 1, 1, 1), (5, 3, 1, 1)]
    terms: list[Any] = [
        (torch.rand(shape, dtype=torch.float64, requires_grad=True), torch.randn(5, 3, 4, 4).double().requires_grad_())
        for shape in shapes
    ]
    entries = [entry for term in terms for entry in term]
    upstream = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    found = torch.autograd.grad(combine(terms), entries, upstream)
    expected = torch.autograd.grad(sum(w * x for w, x in terms), entries, upstream)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_every_model_is_a_row_that_a_scheme_can_name() -> None:
    assert {variant(model) for model in MODELS} == {name for name in NOISES if name.startswith("shake")}
    pair = Scheme(Tableau.runge_kutta(((0, 0), (0, 0)), ("1/2", "1/2")))
    for value in SHAKE_SHAKE.values():
        assert build(replace(pair, stochasticity=value), 14, width=1).architecture["noise"] == value.variant
