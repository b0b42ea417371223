"""Multigrid networks: transfers, the cycle as it is defined, what is built, and that it trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from odenas.nets import build, coefficients, parameters
from odenas.nets.grid_transfer import TRANSFERS, Prolongation, Restriction, check_halving
from odenas.nets.multigrid import Cycle, MultigridNetwork
from odenas.nets.weights import Step, TableWeights
from odenas.space import Scheme, scheme
from odenas.space.blocks import Blocks
from odenas.space.errors import OdenasError
from odenas.space.stochasticity import Stochasticity
from odenas.space.tableau import Tableau

DIFFUSION = Blocks("symmetric", "charbonnier")


def made(value: Scheme, **arguments: Any) -> Any:
    """A multigrid network whose head is no longer zero."""
    torch.manual_seed(0)
    network = build(value, backbone="multigrid", **({"width": 4} | arguments))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network


# Transfers


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize(("kind", "sizes"), [("vertex", (15, 7)), ("cell", (16, 8))])
def test_transfers_keep_what_they_should(kind: str, sizes: tuple[int, int], dimensions: int) -> None:
    """Restrictions keep constants and, inside, straight lines; prolongations give lines back inside."""
    row, (fine, coarse) = TRANSFERS[kind], sizes
    offset = 0.5 if kind == "cell" else 1.0

    def line(n: int, h: float) -> Tensor:
        x = (torch.arange(n) + offset) * h
        return (3 + x if dimensions == 1 else 3 + x[:, None] - 2 * x)[None, None]

    for stencil in (row.state, row.residual):
        restrict = Restriction(stencil, 1, 1, dimensions)
        torch.testing.assert_close(restrict(torch.ones_like(line(fine, 1))), torch.ones_like(line(coarse, 2)))
        torch.testing.assert_close(restrict(line(fine, 1)), line(coarse, 2))
    prolonged = Prolongation(row.correction, row.border, 1, 1, dimensions)(line(coarse, 2))
    assert prolonged.shape == line(fine, 1).shape
    inside: Any = (..., *[slice(1, -1)] * dimensions)
    torch.testing.assert_close(prolonged[inside], line(fine, 1)[inside])


@pytest.mark.parametrize("dimensions", [1, 2])
def test_interpolation_is_the_transpose_of_full_weighting(dimensions: int) -> None:
    """P = 2^d Rᵀ (Briggs, Henson and McCormick, A Multigrid Tutorial, 2000, chapter 3): ⟨P v, u⟩ = 2^d ⟨v, R u⟩."""
    row = TRANSFERS["vertex"]
    u, v = torch.randn(1, 1, *[15] * dimensions), torch.randn(1, 1, *[7] * dimensions)
    up = (Prolongation(row.correction, row.border, 1, 1, dimensions)(v) * u).sum()
    down = (Restriction(row.residual, 1, 1, dimensions)(u) * v).sum()
    torch.testing.assert_close(up, 2**dimensions * down)


def test_channels_go_by_themselves_at_first() -> None:
    x = torch.randn(1, 2, 8, 8)
    wide = Restriction(TRANSFERS["cell"].residual, 2, 3)(x)
    torch.testing.assert_close(wide[:, :2], functional.avg_pool2d(x, 2))
    assert not wide[:, 2].any()


def halves(n: int, levels: int, kind: str) -> bool:
    """Whether a side has so many levels, from the definition: pairs of cells, or every other point but the ends."""
    for _ in range(levels - 1):
        if n < 1 or n % 2 != (kind == "vertex"):
            return False
        n //= 2
    return n >= 1


@pytest.mark.parametrize("kind", ["vertex", "cell"])
def test_a_size_that_does_not_halve_is_refused_with_the_nearest(kind: str) -> None:
    for levels in range(1, 6):
        for n in range(1, 70):
            if halves(n, levels, kind):
                check_halving((n, n), levels, kind)
                continue
            with pytest.raises(ValueError, match=f"`images` are 1 × {n}|`images` are {n} × {n}") as error:
                check_halving((n, n), levels, kind)
            nearest = int(str(error.value).split()[-1])
            assert halves(nearest, levels, kind)
            assert not any(halves(n + d, levels, kind) for d in range(1 - abs(nearest - n), abs(nearest - n)))


@pytest.mark.parametrize("size", [32, 40, 64])
def test_the_usual_sizes_work_and_odd_ones_say_so(size: int) -> None:
    network = made(scheme("euler"), width=2).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, size, size // 2)).shape == (1, 3, size, size // 2)
        message = r"`images` are \d+ × 33, .* 3 levels .* multiples of 4; the nearest is \d+ × 32"
        with pytest.raises(ValueError, match=message):
            network(torch.randn(1, 3, size, 33))


# The definition


def total(weights: Sequence[Any], tensors: Sequence[Any]) -> Any:
    return sum(float(w) * x for w, x in zip(weights, tensors, strict=False))


def written_out(network: MultigridNetwork, images: Tensor) -> Any:
    """The network from the definitions of the full approximation scheme and of a tableau, all of history kept."""
    value, kinds, net = network.scheme, network.architecture, network  # type: Any, Any, Any
    tableau: Tableau = value.applied
    last = len(kinds["widths"]) // 2
    rows: dict[Any, float] = {
        (row["stage"], row["block"], row["symbol"], row["index"]): row["value"] for row in coefficients(network)
    }

    def A(index: int, u: Tensor) -> Tensor:
        weight = net.cycle.levels[index].operator.weight
        if kinds["operator"] == "convolution":
            return functional.conv2d(u, weight, padding=1)
        s = functional.conv2d(u, weight, padding=1)
        return u + functional.conv_transpose2d(s / (1 + s * s).sqrt(), weight, padding=1)

    def smooth(index: int, stage: int, u: Tensor, f: Tensor) -> Tensor:
        level, counts = net.cycle.levels[index], [len(kinds["branches"][i]) for i in range(2 * last + 1)]
        states: list[Tensor] = [u] * tableau.steps if value.start == "copy" else [u]
        slopes: list[Tensor] = []
        # Own correctors in turn: those before the coarser grids come first.
        position = 0 if stage <= last else {"none": sum(kinds["branches"][index]), "stages": counts[index]}.get(
            value.tying, 0
        )  # fmt: skip
        for block in range(counts[stage]):
            own = (stage, block, "V", 0) in rows
            stages = tableau.stages if own else 1
            new: list[Tensor] = []
            for i in range(stages):
                y: Any = states[0]
                if own:
                    y = total(tableau.U[i], states) + total(tableau.W[i], slopes) + total(tableau.A[i], new)
                which = {"none": position + i, "stages": position, "steps": 0}[value.tying]
                new.append(level.correctors[which](f - A(index, y)))
                slopes = slopes or [new[0]] * (tableau.steps - 1)
            position += stages if value.tying == "none" else 1
            if own:
                V = [rows[stage, block, "V", j] for j in range(tableau.steps)]
                R = [rows[stage, block, "R", j] for j in range(tableau.steps - 1)]
                B = [rows[stage, block, "B", j] for j in range(tableau.stages)]
                states.insert(0, total(V, states) + total(R, slopes) + total(B, new))
            else:
                states.insert(0, states[0] + new[0])
            # The slope of a first step has been put in already, as all of history.
            slopes = [new[0], *slopes] if block or value.start == "copy" else [new[0]] * max(1, tableau.steps - 1)
        return states[0]

    def restrict(weight: Tensor, u: Tensor) -> Tensor:
        return functional.conv2d(u, weight, stride=2)

    def cycle(index: int, u: Tensor, f: Tensor) -> Tensor:
        u = smooth(index, index, u, f)
        if index == last:
            return u
        pi, r, p = (
            getattr(net.cycle, name)[index].weight
            for name in ("state_restrictions", "residual_restrictions", "prolongations")
        )
        coarse = restrict(pi, u)
        source = restrict(r, f - A(index, u)) + A(index + 1, coarse)
        solved = coarse
        for _ in range(kinds["gamma"] if index + 1 < last else 1):
            solved = cycle(index + 1, solved, source)
        u = u + functional.conv_transpose2d(solved - coarse, p, stride=2, padding=1)
        return smooth(index, 2 * last - index, u, f)

    u, f = net.guess(images), net.source(images)
    for _ in range(kinds["cycles"]):
        u = cycle(0, u, f)
    return images + net.head(net.norm(u))


CASES = {
    "euler": (scheme("euler"), 22),
    "one smoother for a level": (replace(scheme("euler"), tying="steps"), 32),
    "lm": (scheme("lm"), 32),
    "fsi": (scheme("fsi"), 32),
    "lm, all of history u": (replace(scheme("lm"), start="copy"), 22),
    "momentum, all of history u": (replace(scheme("momentum"), start="copy"), 22),
    "ab3": (scheme("ab3"), 42),
    "rk4": (replace(scheme("rk4"), tying="none"), 22),
    "rk4, tied": (scheme("rk4"), 22),
    "diffusion": (Scheme(scheme("euler").tableau, blocks=DIFFUSION), 22),
    "diffusion by ab2": (Scheme(scheme("ab2").tableau, blocks=DIFFUSION, tying="stages"), 32),
}


@pytest.mark.parametrize(("gamma", "cycles"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_network_is_its_definition_written_out(case: str, gamma: int, cycles: int) -> None:
    value, depth = CASES[case]
    network = made(value, depth=depth, width=(2, 3, 4)).double()
    if (gamma, cycles) != (1, 1):
        # More of the same weights.
        options = network.architecture | {"gamma": gamma, "cycles": cycles}
        again: Any = MultigridNetwork(weights=network.weights, **options).double()
        again.load_state_dict(network.state_dict())
        again.scheme, network = value, again
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network.train()
    network(images)  # running statistics of its own
    network.eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    expected = written_out(network, images)
    torch.testing.assert_close(network(images), expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@torch.no_grad()
def test_a_solution_stays_what_it_is() -> None:
    """f = A(u): nothing is left to correct on any grid, for weights of any kind and a nonlinear A."""
    torch.manual_seed(0)
    rows = [[1] * 2] * 5
    cycle = Cycle([2, 3, 4, 3, 2], rows, [[0.0] * 2] * 5, "charbonnier", operator="diffusion", corrector="linear")
    for parameter in cycle.double().parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    u = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    f = cycle.levels[0].operator(u)  # type: ignore[operator]
    momentum = Step((1.2, -0.2), (0.0,), (1.0,), ((0.0,),), ((1.0, 0.0),), ((0.0,),))
    torch.testing.assert_close(cycle(u, f, [[momentum]] * 5), u, rtol=0, atol=1e-11)
    assert not torch.allclose(cycle(u, f + 1, [[momentum]] * 5), u, atol=1e-3)


@torch.no_grad()
def test_the_first_steps_of_diffusion_are_stable() -> None:
    """‖K‖² of a new K is about 4, and below the 9 up to which the first steps of its smoother are stable."""
    torch.manual_seed(0)
    norms = []
    for width in (1, 4, 16, 16, 16):
        operator = (
            Cycle([width], [[1]], [[0.0]], "constant", operator="diffusion", corrector="linear").levels[0].operator
        )
        u = torch.randn(1, width, 16, 16)
        for _ in range(30):
            u = operator(u) - u  # type: ignore[operator]
            norms.append(float(u.norm()))
            u = u / u.norm()
    assert max(norms[-3:]) < 9
    assert 2.5 < norms[-1] < 5


# What is built


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_is_alive(case: str) -> None:
    value, depth = CASES[case]
    network = made(value, depth=depth).double().train()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    network(images).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    dead = [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all() or not grad.any()]
    assert not dead
    linear = network.architecture["operator"] == "convolution"
    # Π of a linear equation is no parameter: no gradient could reach it.
    assert linear != any("state_restrictions" in name for name in gradients)
    assert any("state_restrictions" in name for name in network.state_dict())


def test_an_untrained_network_returns_its_input() -> None:
    images = torch.randn(2, 1, 16, 16)
    assert torch.equal(build(scheme("lm"), 32, channels=1, backbone="multigrid")(images), images)


def test_depth_says_the_smoothing_steps() -> None:
    """2 (2L − 1) n + 2 layers of L levels: the convolutions A and B of each step, the first layer and the last."""
    network = made(scheme("lm"), depth=32)
    assert network.architecture["branches"] == [[1, 1, 1]] * 5
    assert [row["block"] for row in coefficients(network) if row["stage"] == 4 and row["symbol"] == "B"] == [1, 2]
    assert made(scheme("euler")).architecture["branches"] == [[1, 1]] * 5
    assert made(scheme("euler"), width=[2, 3], depth=20).architecture["widths"] == [2, 3, 2]
    value = Scheme(scheme("rk4").tableau, blocks=Blocks(per_stage=(2, 1, 3, 1, 2)))
    assert made(value).architecture["branches"] == [[4] * n for n in (2, 1, 3, 1, 2)]


@pytest.mark.parametrize("params", [5_000, 30_000, 270_000])
def test_a_budget_is_met_by_a_scheme_and_its_twin(params: int) -> None:
    value = scheme("lm")
    network, twin = (build(each, 32, params=params, backbone="multigrid") for each in (value, value.twin()))
    assert abs(parameters(network) / params - 1) < 0.02
    assert network.architecture["widths"] == twin.architecture["widths"]
    torch.manual_seed(1)
    network = build(value, 32, params=params, backbone="multigrid")
    torch.manual_seed(1)
    twin = build(value.twin(), 32, params=params, backbone="multigrid")
    state, twins = network.state_dict(), twin.state_dict()
    assert all(torch.equal(state[name], twins[name]) for name in twins)


LM = scheme("lm")
REFUSED: dict[str, tuple[Scheme, dict[str, Any], str]] = {
    "depth": (LM, {"depth": 20}, r"`depth` is 20, but must be 10n \+ 2 .* nearest is 22"),
    "history": (LM, {"depth": 12}, r"`depth` makes 1 smoothing step\(s\) .* needs 2 \(depth 22\)"),
    "budget": (LM, {"params": 100}, "`params` is 100, but the narrowest network of this depth has"),
    "stages": (replace(LM, blocks=Blocks(per_stage=(2, 2))), {}, r"`per_stage` is \[2, 2\], .* nearest is \[2, 2, 2\]"),
    "said": (replace(LM, blocks=Blocks(per_stage=(2, 2, 2))), {"depth": 22}, r"`depth` is 22, but .* makes 14"),
    "short": (replace(LM, blocks=Blocks(per_stage=(1, 1, 1))), {}, r"`per_stage` makes 1 .* needs 2 \(depth 14\)"),
    "kind": (replace(LM, blocks=Blocks("bottleneck")), {}, "`kind` of the blocks is 'bottleneck', .* basic, symmetric"),
    "transition": (replace(LM, transition="project"), {}, "`transition` is 'project', .* needs 'restart'"),
    "reversible": (LM, {"reversible": True}, "`reversible` is True, .* needs False"),
    "stem": (LM, {"stem": "identity"}, "`stem` is 'identity', .* needs 'plain'"),
    "widths": (replace(LM, blocks=Blocks(per_stage=(2, 2, 2))), {"width": (2, 2, 2)}, "`width` has 3 numbers, .* or 2"),
    "width": (LM, {"width": 0}, "`width` is 0, but must be at least 1"),
    "halves": (scheme("ruth3"), {}, "`tableau` is a Partitioned"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(case: str) -> None:
    value, arguments, message = REFUSED[case]
    with pytest.raises(OdenasError, match=message) as error:
        build(value, backbone="multigrid", **arguments)
    assert "\n" not in str(error.value)


def test_widths_that_are_no_cycle_are_refused() -> None:
    for widths in ([2, 2], [2, 3, 4]):
        with pytest.raises(ValueError, match=r"`widths` are \[2, .*\], but must be an odd number"):
            Cycle(widths, [[1]] * len(widths), [[0.0]] * len(widths))


# In use


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("case", ["lm", "rk4", "diffusion by ab2"])
def test_the_architecture_and_the_state_make_it_again(case: str, channels: int) -> None:
    network = made(CASES[case][0], depth=32, channels=channels).eval()
    weights = network.weights.frozen() if hasattr(network.weights, "frozen") else network.weights
    assert isinstance(weights, TableWeights)
    again = MultigridNetwork(weights=weights, **json.loads(json.dumps(network.architecture))).eval()
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("weights.")}
    again.load_state_dict(state | {f"weights.{name}": value for name, value in weights.state_dict().items()})
    images = torch.randn(1, channels, 12, 16)
    with torch.no_grad():
        expected = network(images)
        assert torch.equal(network(images), expected)  # nothing is drawn
        torch.testing.assert_close(again(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", ["lm", "diffusion"])
def test_mixed_precision_channels_last_and_determinism(case: str) -> None:
    network = made(CASES[case][0], depth=CASES[case][1])
    images = torch.randn(2, 3, 16, 16)
    expected = network.eval()(images)
    last = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            half = network.train()(images)
            half.square().sum().backward()
            half = network.eval()(images)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert half.dtype == torch.float32
    assert network.guess(images).dtype == torch.float32


def test_noise_is_in_training_alone() -> None:
    value = replace(scheme("euler"), stochasticity=Stochasticity("depth", 0.5, "constant"))
    network = made(value).train()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert len({float(network(images).sum()) for _ in range(5)}) > 1
        network.eval()
        assert torch.equal(network(images), network(images))
    assert network.architecture["noise"] == "depth"
    assert network.architecture["rates"] == [[0.5] * 2] * 5


def test_a_network_of_linear_parts_is_linear() -> None:
    rows = [[1] * 2] * 5
    table: dict[str, Any] = {"V": [1.0], "R": [], "B": [1.0], "A": [[0.0]], "U": [[1.0]], "W": [[]]}
    network = MultigridNetwork([2, 3, 4, 3, 2], rows, [[0.0] * 2] * 5, TableWeights(table, [2] * 5), "euler", 1,
                               corrector="linear").double()  # fmt: skip
    torch.nn.init.normal_(network.head.weight)
    x, y = torch.randn(2, 1, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x + 3 * y), network(x) + 3 * network(y))
