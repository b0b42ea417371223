"""What every network does, whatever its scheme: a list with every trait that a scheme may have, one set of laws."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from odenas.nets import SchemeNetwork, build, coefficients
from odenas.nets.coefficients import LearnedWeights
from odenas.space import Blocks, Coefficients, Scheme, Stochasticity, Tableau, scheme
from odenas.space.feasible import slopes_of_order, states_from_reflections

THREE_STATES = states_from_reflections([Fraction(1, 5), Fraction(-1, 4)])
THREE_STEPS = Tableau.multistep(THREE_STATES, slopes_of_order(THREE_STATES, [Fraction(1, 7)], 2))
RK4 = Tableau.runge_kutta(
    ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
)
PECE = Tableau.from_dict(
    {"V": [1, 0], "R": [0], "B": ["1/2", "1/2"], "A": [[0, 0], ["3/2", 0]]}
    | {"U": [[1, 0], [1, 0]], "W": [[0], ["-1/2"]]}
)
ALL = {
    **{name: scheme(name) for name in ("euler", "lm", "ab3", "momentum")},
    "shared": scheme("lm", sharing="shared"),
    "per channel": scheme("lm", sharing="channel"),
    "stable": Scheme(THREE_STEPS, Coefficients("learned", "step", order=2, spread=0.05), scale="absorbed"),
    "stable per channel": Scheme(THREE_STEPS, Coefficients("learned", "channel", order=2, spread=0.05), start="copy"),
    "stochastic": replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.5)),
    "rk4": Scheme(RK4),
    "pece": Scheme(PECE),
    "pece, copy, stochastic": Scheme(PECE, start="copy", stochasticity=Stochasticity("depth", 0.5)),
    "order": Scheme(THREE_STEPS, Coefficients("learned", "step", "order", 2, 0.05)),
    "scheduled, projected, bottleneck": Scheme(
        scheme("lm").tableau,
        Coefficients("scheduled", target=(Fraction(-9, 10),)),
        "absorbed",
        transition="project",
        blocks=Blocks("bottleneck", "gelu", (2, 3, 2)),
    ),
    "rk4, tied, projected": Scheme(RK4, transition="project", tying="stages", blocks=Blocks(activation="tanh")),
    "midpoint, one f, projected, additive": replace(
        scheme("midpoint"),
        transition="project",
        tying="steps",
        blocks=Blocks(activation="silu"),
        stochasticity=Stochasticity("additive", 0.1),
    ),
    "learned, projected": replace(scheme("lm", sharing="channel"), transition="project"),
    "shaken": Scheme(scheme("two_way").tableau, stochasticity=Stochasticity("shake", 0.9, "constant")),
    "poly3, multiplicative": replace(
        scheme("poly3"), scale="absorbed", stochasticity=Stochasticity("multiplicative", 0.3)
    ),
}
# Gaussian noise is drawn in the order of memory, and otherwise for each type of number.
WITHOUT_GAUSSIAN = [name for name, value in ALL.items() if value.stochasticity.kind in ("none", "depth", "shake")]


def made(name: str, **options: Any) -> SchemeNetwork:
    torch.manual_seed(0)
    return build(ALL[name], **{"width": width(name)} | options)


def width(name: str) -> int:
    """Return the channels of the first stage; a bottleneck of one channel would have no layout of memory."""
    return 8 if ALL[name].blocks.kind == "bottleneck" else 3


def trained(name: str) -> SchemeNetwork:
    """Return a network after two steps of training, so that its statistics and coefficients have moved."""
    network = made(name)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(2):
        optimiser.zero_grad()
        network(torch.randn(8, 3, 9, 9)).square().mean().backward()
        optimiser.step()
    return network


@pytest.mark.parametrize("name", ALL)
def test_training_moves_every_parameter_and_evaluation_is_repeatable(name: str) -> None:
    network = made(name)
    before = deepcopy(network.state_dict())
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02)
    # Several batches, as stochastic depth gives a dropped branch no gradient.
    for _ in range(12 if ALL[name].stochasticity.rate else 1):
        network(torch.randn(8, 3, 9, 9)).square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    optimiser.step()
    still = [key for key, value in network.named_parameters() if torch.equal(value, before[key])]
    assert not still
    network.eval()
    images = torch.randn(4, 3, 9, 9)
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (4, 10)
        assert logits.isfinite().all()
        assert torch.equal(network(images), logits)
        # At test an image's logits do not depend on its companions.
        torch.testing.assert_close(network(images[:1]), logits[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_the_state_goes_to_another_network_and_back(name: str) -> None:
    network = trained(name).eval()
    torch.manual_seed(5)
    other = build(ALL[name], width=width(name)).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(other(images), network(images))
        other.load_state_dict(network.state_dict(), strict=True)
        assert torch.equal(other(images), network(images))
    assert coefficients(other) == coefficients(network)


@pytest.mark.parametrize("name", ALL)
def test_a_deep_copy_is_another_network(name: str) -> None:
    network = trained(name).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        logits = network(images)
        copy = deepcopy(network)
        assert torch.equal(copy(images), logits)
        for parameter in copy.parameters():
            parameter.add_(1.0)
        assert torch.equal(network(images), logits)
    assert copy.scheme == network.scheme


@pytest.mark.parametrize("name", WITHOUT_GAUSSIAN)
def test_the_layout_of_memory_does_not_matter(name: str) -> None:
    results: list[list[Tensor]] = []
    network = made(name).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        copy: Any = deepcopy(network).to(memory_format=layout)
        seen: list[Tensor] = []
        copy.stages[1].register_forward_hook(lambda module, arguments, output, seen=seen: seen.append(output[0]))
        torch.manual_seed(1)  # the same coins
        logits = copy(images.contiguous(memory_format=layout))
        logits.square().sum().backward()
        assert seen[0].is_contiguous(memory_format=layout)  # no step undoes it
        results.append([logits] + [p.grad for p in copy.parameters() if p.grad is not None])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_images_of_any_size_are_classified(name: str, channels: int) -> None:
    network = made(name, channels=channels, classes=7).eval()
    with torch.no_grad():
        for batch, size in ((2, (9, 9)), (1, (33, 33)), (1, (8, 13)), (1, (1, 1))):
            logits = network(torch.randn(batch, channels, *size))
            assert logits.shape == (batch, 7)
            assert logits.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_is_near_float32(name: str) -> None:
    network: Any = trained(name).eval()
    images = torch.randn(4, 3, 9, 9)
    types: set[torch.dtype] = set()
    for stage in network.stages:
        stage.register_forward_hook(lambda module, arguments, output: types.add(output[0].dtype))
    with torch.no_grad():
        exact = network(images)
        types.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(images)
    assert types == {torch.bfloat16}  # no coefficient raises the states to float32
    assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", WITHOUT_GAUSSIAN)
def test_bfloat16_autocast_trains(name: str) -> None:
    network = made(name)
    images = torch.randn(8, 3, 9, 9)
    gradients = []
    for enabled in (False, True):
        network.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = network(images)
        logits.float().square().sum().backward()
        gradients.append(
            torch.cat(
                [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in network.parameters()]
            )
        )
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in network.parameters())
    # Three channels and eight images average out little of the roundoff.
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.85


@pytest.mark.parametrize(
    "name",
    [
        "ab3",
        "stable",
        "per channel",
        "pece, copy, stochastic",
        "order",
        "scheduled, projected, bottleneck",
        "rk4, tied, projected",
        "midpoint, one f, projected, additive",
        "shaken",
        "poly3, multiplicative",
    ],
)
# A cache under the trace is bypassed, which is as well.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_compiled_network_trains_the_same_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    results = []
    network = made(name).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    compiled: Any = torch.compile(deepcopy(network), fullgraph=True, backend="eager")
    for run in (network, compiled):
        torch.manual_seed(1)
        logits = run(images)
        logits.square().sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in run.parameters()]
        results.append([logits, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_coefficients_lists_the_weights_of_every_step(name: str) -> None:
    network = trained(name)
    rows = coefficients(network)
    tableau, blocks = network.scheme.tableau, network.scheme.blocks.per_stage or (3, 3, 3)
    warmup = max(0, tableau.steps - 2) if network.scheme.start == "euler" else 0
    # With the history carried over, the later stages step from their first block on.
    first = [1 + warmup, *[0 if network.scheme.transition == "project" else 1 + warmup] * 2]
    expected = {(i, j) for i in range(3) for j in range(first[i], blocks[i])}
    assert {(row["stage"], row["block"]) for row in rows} == expected
    assert {row["symbol"] for row in rows} == ({"V", "B", "R"} if tableau.steps > 1 else {"V", "B"})
    per_channel = network.scheme.coefficients.sharing == "channel"
    assert {row["channel"] is None for row in rows if row["symbol"] == "V"} == {not per_channel}
    for stage, width in enumerate(network.architecture["widths"]):
        weights = network.weights(stage, torch.float64)
        for row in rows:
            if row["stage"] == stage:
                entry = getattr(weights[row["block"] - first[stage]], row["symbol"])[row["index"]]
                value = torch.as_tensor(entry, dtype=torch.float64).expand(width, 1, 1)[row["channel"] or 0, 0, 0]
                assert row["value"] == value.item()
    varying = coefficients(network, varying_only=True)
    assert all(row in rows for row in varying)
    assert bool(varying) == (network.scheme.coefficients.learning != "fixed")
    assert isinstance(network.weights, LearnedWeights) == (network.scheme.coefficients.learning == "learned")
