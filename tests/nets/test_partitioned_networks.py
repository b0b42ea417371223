"""Networks whose channels are two halves: they step as the numeric reference does, and count as they should."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from odenas.nets import build, parameters
from odenas.space import Blocks, Coefficients, OdenasError, Scheme, Stochasticity, scheme, schemes
from odenas.space.integrate import integrate
from odenas.space.partitioned import Partitioned

ROWS = {name: scheme(name) for name in schemes() if isinstance(scheme(name).tableau, Partitioned)}
# Neither in turn nor with an entry that two of its numbers share.
THIRD, HALF, QUARTER = Fraction(1, 3), Fraction(1, 2), Fraction(1, 4)
GENERAL = Scheme(
    Partitioned(A=((THIRD, 0), (0.2, HALF)), b=(QUARTER, 0.75), A2=((0, 0), (2 * THIRD, 0)), b2=(0.4, 0.6)),
    Coefficients(order=1),
)
METHODS = ROWS | {"not in turn": GENERAL}
TYINGS = ("none", "stages", "steps")


def made(value: Scheme, depth: int | None = 20, width: int = 4, **more: Any) -> Any:
    torch.manual_seed(0)
    network = build(value, depth, width=width, **more).double()
    for module in network.modules():  # nothing has the value it starts with
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def used(method: Partitioned) -> list[int]:
    """Return for each evaluation of a step, in turn, whether it is of f (0) or g (1)."""
    return [half for pair in method.used for half in (0, 1) if pair[half]]


def branch_of(stage: Any, tying: str, step: int, evaluation: int, halves: list[int]) -> Any:
    row = stage.steps[0 if tying == "steps" else step]
    return row[evaluation if tying == "none" else halves[evaluation]]


def test_the_catalogue_has_the_methods_of_the_papers() -> None:
    assert set(ROWS) >= {"symplectic_euler", "stormer_verlet", "coupled_euler", "ruth3", "forest_ruth"}


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("name", METHODS)
def test_the_steps_are_those_of_the_numeric_reference(name: str, tying: str) -> None:
    """With the network's own branches as f and g, each evaluation with the weights that it should have."""
    value = replace(METHODS[name], tying=tying)
    method = value.tableau
    assert isinstance(method, Partitioned)
    stage = made(value).eval().stages[1]
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    halves, calls = used(method), 0

    def field(t: float, state: Any) -> Any:
        nonlocal calls
        step, evaluation = divmod(calls, len(halves))
        calls += 1
        half = halves[evaluation]
        y, z = torch.from_numpy(state).transpose(0, 1).chunk(2, 1)
        slope = branch_of(stage, tying, step, evaluation, halves)(y if half else z)
        nothing = torch.zeros_like(slope)
        return torch.cat([nothing, slope] if half else [slope, nothing], 1).transpose(0, 1).numpy()

    with torch.no_grad():
        expected = integrate(method, field, x.transpose(0, 1).numpy(), 1.0, 2)[-1]
        found = stage.stepped(x).transpose(0, 1).numpy()
    assert calls == 2 * len(halves)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("training", [True, False])
