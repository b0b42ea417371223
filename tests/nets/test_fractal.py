"""Fractal networks are the recursion that defines them, and drop-path leaves the paths that it says."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets.drop_path import all_paths, column_paths, joined, local_paths, sampled_paths, used_paths
from odenas.nets.fractal import FractalNetwork
from odenas.nets.fractal_block import FractalLayer

LEVEL = 1e-4
"""A right sampler with a seed of its own fails a test at this level once in 10 000 seeds."""


def made(columns: int = 3, widths: tuple[int, ...] = (3, 5), **options: Any) -> Any:
    """Return a network in float64 whose batch normalisation is not the identity."""
    torch.manual_seed(0)
    network = FractalNetwork(columns, widths, 4, 2, **options).double()
    for name, value in network.state_dict().items():
        if "running_var" in name or "norm.weight" in name:
            value.uniform_(0.5, 2)
        elif "running_mean" in name or "bias" in name:
            value.normal_()
    return network


def images(batch: int = 2, size: int = 8) -> Tensor:
    return torch.randn(batch, 2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@contextmanager
def calls(network: nn.Module) -> Iterator[list[str]]:
    """Give the names of the layers as they are evaluated."""
    seen: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, module in network.named_modules()
        if isinstance(module, FractalLayer)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def fractal(columns: list[list[nn.Module]], z: Tensor) -> list[Tensor]:
    """Return what f_C joins at its end, C = len(columns), by its definition; the deepest column comes last.

    f_{C+1} = (f_C ∘ f_C) ⊕ conv; where f_C ends in a join, that join and ⊕ are one.
    """
    (first,), *deeper = columns
    if not deeper:
        return [first(z)]
    earlier, later = ([column[part * len(column) // 2 :][: len(column) // 2] for column in deeper] for part in (0, 1))
    return [first(z), *fractal(later, mean(fractal(earlier, z)))]


def mean(inputs: list[Tensor]) -> Tensor:
    return torch.stack(inputs).mean(0)


def pooled(x: Tensor) -> Tensor:
    """Return the maxima of 2×2 pixels, of fewer at an odd edge."""
    height, width = x.shape[-2:]
    rows = [[x[..., i : i + 2, j : j + 2].amax((-2, -1)) for j in range(0, width, 2)] for i in range(0, height, 2)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@pytest.mark.parametrize("columns", [2, 3, 4])
@torch.no_grad()
def test_a_network_is_the_recursion(columns: int) -> None:
    network = made(columns).eval()
    x = images(size=6)
    for block in network.blocks:
        x = mean([pooled(end) for end in fractal([list(column) for column in block.columns], x)])
    torch.testing.assert_close(network(images(size=6)), network.head(x.mean((2, 3))), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_without_drop_path_training_is_the_recursion_on_the_statistics_of_the_batch() -> None:
    network = made(dropout=(0, 0), drop_path=0.0)
    for block in network.blocks:
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.0
    x = images()
    for block in network.blocks:
        x = mean([pooled(end) for end in fractal([list(column) for column in block.columns], x)])
    torch.testing.assert_close(network(images()), network.head(x.mean((2, 3))), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_evaluation_is_training_without_noise_by_the_running_statistics() -> None:
    network = made().eval()
    expected = network(images())
    before = torch.get_rng_state()
    assert torch.equal(network(images()), expected)
    assert torch.equal(torch.get_rng_state(), before)
    quiet = FractalNetwork(**(network.architecture | {"dropout": [0, 0], "drop_path": 0.0})).double()
    quiet.load_state_dict(network.state_dict())
    for module in quiet.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert torch.equal(quiet(images()), expected)


@pytest.mark.parametrize("columns", [2, 3, 5])
@torch.no_grad()
def test_the_depth_is_blocks_times_two_to_the_columns_less_one(columns: int) -> None:
    network = made(columns, (2, 3, 2)).eval()
    with calls(network) as seen:
        network(images())
    per_column = Counter(int(name.split(".")[3]) for name in seen)
    assert per_column == {column: 3 * 2**column for column in range(columns)}
    deepest = network.deepest()
    with calls(deepest) as seen:
        deepest(images())
    assert len(seen) == 3 * 2 ** (columns - 1)


@pytest.mark.parametrize("column", [0, 1, 2])
@torch.no_grad()
def test_a_column_alone_is_the_network_where_all_joins_keep_it(column: int) -> None:
    network = made().eval()
    alone = network.column(column)
    with calls(network) as seen:
        restricted = network(images(size=7), column_paths(2, 3, column))
    assert len(seen) == 2 * 2**column
    assert {name.split(".")[3] for name in seen} == {str(column)}
    assert not alone.training
    torch.testing.assert_close(alone(images(size=7)), restricted, rtol=1e-12, atol=1e-12)
    # By hand too: the layers of the column one after the other.
    x = images(size=7)
    for block in network.blocks:
        for layer in block.columns[column]:
            x = layer(x)
        x = pooled(x)
    torch.testing.assert_close(restricted, network.head(x.mean((2, 3))), rtol=1e-12, atol=1e-12)
    for parameter in alone.parameters():
        parameter.zero_()
    torch.testing.assert_close(network(images(size=7), column_paths(2, 3, column)), restricted, rtol=0, atol=0)


@torch.no_grad()
def test_the_deepest_column_is_the_last() -> None:
    network = made().eval()
    assert torch.equal(network.deepest()(images()), network.column(2)(images()))


def test_a_join_is_the_mean_of_what_is_kept() -> None:
    """One block of two columns: all three ways, by hand."""
    network = made(2, (3,)).eval()
    ((short,), (first, second)) = network.blocks[0].columns
    short_end, long_end = (pooled(x) for x in (short(images()), second(first(images()))))
    for kept, end in (([1, 1], (short_end + long_end) / 2), ([1, 0], short_end), ([0, 1], long_end)):
        paths = torch.tensor([[[0, 1], kept]], dtype=torch.bool)
        torch.testing.assert_close(network(images(), paths), network.head(end.mean((2, 3))), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_all_paths_are_the_whole_network() -> None:
    """A third as exact as the network's numbers are."""
    network = made(3).eval()
    torch.testing.assert_close(network(images(), all_paths(2, 3)), network(images()), rtol=1e-13, atol=1e-13)


