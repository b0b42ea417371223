"""Networks of implicit methods: every step is solved, is the method's own, and backward Euler's never raises a norm."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from odenas.nets import build, export, parameters
from odenas.nets.implicit import SOLVABLE, ImplicitStage, first_steps, history
from odenas.space import OdenasError, Scheme, scheme
from odenas.space.blocks import Blocks
from odenas.space.diffusivities import DIFFUSIVITIES
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.stochasticity import Stochasticity

STEPPED = [name for name in IMPLICIT if not name.startswith("milne")]  # those are stable for no decay
LINEAR = Blocks("symmetric", "constant")


def of(name: str, kind: str = "symmetric", activation: str = "charbonnier", **changes: Any) -> Scheme:
    return Scheme(implicit(name), blocks=Blocks(kind, activation), **changes)


def diffusion(value: Scheme, steps: int, channels: int = 2, **arguments: Any) -> Any:
    """Return a network of implicit steps alone, from images to images, in float64."""
    torch.manual_seed(0)
    layers = 1 if value.blocks.kind == "antisymmetric" else 2
    made = build(value, layers * steps + 2, channels=channels, width=channels, backbone="dense", stem="identity")
    return made.double()


def images(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


@torch.no_grad()
def step_by(network: Any, rho: float) -> None:
    """Set τ of all branches to ρ/‖K‖², or ρ/‖A‖."""
    for branch in network.stages[0].blocks:
        share = rho / branch.interval if branch.interval else 0.0
        assert share < 1
        value = math.log(share / (1 - share)) if share else rho if rho > 30 else math.log(math.expm1(rho))
        branch.theta.fill_(value)


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.parametrize("kind", SOLVABLE)
@torch.no_grad()
def test_the_network_is_its_method_written_out(name: str, kind: str) -> None:
    """By fixed-point iterations, which converge for a step this small, with slopes evaluated anew."""
    method = implicit(name)
    network = diffusion(of(name, kind, "tanh"), 2 * method.steps + 2)
    step_by(network, 0.3)
    a, (b, *past) = ([float(weight) for weight in row] for row in (method.states, method.slopes))
    x = images(2, 2, 4, 5)
    states, slopes = [x], list[Tensor]()
    needed = max(method.steps - 1, len([w for w in past if w]) and max(j + 1 for j, w in enumerate(past) if w))
    needed = needed if any(past) else max(j for j, w in enumerate(a) if w)
    for index, f in enumerate(network.stages[0].blocks):
        if index < needed:
            c, weight = states[0], 1.0
        else:
            c = sum(
                (w * s for w, s in zip([*a, *past], [*pad(states, a), *pad(slopes, past)], strict=True) if w), 0 * x
            )
            weight = b
        y = c
        for _ in range(60):
            y = c + weight * f(y)
        states, slopes = [y, *states], [f(y), *slopes]
    torch.testing.assert_close(network(x), states[0], rtol=0, atol=1e-8)
    assert (states[0] - x).norm() > 1e-2 * x.norm()


def pad(history: list[Tensor], row: list[float]) -> list[Tensor]:
    """Return as much of history as the row reads; what has no weight may be missing."""
    return (history + [torch.full((), math.nan)] * len(row))[: len(row)]


@pytest.mark.parametrize("activation", [*DIFFUSIVITIES, "relu", "tanh"])
@torch.no_grad()
def test_backward_euler_never_raises_the_norm(activation: str) -> None:
    """Of any image, for any step: here up to 1000 times the explicit bound 2/‖K‖²."""
    network = diffusion(of("backward_euler", activation=activation), 2)
    x = images(2, 2, 4, 4, scale=2.0)
    norm = x.flatten(1).norm(dim=1)
    for rho in (1.0, 50.0, 2000.0):
        step_by(network, rho)
        y = network(x)
        assert (y.flatten(1).norm(dim=1) <= norm * (1 + 1e-8)).all()
        assert not torch.equal(y, x)
    if activation == "constant":
        explicit = x + network.stages[0].blocks[0](x)
        assert explicit.norm() > 100 * x.norm()


@pytest.mark.parametrize(("name", "order"), [("backward_euler", 1), ("trapezoid", 2), ("bdf2", 2)])
@torch.no_grad()
def test_the_order_is_seen_through_the_network(name: str, order: int) -> None:
    """Linear diffusion, one f for all steps, n steps of 1/n of it: the limit is a matrix exponential."""
    x, errors = images(1, 2, 4, 4), []
    for steps in (32, 64):
        network = diffusion(Scheme(implicit(name), blocks=LINEAR, tying="steps"), steps)
        step_by(network, 8 / steps)
        (f,) = network.stages[0].blocks
        with torch.enable_grad():
            jacobian: Any = torch.autograd.functional.jacobian(f, torch.zeros_like(x))  # type: ignore[no-untyped-call]
        exact = torch.linalg.matrix_exp(steps * jacobian.reshape(32, 32)) @ x.flatten()
        errors.append(float((network(x).flatten() - exact).norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("kind", SOLVABLE)
@pytest.mark.parametrize("name", ["backward_euler", "adams_moulton2"])
def test_a_classifier_trains_and_evaluates(name: str, kind: str) -> None:
    torch.manual_seed(0)
    depth = 3 * (1 if kind == "antisymmetric" else 2) * 3 + 2
    network = build(of(name, kind), depth, classes=3, channels=1, width=2)
    x, labels = torch.randn(6, 1, 7, 5), torch.arange(6) % 3
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9)
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=0, atol=1e-3)
        twin = build(of(name, kind), depth, classes=3, channels=1, width=2).eval()
        twin.load_state_dict(network.state_dict())
        assert torch.equal(twin(x), network(x))
    json.dumps(network.architecture, allow_nan=False)


@pytest.mark.parametrize("tying", ["none", "steps"])
@pytest.mark.parametrize("kind", SOLVABLE)
def test_budgets_are_met(kind: str, tying: str) -> None:
    layers = 1 if kind == "antisymmetric" else 2
    network = build(of("bdf2", kind, tying=tying), 3 * layers * 4 + 2, params=30_000)
    assert parameters(network) == pytest.approx(30_000, rel=0.02)
    for stage in network.stages:
        assert isinstance(stage, ImplicitStage)
        assert len(stage.blocks) == (1 if tying == "steps" else 4)


@pytest.mark.parametrize("noise", ["depth", "additive", "multiplicative"])
def test_noise_acts_in_training_alone(noise: str) -> None:
    value = of("trapezoid", stochasticity=Stochasticity(noise, 0.5, "constant"))
    noisy, quiet, x = diffusion(value, 4), diffusion(of("trapezoid"), 4), images(2, 2, 4, 4)
    quiet.load_state_dict(noisy.state_dict())
    assert torch.equal(noisy.eval()(x), quiet.eval()(x))
    torch.manual_seed(0)
    outputs = [noisy.train()(x) for _ in range(6)]
    assert any(not torch.equal(outputs[0], other) for other in outputs)
    outputs[0].square().sum().backward()


def test_a_dropped_step_leaves_the_constant_part() -> None:
    """x₁ = x₀ of backward Euler, with no equation to solve."""
    network = diffusion(of("backward_euler", stochasticity=Stochasticity("depth", 0.5, "constant")), 1).train()
    x = images(1, 2, 4, 4)
    with torch.no_grad():
        moved = network.eval()(x) - x
        torch.manual_seed(0)
        seen = {round(float((network.train()(x) - x).norm() / moved.norm()), 6) for _ in range(20)}
    assert seen == {0.0, 2.0}


def test_history_that_is_read() -> None:
    table = {"backward_euler": (1, 0, 0), "trapezoid": (1, 1, 1), "bdf3": (3, 0, 2), "adams_moulton3": (1, 3, 3),
             "milne": (2, 2, 2)}  # fmt: skip
    for name, (states, slopes, first) in table.items():
        method = implicit(name)
        plain = {"states": [float(w) for w in method.states], "slopes": [float(w) for w in method.slopes]}
        assert (*history(plain), first_steps(plain)) == (states, slopes, first)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["residual", "dense"])
def test_an_export_is_equal(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(of("bdf2"), 2 * (3 if backbone == "residual" else 1) * 2 + 2, width=2, backbone=backbone)
    assert export(network, tmp_path / "made", size=6)["float64"] <= 1e-12


@pytest.mark.parametrize(
    ("value", "arguments", "message"),
    [
        (Scheme(implicit("bdf2")), {}, "`kind` of the blocks is 'basic', but .* 'symmetric' or 'antisymmetric'"),
        (of("bdf4"), {"depth": 20}, r"`depth` is 20 with 3 blocks a stage, .* needs 4 \(depth 26\)"),
        (of("milne"), {"depth": 26}, "no step of the scheme is stable with such blocks"),
        (of("bdf2"), {"reversible": True}, "`reversible` is True"),
        (of("bdf2", stochasticity=Stochasticity("shake", 0.5)), {}, "`stochasticity` is 'shake'"),
        (of("bdf2"), {"backbone": "fractal"}, "fractal"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(value: Scheme, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        build(value, **{"depth": 14, **arguments})
    assert "\n" not in str(caught.value)


def test_a_stage_refuses_other_blocks() -> None:
    with pytest.raises(ValueError, match="`block` is 'basic'"):
        ImplicitStage(2, 2, 1, [1], [0.0], "basic", method={"states": [1.0], "slopes": [1.0]})


def test_the_named_scheme_is_built_with_blocks_that_it_can_solve() -> None:
    value = replace(scheme("backward_euler"), blocks=Blocks("symmetric", "charbonnier"))
    assert isinstance(value.tableau, ImplicitMultistep)
    assert build(value, 14, width=2).architecture["options"] == {"interval": None}
