"""Networks whose branches are one known smooth field, scaled by h, converge to its solution at the order of the scheme.

The field is that of a module, nonlinear and autonomous. Schemes of several steps need a history to begin with: for
these the field has a channel for time and sets in smoothly at t = 0. Before, the states rest and the slopes are 0, so
that the history is exact. Otherwise the forward Euler steps that begin it limit the order to 2, and copied states to 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.noise import QUIET
from odenas.nets.residual import Stage
from odenas.space import Coefficients, Scheme, Tableau, scheme, schemes
from odenas.space.partitioned import Partitioned

STEPPED = [name for name in schemes() if isinstance(scheme(name).tableau, Tableau)]
HALVES = [name for name in schemes() if isinstance(scheme(name).tableau, Partitioned)]


class Predation(nn.Module):
    """h times the field of Lotka and Volterra, (u(1 − v), v(u − 1)) for the channels (u, v); it is 0 at 0."""

    def __init__(self, h: float) -> None:
        super().__init__()
        self.h = h

    def forward(self, x: Tensor) -> Tensor:
        u, v = x.unbind(1)
        return self.h * torch.stack([u * (1 - v), v * (u - 1)], 1)


class Setting(nn.Module):
    """h times (1, φ(t) × the field of `Predation`) for (t, u, v), with φ the derivative of S max(t, 0)^power."""

    def __init__(self, h: float, S: float, power: int) -> None:
        super().__init__()
        self.field, self.h, self.S, self.power = Predation(h), h, S, power

    def forward(self, x: Tensor) -> Tensor:
        speed = self.S * self.power * x[:, :1].clamp(min=0) ** (self.power - 1)
        return torch.cat([torch.full_like(speed, self.h), speed * self.field(x[:, 1:])], 1)


class Pulled(nn.Module):
    """h² times (0, w''(t) − (1 + u²)(u − w(t))) for (t, u): u'' = … has the solution w = t/2 + max(t, 0)⁸."""

    def __init__(self, h: float) -> None:
        super().__init__()
        self.h = h

    def forward(self, x: Tensor) -> Tensor:
        t, u = x.unbind(1)
        late = t.clamp(min=0)
        return self.h**2 * torch.stack([0 * t, 56 * late**6 - (1 + u * u) * (u - t / 2 - late**8)], 1)


@cache
def hunted(time: float) -> tuple[float, float]:
    """Return (u, v) after this time, from (2, 1/2)."""

    def field(t: float, x: Any) -> Any:
        return [x[0] * (1 - x[1]), x[1] * (x[0] - 1)]

    end = solve_ivp(field, (0, time), [2.0, 0.5], "DOP853", rtol=3e-14, atol=1e-15).y[:, -1] if time else (2.0, 0.5)
    return float(end[0]), float(end[1])


def state(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def fixed(name: str) -> Scheme:
    """Return the named scheme, all steps tied, with what it learns held where it begins."""
    value = replace(scheme(name), tying="steps")
    learned = value.coefficients.learning == "learned"
    return replace(value, coefficients=Coefficients()) if learned else value


@torch.no_grad()
def error_of(value: Scheme, count: int, span: float) -> float:
    """Return the error after `count` steps of a stage over this time, from an exact history."""
    tableau: Any = value.tableau
    k, stages = tableau.steps, tableau.stages
    network: Any = build(value, 20 + 6 * k, width=2)
    (step, *_) = network.weights(0, torch.float64)
    # Where the network divides the weights of the slopes by their sum, the learned f holds it.
    scale = float(sum(tableau.slopes)) if value.scale == "absorbed" else 1.0
    total = count if k == 1 else count + k
    stage: Any = Stage(2, 2, 1, [stages] * total, [0.0] * total, tying="steps").eval()
    if k == 1:
        field: nn.Module = Predation(span / count)
        history, expected = [state(*hunted(0))], state(*hunted(span))
    else:
        # From k steps before t = 0 on: there every slope that a step may read is 0, and that of t exact.
        times = [-(k + j) / count for j in range(k)]
        if tableau.derivative == 1:
            field = Setting(scale / count, span, value.order + 2)
            history, expected = [state(t, *hunted(0)) for t in times], state(1, *hunted(span))
        else:
            field = Pulled(1 / count)
            history, expected = [state(t, t / 2) for t in times], state(1, 3 / 2)
    stage.first = stage.blocks[0][0] = field
    (result, *_) = stage(history, [step] * total, "euler", (k, k))
    return float((result - expected).abs().max())


# By the order: the numbers of steps, and the time that they go over. From one state, and from several.
ONE_STEP = {
    1: ((50, 100), 0.2),
    2: ((25, 50), 0.5),
    3: ((20, 40), 1.0),
    4: ((48, 96), 1.5),
    5: ((60, 120, 240), 5.0),
}
MULTISTEP = {
    1: ((400, 800), 0.2),
    2: ((100, 200), 0.2),
    3: ((150, 300), 0.4),
    4: ((150, 300), 0.4),
    5: ((150, 300), 0.4),
}


def observed(counts: tuple[int, ...], errors: list[float]) -> float:
    """Return the power of h that the errors follow."""
    return -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])


@pytest.mark.parametrize("name", STEPPED)
def test_a_stage_from_an_exact_history_has_the_order_of_its_scheme(name: str) -> None:
    value = fixed(name)
    counts, span = (ONE_STEP if value.tableau.steps == 1 else MULTISTEP)[value.order]
    errors = [error_of(value, count, span) for count in counts]
    assert errors[0] < 0.02
    assert observed(counts, errors) == pytest.approx(value.order, abs=0.15)


# The order, as a stage begins by itself.
BEGUN = {
    **dict.fromkeys(("ab2", "ab3", "ab5", "midpoint", "nystrom3", "ssp_multistep4", "pec3"), 2),
    **dict.fromkeys(("pece_ab3_am3", "bdf3_fixed_point", "milne_fixed_point", "butcher_hybrid"), 2),
    **{name: 1 for name in ("lm", "heavy_ball", "du_fort_frankel")},
}


@pytest.mark.parametrize("name", BEGUN)
@torch.no_grad()
def test_a_stage_that_begins_by_itself_has_at_most_order_2(name: str) -> None:
    """The whole stage of a network that is built: its first steps are forward Euler's, each with an error of h²."""
    value, counts, errors = fixed(name), (100, 200), []
    for count in counts:
        network: Any = build(replace(value, blocks=replace(value.blocks, per_stage=(count,))), width=2).double().eval()
        stage, x = network.stages[0], state(*hunted(0))
        scale = float(sum(value.tableau.slopes)) if value.scale == "absorbed" else 1.0  # type: ignore[union-attr]
        field = Predation(scale / count)
        stage.first = stage.blocks[0][0] = field
        (result, *_) = stage([x], network.weights(0, x.dtype), network.start, (8, 8))
        errors.append(float((result - state(*hunted(1.0))).abs().max()))
    assert observed(counts, errors) == pytest.approx(BEGUN[name], abs=0.15)