def test_the_joins_of_four_columns() -> None:
    """As the figure of the paper has them, the shallowest column 0."""
    expected = [[3], [2, 3], [3], [1, 2, 3], [3], [2, 3], [3], [0, 1, 2, 3]]
    assert [list(joined(row, 4)) for row in range(1, 9)] == expected
    assert [[c for c in range(4) if row[c]] for row in all_paths(2, 4)[1].tolist()] == expected


@pytest.mark.parametrize("rate", [0.15, 0.7])
def test_local_survivors_are_binomial_given_one(rate: float) -> None:
    torch.manual_seed(2)
    columns, blocks = 4, 8000
    paths = local_paths(blocks, columns, rate)
    assert not (paths & ~all_paths(blocks, columns)).any()
    for row in range(1, 2 ** (columns - 1) + 1):
        inputs = list(joined(row, columns))
        n, kept = len(inputs), paths[:, row - 1]
        counts = torch.bincount(kept.sum(-1), minlength=n + 1).tolist()
        binomial = [math.comb(n, k) * (1 - rate) ** k * rate ** (n - k) for k in range(n + 1)]
        assert counts[0] == 0
        if n == 1:
            continue
        whole = 1 - binomial[0]
        assert chisquare(counts[1:], [blocks * p / whole for p in binomial[1:]]).pvalue > LEVEL
        # Which of them are kept is as likely as their number alone says: no column is favoured.
        sets = Counter(tuple(line) for line in kept[:, inputs[0] :].tolist())
        likely = {line: (1 - rate) ** sum(line) * rate ** (n - sum(line)) / whole for line in _lines(n) if any(line)}
        assert set(sets) <= set(likely)
        assert chisquare([sets[line] for line in likely], [blocks * p for p in likely.values()]).pvalue > LEVEL
    # Joins draw apart.
    ends = paths[:, [1, 5], 2].double()
    assert abs(float(torch.corrcoef(ends.T)[0, 1])) < 4 / math.sqrt(blocks)


def _lines(n: int) -> list[tuple[bool, ...]]:
    return [tuple(bool(number >> i & 1) for i in range(n)) for number in range(2**n)]


def test_half_the_batches_keep_one_column_each_as_often() -> None:
    torch.manual_seed(3)
    draws, blocks, columns = 1800, 2, 3
    found: Counter[int] = Counter()
    for _ in range(draws):
        paths = sampled_paths(blocks, columns, 1e-9, 0.5)
        column = [c for c in range(columns) if torch.equal(paths, column_paths(blocks, columns, c))]
        assert column or torch.equal(paths, all_paths(blocks, columns))
        found[column[0] if column else -1] += 1
    expected = [draws / 2, *[draws / 2 / columns] * columns]
    assert chisquare([found[i] for i in (-1, 0, 1, 2)], expected).pvalue > LEVEL


