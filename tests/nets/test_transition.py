"""What becomes of history where the shape changes: carried over by one projection, or begun anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import SchemeNetwork, build
from odenas.nets.coefficients import plain_table
from odenas.space import Blocks, Coefficients, OdenasError, Scheme, Tableau, scheme
from odenas.space.feasible import slopes_of_order, states_from_reflections

KAPPAS = [Fraction(1, 5), Fraction(-1, 4), Fraction(1, 3)]


def method(steps: int) -> Tableau:
    """Return a method of some steps that reads all states and the newest slope."""
    states = states_from_reflections(KAPPAS[: steps - 1])
    return Tableau.multistep(states, slopes_of_order(states, [Fraction(0)] * (steps - 1), 1))


FOUR_STAGES = scheme("rk4").tableau
# Two steps and two stages that read both states, the first stage too.
HYBRID = Tableau.from_dict(
    {"V": ["3/4", "1/4"], "B": ["1/4", 1], "R": [0], "A": [[0, 0], ["3/4", 0]]}
    | {"U": [["3/2", "-1/2"], ["1/2", "1/2"]], "W": [[0], [0]]}
)
CASES = {
    "euler": Scheme(method(1)),
    "two steps": Scheme(method(2)),
    "two steps, copy": Scheme(method(2), start="copy"),
    "three steps": Scheme(method(3)),
    "four steps": Scheme(method(4)),
    "four steps, copy, short": Scheme(method(4), start="copy", blocks=Blocks(per_stage=(1, 1, 3))),
    "four steps, short": Scheme(method(4), blocks=Blocks(per_stage=(1, 1, 3))),
    "four steps, short, tied": Scheme(method(4), tying="steps", blocks=Blocks(per_stage=(2, 1, 3))),
    "four stages": Scheme(FOUR_STAGES),
    "four stages, tied": Scheme(FOUR_STAGES, tying="stages"),
    "one f": Scheme(FOUR_STAGES, tying="steps"),
    "hybrid": Scheme(HYBRID),
    "hybrid, bottleneck": Scheme(HYBRID, blocks=Blocks("bottleneck", "silu", (3, 2, 2))),
    "absorbed": Scheme(method(3), scale="absorbed"),
    "leapfrog": scheme("midpoint"),
}


def projected(name: str, seed: int = 0) -> Any:
    """Return a network in evaluation mode and float64, its statistics not those it starts with."""
    torch.manual_seed(seed)
    network = build(replace(CASES[name], transition="project"), width=4).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def total(weights: Sequence[float], tensors: Sequence[Tensor]) -> Any:
    return sum(w * x for w, x in zip(weights, tensors, strict=False) if w)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_network_is_one_recurrence_through_all_its_stages(name: str) -> None:
    """All of history kept and carried, in the definition's own words: x_{n+1} = Σ V_j P x_{n−j} + Σ B_i f_i(Y_i)."""
    network = projected(name)
    value, table = network.scheme, plain_table(network.scheme)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    states, made, k = [network.stem(images)], 0, value.tableau.steps
    for index, stage in enumerate(network.stages):
        for block in range(len(network.architecture["branches"][index])):
            before = states
            if block == 0 and index:
                states = [stage.shortcut(x) for x in states]
            if made == 0 or len(states) < k:
                states = [states[0] + stage._branch(block, 0)(before[0]), *states]
            else:
                slopes: list[Tensor] = []
                for i in range(value.tableau.stages):
                    # The first branch of a stage reads the states as they were.
                    y = total(table["U"][i], before if i == 0 else states) + total(table["A"][i], slopes)
                    slopes.append(stage._branch(block, i)(y))
                states = [total(table["V"], states) + total(table["B"], slopes), *states]
            made += 1
            if made == 1 and value.start == "copy":
                states = states[:1] * k
    logits = network.head(network.activation(network.norm(states[0])).mean((2, 3)))
    torch.testing.assert_close(network(images), logits, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_learned_coefficient_weighs_the_projected_states() -> None:
    torch.manual_seed(0)
    network: Any = build(replace(scheme("lm", sharing="channel"), transition="project"), 14, width=2).double().eval()
    for coordinate in network.weights.coordinates:
        nn.init.uniform_(coordinate, -0.8, 0.8)
    first, second, _ = network.stages
    x0 = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    k = [entry.double()[0] for entry in network.weights.coordinates]
    assert [len(entry) for entry in k] == [1, 2, 2]  # steps; the last two stages have one more
    x1 = x0 + first.first(x0)
    x2 = mixed(x1, x0, k[0][0]) + first.blocks[0][0](x1)
    p2, p1 = second.shortcut(x2), second.shortcut(x1)
    x3 = mixed(p2, p1, k[1][0]) + second.first(x2)
    x4 = mixed(x3, p2, k[1][1]) + second.blocks[0][0](x3)
    states = first([x0], network.weights(0, x0.dtype), "euler", (2, 0))
    states = second(states, network.weights(1, x0.dtype), "euler", (2, 0))
    torch.testing.assert_close(states[0], x4, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(states[1], x3, rtol=1e-11, atol=1e-11)


def mixed(x: Tensor, previous: Tensor, k: Tensor) -> Tensor:
    return (1 - k)[:, None, None] * x + k[:, None, None] * previous


@pytest.mark.parametrize("name", ["euler", "four stages", "one f"])
def test_a_method_of_one_step_has_no_history_to_carry(name: str) -> None:
    """Forward Euler is the same either way; a Runge–Kutta method makes a step of the change of shape."""
    value = CASES[name]
    networks: list[SchemeNetwork] = []
    for transition in ("restart", "project"):
        torch.manual_seed(0)
        networks.append(build(replace(value, transition=transition), 20, width=2).eval())
    restart, project = networks
    images = torch.randn(2, 3, 8, 8)
    if name == "euler":
        assert torch.equal(restart(images), project(images))
    else:
        assert restart.architecture["branches"] == [[1, 4, 4]] * 3
        assert project.architecture["branches"] == [[1, 4, 4], [4, 4, 4], [4, 4, 4]]


def test_in_training_the_projection_takes_the_statistics_of_all_states_together() -> None:
    """One map for all, as at test: P(x_n) − P(x_{n−1}) is not bent by two different normalisations."""
    network: Any = build(replace(scheme("midpoint"), transition="project"), 14, width=2).double().train()
    stage = network.stages[1]
    inputs: list[Tensor] = []
    stage.shortcut.register_forward_hook(lambda module, arguments, output: inputs.append(arguments[0].detach()))
    states = [torch.randn(4, 2, 8, 8, dtype=torch.float64), 3 + torch.randn(4, 2, 8, 8, dtype=torch.float64)]
    carried = stage._carried(states)
    assert len(inputs) == 1
    both = torch.cat(states)
    torch.testing.assert_close(stage.shortcut.norm.running_mean, 0.1 * both.mean((0, 2, 3)))
    mean, variance = both.mean((0, 2, 3), keepdim=True), both.var((0, 2, 3), keepdim=True, unbiased=False)
    for x, projection in zip(states, carried, strict=True):
        y = ((x - mean) / (variance + 1e-5).sqrt()).relu()[..., ::2, ::2]
        expected = torch.einsum("oi,bihw->bohw", stage.shortcut.conv.weight[:, :, 0, 0], y)
        torch.testing.assert_close(projection, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["two steps", "four steps, short", "hybrid"])
def test_the_weights_of_what_is_carried_learn(name: str) -> None:
    """The gradient passes the change of shape along every state."""
    network = projected(name).train()
    network(torch.randn(4, 3, 8, 8, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("value", "depth", "message"),
    [
        (Scheme(method(4), transition="project"), 8, r"`depth` is 8 with 1 blocks .* needs 2 \(depth 14\)"),
        (Scheme(method(2)), 8, r"`depth` is 8 with 1 blocks .* needs 2 \(depth 14\)"),
        (scheme("rk4"), 8, r"`depth` is 8 with 1 blocks .* needs 2 \(depth 14\)"),
        (Scheme(method(4), blocks=Blocks(per_stage=(3, 1, 2))), None, r"`per_stage` is \[3, 1, 2\].* 4 blocks in a st"),
        (
            Scheme(method(4), transition="project", blocks=Blocks(per_stage=(1, 1, 1))),
            None,
            r"`per_stage` is \[1, 1, 1\].* needs 4 blocks in all",
        ),
    ],
)
def test_a_network_too_short_for_a_step_is_refused(value: Scheme, depth: int | None, message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        build(value, depth, width=1)
    assert "\n" not in str(caught.value)


def test_a_short_network_with_one_step_is_made() -> None:
    value = Scheme(method(4), transition="project", blocks=Blocks(per_stage=(1, 1, 2)))
    assert build(value, width=1).architecture["branches"] == [[1], [1], [1, 1]]
    assert len(build(value, width=1).weights(2, torch.float32)) == 1
    assert build(Scheme(method(4), transition="project"), 14, width=1).weights.steps == [0, 1, 2]


def test_what_reads_slopes_cannot_be_carried() -> None:
    with pytest.raises(OdenasError, match="`transition` is 'project'"):
        replace(scheme("ab2"), transition="project")


def test_a_schedule_has_as_many_steps_as_the_stage() -> None:
    value = Scheme(method(2), Coefficients("scheduled", target=("-9/10",)), transition="project")  # type: ignore[arg-type]
    network = build(value, 20, width=1)
    for stage, count in enumerate((2, 3, 3)):
        k = [float(step.V[1]) for step in network.weights(stage, torch.float64)]
        ends = [0.2 + (-0.9 - 0.2) * i / (count - 1) for i in range(count)]
        assert k == pytest.approx(ends, abs=1e-12)