def test_poly_net_is_consistent_with_no_field_that_is_not_0_at_0() -> None:
    """It applies f to f(x) alone, not to x + f(x) (Zhang et al. 2017): what it follows is x' = f(x) + f(0)."""

    class Falling(nn.Module):
        def __init__(self, h: float) -> None:
            super().__init__()
            self.h = h

        def forward(self, x: Tensor) -> Tensor:
            return self.h * (1 - x)

    network: Any = build(replace(fixed("poly2"), blocks=replace(fixed("poly2").blocks, per_stage=(401,))), width=2)
    stage = network.double().eval().stages[0]
    stage.first, stage.blocks[0][0] = nn.Identity(), Falling(1 / 400)
    with torch.no_grad():
        (result, *_) = stage([state(0.0, 0.5)], network.weights(0, torch.float64), network.start, (1, 0))
    followed = [2 - (2 - x) * np.exp(-1) for x in (0.0, 1.0)]  # x' = 2 − x; the first block doubled the state
    np.testing.assert_allclose(result.flatten(), followed, atol=5e-3)


class Kicked(nn.Module):
    """h f(z) or h g(y) of y' = f(z) = z + z³/4, z' = g(y) = −sin y."""

    def __init__(self, h: float, of_z: bool) -> None:
        super().__init__()
        self.h, self.of_z = h, of_z

    def forward(self, x: Tensor) -> Tensor:
        return self.h * (x + x**3 / 4 if self.of_z else -torch.sin(x))


@pytest.mark.parametrize("tying", ["none", "steps"])
@pytest.mark.parametrize("name", HALVES)
@torch.no_grad()
def test_partitioned_steps_have_the_order_of_their_method(name: str, tying: str) -> None:
    """For `Kicked`, against a Runge–Kutta method of order 8 (Dormand and Prince's, scipy's)."""
    value = replace(scheme(name), tying=tying)

    def field(t: float, x: Any) -> Any:
        return [x[1] + x[1] ** 3 / 4, -np.sin(x[0])]

    end = solve_ivp(field, (0, 2), [0.5, 1.0], "DOP853", rtol=3e-14, atol=1e-15).y[:, -1]
    counts, errors = (40, 80), []
    network: Any = build(value, 20, width=2).double().eval()
    stage = network.stages[0]
    for count in counts:
        stage.noises = [QUIET]
        order = (
            [half for _, half in stage.evaluations] if tying == "none" else sorted({h for _, h in stage.evaluations})
        )
        stage.steps[0] = nn.ModuleList(Kicked(2 / count, half == 0) for half in order)
        x = state(0.5, 1.0)
        for _ in range(count):
            x = stage.stepped(x)
        errors.append(float((x.flatten() - torch.from_numpy(end)).abs().max()))
    assert observed(counts, errors) == pytest.approx(value.order, abs=0.15)