def test_symplectic_euler_is_revnet_written_out(training: bool) -> None:
    """Equation 6 of Gomez et al. 2017, y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁), after each stage's plain residual block."""
    network = made(ROWS["symplectic_euler"]).train(training)
    images = torch.randn(3, 3, 9, 9, dtype=torch.float64)
    x = network.stem(images)
    for stage in network.stages:
        x1, x2 = (stage.entry.shortcut(x) + stage.entry.first(x)).chunk(2, 1)
        for F, G in stage.steps:
            x1 = x1 + F(x2)
            x2 = x2 + G(x1)
        x = torch.cat([x1, x2], 1)
    expected = network.head(network.norm(x).relu().mean((2, 3)))
    torch.testing.assert_close(made(ROWS["symplectic_euler"]).train(training)(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("name", METHODS)
def test_one_step_of_training_changes_every_parameter(name: str, tying: str) -> None:
    network = made(replace(METHODS[name], tying=tying)).train()
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = network(torch.randn(4, 3, 4, 4, dtype=torch.float64)).square().sum()
    loss.backward()
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert not [key for key, gradient in gradients.items() if not gradient.any()]
    optimizer.step()
    assert not [key for key, parameter in network.named_parameters() if torch.equal(parameter, before[key])]


@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("name", METHODS)
def test_the_parameters_are_those_counted_by_hand(name: str, tying: str) -> None:
    """For widths 4, 8, 16, three blocks a stage: the first on all channels, two steps on halves."""
    value = replace(METHODS[name], tying=tying)
    assert isinstance(value.tableau, Partitioned)
    own = {"none": 2 * value.tableau.evaluations, "stages": 4, "steps": 2}[tying]
    expected, inputs = 3 * 4 * 9 + 2 * 16 + 16 * 10 + 10, 4
    for width in (4, 8, 16):
        if width != inputs:
            expected += 2 * inputs + inputs * width
        expected += 2 * inputs + 9 * inputs * width + 2 * width + 9 * width * width
        expected += own * (2 * width + 18 * (width // 2) ** 2)
        inputs = width
    assert parameters(build(value, 20, width=4)) == expected


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
@pytest.mark.parametrize("tying", TYINGS)
@pytest.mark.parametrize("name", ["symplectic_euler", "forest_ruth"])
def test_a_budget_is_met_with_even_widths(name: str, tying: str, kind: str) -> None:
    budget = 60_000
    with torch.device("meta"):
        network = build(replace(ROWS[name], tying=tying, blocks=Blocks(kind)), params=budget)
    assert abs(parameters(network) / budget - 1) < 0.02
    first, second, last = network.architecture["widths"]
    assert first % 2 == second % 2 == last % 2 == 0
    assert abs(second - last / 2) <= 4
    assert abs(first - last / 4) <= 4


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_images_of_any_size_and_channels_and_the_state_back(name: str) -> None:
    network = made(METHODS[name], channels=1, classes=7).eval()
    for shape in [(1, 1, 7, 5), (3, 1, 8, 8)]:
        images = torch.randn(shape, dtype=torch.float64)
        assert network(images).shape == (shape[0], 7)
        assert torch.equal(network(images), network(images))
    other = build(METHODS[name], 20, channels=1, classes=7, width=4).double().eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(images), other(images))


def test_the_blocks_of_each_stage_and_their_kind() -> None:
    value = replace(ROWS["stormer_verlet"], blocks=Blocks("bottleneck", "tanh", (2, 1, 4)))
    network = made(value, None, 8)
    assert [len(stage.steps) for stage in network.stages] == [1, 0, 3]
    assert network.architecture["branches"] == [[1, 3], [1], [1, 3, 3, 3]]
    assert network(torch.randn(2, 3, 8, 8, dtype=torch.float64)).shape == (2, 10)


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_small_noise_changes_little(name: str) -> None:
    """With noise a step is evaluated by its definition, not by kicks: the same up to the noise."""
    quiet = made(METHODS[name]).train()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    expected = quiet.stages[1].stepped(x)
    for kind in ("additive", "multiplicative"):
        noisy = made(replace(METHODS[name], stochasticity=Stochasticity(kind, 1e-9))).train().stages[1].stepped(x)
        assert not torch.equal(noisy, expected)
        torch.testing.assert_close(noisy, expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_dropped_branches_leave_the_linear_part() -> None:
    value = replace(ROWS["ruth3"], stochasticity=Stochasticity("depth", 0.999, "constant"))
    stage = made(value).train().stages[1]
    for noise in stage.noises:
        noise.rate = 1.0
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    assert torch.equal(stage.stepped(x), x)
    assert not torch.equal(stage.eval().stepped(x), x)


@torch.no_grad()
def test_channels_stay_last_in_memory() -> None:
    network = made(ROWS["stormer_verlet"]).to(memory_format=torch.channels_last).eval()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert network.stages[1].stepped(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["symplectic_euler", "coupled_euler"])
def test_a_step_has_no_break_in_the_graph(name: str) -> None:
    stage = made(ROWS[name]).eval().stages[1]
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    torch.compiler.reset()
    compiled = torch.compile(stage.stepped, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), stage.stepped(x))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("width", "message"),
    [
        (5, r"`width` is 5, but .* even numbers; the nearest is 6"),
        ([16, 31, 64], r"`width` is \[16, 31, 64\], but .* even numbers; the nearest is \[16, 32, 64\]"),
    ],
)
def test_an_odd_number_of_channels_is_refused(width: Any, message: str) -> None:
    with pytest.raises(OdenasError, match=f"^{message}$"):
        build(ROWS["symplectic_euler"], 20, width=width)
    build(scheme("euler"), 20, width=width)


def test_what_has_no_step_or_no_meaning_is_refused() -> None:
    with pytest.raises(OdenasError, match=r"^`depth` is 8 with 1 blocks a stage, .* needs 2 \(depth 14\)"):
        build(ROWS["symplectic_euler"], 8)
    shake = replace(ROWS["stormer_verlet"], stochasticity=Stochasticity("shake", 0.5))
    with pytest.raises(OdenasError, match=r"^`stochasticity` is 'shake', but [^\n]*$"):
        build(shake, 20)


def test_f_and_g_share_with_none_but_themselves() -> None:
    for tying, each in (("stages", 2), ("steps", 1)):
        network = made(replace(ROWS["forest_ruth"], tying=tying))
        for stage in network.stages:
            kicks = stage.kicks()
            assert [kick.half for kick in kicks] == [0, 1, 0, 1, 0, 1, 0] * 2
            for half in (0, 1):
                assert len({id(kick.branch) for kick in kicks if kick.half == half}) == each
            assert len({id(kick.branch) for kick in kicks}) == 2 * each


def test_a_tied_network_has_the_gradients_of_the_sum() -> None:
    """Its weights' gradients are those of an untied network of equal weights, summed over the evaluations."""
    tied, free = made(replace(ROWS["ruth3"], tying="stages")).eval(), made(ROWS["ruth3"]).eval()
    for one, other in zip(tied.stages, free.stages, strict=True):
        other.entry.load_state_dict(one.entry.state_dict())
        for row, own in zip(one.steps, other.steps, strict=True):
            for i, branch in enumerate(own):
                branch.load_state_dict(row[i % 2].state_dict())
    for name in ("stem", "norm", "head"):
        getattr(free, name).load_state_dict(getattr(tied, name).state_dict())
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    for network in (tied, free):
        network(images).square().sum().backward()
    for one, other in zip(tied.stages, free.stages, strict=True):
        for row, own in zip(one.steps, other.steps, strict=True):
            for half in (0, 1):
                summed = sum((branch.conv1.weight.grad for branch in list(own)[half::2]), torch.zeros(()))
                gradient: Tensor = row[half].conv1.weight.grad
                torch.testing.assert_close(gradient, summed, rtol=1e-8, atol=1e-9 * float(gradient.abs().max()))