def test_one_kind_alone() -> None:
    torch.manual_seed(4)
    alone = [column_paths(2, 3, c) for c in range(3)]
    for _ in range(50):
        sample = sampled_paths(2, 3, 0.5, 1.0)
        assert any(torch.equal(sample, paths) for paths in alone)
        assert sampled_paths(2, 3, 0.5, 0.0).any(-1).all()


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_used_paths_are_those_that_reach_the_end(columns: int) -> None:
    """By walking every way through the block from its end."""
    torch.manual_seed(5)
    rows = 2 ** (columns - 1)
    for _ in range(30):
        paths = sampled_paths(1, columns, 0.6, 0.3)
        expected, ends = torch.zeros_like(paths), [rows]
        while ends:
            row = ends.pop()
            for column in range(columns):
                if row and paths[0, row - 1, column]:
                    expected[0, row - 1, column] = True
                    ends.append(row - rows // 2**column)
        assert torch.equal(used_paths(paths), expected)


def layers_used(network: Any, paths: Tensor) -> set[str]:
    rows = paths.shape[1]
    places = used_paths(paths).nonzero().tolist()
    return {f"blocks.{b}.columns.{c}.{(row + 1) * 2**c // rows - 1}" for b, row, c in places}


def test_gradients_reach_the_kept_paths_alone() -> None:
    network = made(4, drop_path=0.5)
    for seed in range(6):
        torch.manual_seed(seed)
        network.zero_grad(set_to_none=True)
        state = torch.get_rng_state()
        used = layers_used(network, sampled_paths(2, 4, 0.5, 0.5))
        torch.set_rng_state(state)
        with calls(network) as seen:
            network(images(4)).square().sum().backward()
        assert sorted(seen) == sorted(used)
        for name, module in network.named_modules():
            if isinstance(module, FractalLayer):
                reached = [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]
                assert reached == [name in used] * 3


def compiled(network: nn.Module) -> Any:
    torch._dynamo.reset()
    return torch.compile(network, backend="eager", fullgraph=True)


def test_compiled_training_is_training() -> None:
    """One graph without breaks; the same draws, outputs, gradients and running statistics."""
    plain, other = (made(2, (3,), dropout=(0,), drop_path=0.5) for _ in range(2))
    graph = compiled(other)
    kinds: Counter[tuple[bool, ...]] = Counter()
    for seed in range(10):
        results = []
        for network in (plain, graph):
            torch.manual_seed(seed)
            network.zero_grad(set_to_none=True)
            results.append(network(images(4)))
            results[-1].square().sum().backward()
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
        for mine, its in zip(plain.parameters(), other.parameters(), strict=True):
            gradient = torch.zeros_like(mine) if mine.grad is None else mine.grad
            torch.testing.assert_close(its.grad, gradient, rtol=1e-9, atol=1e-9)
        kinds[tuple(parameter.grad is None for parameter in plain.parameters())] += 1
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-10, atol=1e-10, msg=name)
    assert len(kinds) > 2
    plain.eval(), other.eval()
    torch.testing.assert_close(graph(images()), plain(images()), rtol=1e-12, atol=1e-12)


def test_a_network_with_all_its_noise_compiles() -> None:
    network = compiled(made(2, (2,), dropout=(0.5,)))
    assert network(images(4)).isfinite().all()
    assert not torch.equal(network(images(4)), network(images(4)))


def test_the_same_seed_gives_the_same_training() -> None:
    def trained(seed: int) -> Tensor:
        network = made(drop_path=0.5)
        torch.manual_seed(seed)
        return torch.stack([network(images(4)) for _ in range(3)])

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


def test_dropout_and_drop_path_act_in_training_alone() -> None:
    for dropout, drop_path in ((0.5, 0.0), (0.0, 0.5)):
        network = made(dropout=[dropout] * 2, drop_path=drop_path)
        torch.manual_seed(0)
        outputs = [network(images(4)) for _ in range(8)]
        assert any(not torch.equal(output, outputs[0]) for output in outputs)
        assert torch.equal(network.eval()(images()), network(images()))


def test_dropout_comes_before_the_norm_and_is_number_by_number() -> None:
    layer = FractalLayer(4, 6, 0.3)
    seen: list[Tensor] = []
    layer.norm.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    torch.manual_seed(8)
    layer(torch.randn(8, 4, 16, 16))
    zeros = (seen[0] == 0).double()
    assert float(zeros.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(zeros.mean((2, 3)).std()) < 0.06


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (9, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_one_image(size: tuple[int, int], channels: int) -> None:
    network: Any = FractalNetwork(2, (3, 4, 5), 7, channels)
    assert network(torch.randn(3, channels, *size)).shape == (3, 7)
    network.eval()
    both = torch.randn(2, channels, *size)
    torch.testing.assert_close(torch.cat([network(both[:1]), network(both[1:])]), network(both))


@pytest.mark.parametrize("training", [True, False])
def test_low_precision_and_channels_last(training: bool) -> None:
    network = made(dropout=(0, 0), drop_path=0.3).float().train(training)
    pictures = images(4).float()

    def outputs(pictures: Tensor) -> tuple[Tensor, Tensor]:
        network.zero_grad(set_to_none=True)
        torch.manual_seed(6)
        logits = network(pictures)
        logits.float().square().sum().backward()
        return logits, network.head.weight.grad

    expected, gradient = outputs(pictures)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = outputs(pictures)
    assert logits.dtype == torch.bfloat16
    assert float((logits - expected).detach().abs().max()) < 0.1 * float(expected.detach().abs().max())
    network.to(memory_format=torch.channels_last)
    logits, last = outputs(pictures.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, gradient, rtol=1e-4, atol=1e-4)


def test_deterministic_algorithms() -> None:
    network = made()
    torch.use_deterministic_algorithms(True)
    try:
        network(images(4, 7)).square().sum().backward()
        network.deepest()(images(4, 7)).square().sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_architecture_and_the_state_make_the_network_again() -> None:
    network = made(4, (3, 2, 4), drop_path=0.2, global_share=0.25, activation="silu").eval()
    plain = json.loads(json.dumps(network.architecture))
    sizes = {"columns": 4, "widths": [3, 2, 4], "classes": 4, "channels": 2, "dropout": [0, 0.2, 0.4]}
    assert plain == sizes | {"drop_path": 0.2, "global_share": 0.25, "activation": "silu"}
    again = FractalNetwork(**plain).double().eval()
    assert again.architecture == network.architecture
    assert again.scheme is None
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images()), network(images()))


def test_the_network_of_the_paper() -> None:
    """20 layers; the number of parameters from the definition, and none is drawn to count them."""
    with torch.device("meta"):
        network = FractalNetwork(3, [64, 128, 256, 512, 512], 10, 3)
    layers = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)]
    convolutions = sum(9 * (3 * inputs * width + 4 * width**2) for inputs, width in layers)
    expected = convolutions + sum(7 * 2 * width for _, width in layers) + 512 * 10 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 33_724_618
    assert all(parameter.is_meta for parameter in network.parameters())
    assert network.architecture["dropout"] == [0, 0.1, 0.2, 0.3, 0.4]
    assert "33 724 618" in (FractalNetwork.__doc__ or "")
    assert sum(isinstance(layer, FractalLayer) for layer in network.deepest()) == 20


def test_weights_begin_as_glorot_and_bengio_have_them() -> None:
    torch.manual_seed(7)
    network = FractalNetwork(2, (24, 48), 10, 3)
    for block, (inputs, outputs) in zip(network.blocks, [(3, 24), (24, 48)], strict=True):
        weight = block.columns[0][0].conv.weight.detach()  # type: ignore[index, union-attr]
        bound = math.sqrt(6 / (9 * inputs + 9 * outputs))
        assert 0.95 * bound < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not network.head.bias.any()


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [
        ("columns", 1, "2"),
        ("columns", 7, "6"),
        ("columns", True, "2"),
        ("columns", 2.5, "2"),
        ("widths", [], "one width"),
        ("widths", [4, 0], "1"),
        ("classes", 0, "1"),
        ("classes", True, "1"),
        ("channels", -1, "1"),
        ("dropout", [0.1], "2"),
        ("dropout", [0.1, 1.0], "0.99"),
        ("drop_path", 1.0, "0.99"),
        ("drop_path", -0.1, "0"),
        ("drop_path", math.nan, "0"),
        ("drop_path", "0.1", "0"),
        ("global_share", 1.5, "1"),
        ("activation", "relu6", "relu"),
    ],
)
def test_bad_fields_are_named(field: str, value: Any, near: str) -> None:
    good: dict[str, Any] = {"columns": 3, "widths": [3, 4], "classes": 2, "channels": 1}
    with pytest.raises(ValueError, match=r"nearest|one of") as caught:
        FractalNetwork(**(good | {field: value}))
    message = str(caught.value)
    assert message.startswith(f"`{field}` ")
    assert near in message.split("but")[1]
    assert "\n" not in message


def test_the_bounds_of_the_fields_are_good() -> None:
    FractalNetwork(2, [1], 1, 1, [0.0], 0.0, 0.0)
    with torch.device("meta"):
        FractalNetwork(6, [1], 1, 1, [0.999], 0.999, 1.0)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_column_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match=f"`index` is {index}, but must be a whole number from 0 to 2; the nearest"):
        made().column(index)


def test_pooling_comes_before_the_last_join() -> None:
    """The mean of maxima, not the maximum of means; the two differ."""
    network = made(2, (3,)).eval()
    ((short,), (first, second)) = network.blocks[0].columns
    with torch.no_grad():
        ends = [short(images()), second(first(images()))]
        before, after = mean([pooled(end) for end in ends]), pooled(mean(ends))
        assert float((before - after).abs().max()) > 0.01
        expected = functional.linear(before.mean((2, 3)), network.head.weight, network.head.bias)
        torch.testing.assert_close(network(images()), expected, rtol=1e-12, atol=1e-12)
