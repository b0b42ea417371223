"""Which network `build` makes: parameters counted, budgets met, mistakes answered in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from odenas.nets import build, parameters
from odenas.space import OdenasError, Scheme, Stochasticity, Tableau, scheme, schemes

RK4 = Scheme(
    Tableau.runge_kutta(((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6"))
)

# What the classes of LM-ResNet's authors count, for ten classes.
AUTHORS = {20: 273_475, 32: 467_913, 44: 662_351, 56: 856_789, 110: 1_731_760}
DEAD = 1091
"""Parameters of theirs that no gradient reaches, left out here: a projection before the first stage, whose shape does
not change, and the k of each stage's first block, which is a plain residual block."""


@pytest.mark.parametrize("depth", AUTHORS)
def test_lm_resnet_has_the_parameters_of_its_authors_but_the_dead_ones(depth: int) -> None:
    network = build(scheme("lm"), depth)
    assert parameters(network) == AUTHORS[depth] - DEAD
    live = 3 * ((depth - 2) // 6 - 1)
    assert parameters(build(scheme("euler"), depth)) == parameters(network) - live


def test_lm_resnet_20_has_272384_parameters_and_all_are_alive() -> None:
    network = build(scheme("lm"), 20)
    assert parameters(network) == 272_384
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("depth", [20, 56])
@pytest.mark.parametrize("budget", [20_000, 123_456, 270_000, 2_000_000])
def test_a_budget_is_met_within_two_percent_by_the_same_widths_for_the_twin(depth: int, budget: int) -> None:
    widths = set()
    with torch.device("meta"):
        for value in (scheme("lm"), scheme("ab3"), scheme("lm").twin()):
            network = build(value, depth, params=budget)
            widths.add(tuple(network.architecture["widths"]))
            assert abs(parameters(network) / budget - 1) < 0.02
    assert len(widths) == 1
    first, second, last = widths.pop()
    assert first <= second <= last
    assert abs(second - last / 2) <= 2
    assert abs(first - last / 4) <= 2


@pytest.mark.parametrize("budget", [20_000, 27_000, 90_000, 1_400_000])
def test_no_neighbour_comes_nearer_unless_the_budget_is_met_within_one_percent(budget: int) -> None:
    with torch.device("meta"):
        network = build(scheme("euler"), 56, params=budget)
        miss = abs(parameters(network) - budget)
        if miss > 0.01 * budget:
            for shift in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
                widths = [w + s for w, s in zip(network.architecture["widths"], shift, strict=True)]
                assert abs(parameters(build(scheme("euler"), 56, width=widths)) - budget) >= miss


def test_a_budget_counts_every_stage_of_a_step() -> None:
    with torch.device("meta"):
        network = build(RK4, 20, params=300_000)
        assert abs(parameters(network) / 300_000 - 1) < 0.02
        assert network.architecture["branches"] == [[1, 4, 4]] * 3


def test_a_budget_depends_on_classes_and_channels() -> None:
    with torch.device("meta"):
        network = build(scheme("euler"), 20, classes=100, channels=1, params=280_000)
    assert abs(parameters(network) / 280_000 - 1) < 0.02
    assert network.head.out_features == 100
    assert network.stem.in_channels == 1


@pytest.mark.parametrize(
    ("width", "widths"), [(16, [16, 32, 64]), (5, [5, 10, 20]), ((3, 7, 5), [3, 7, 5]), ([4, 4, 4], [4, 4, 4])]
)
def test_widths_are_taken_as_given(width: Any, widths: list[int]) -> None:
    network = build(scheme("lm"), 14, width=width)
    assert network.architecture["widths"] == widths
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_equal_widths_in_the_first_two_stages_still_halve_the_image() -> None:
    network: Any = build(scheme("euler"), 14, width=(4, 4, 4)).eval()
    sizes: list[tuple[int, ...]] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, arguments, output: sizes.append(tuple(output[0].shape[1:])))
    network(torch.randn(1, 3, 9, 9))
    assert sizes == [(4, 9, 9), (4, 5, 5), (4, 3, 3)]


def test_convolutions_start_with_the_variance_of_he() -> None:
    """N(0, 2 / (k² outputs)), and nothing else is random."""
    torch.manual_seed(0)
    network = build(scheme("euler"), 20)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5000:
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
            assert abs(module.weight.mean().item()) < 0.05 * expected


@pytest.mark.parametrize("name", ["euler", "lm", "ab3", "rk4", "shake_shake"])
def test_a_seed_makes_the_network(name: str) -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(build(scheme(name), 20, width=2, params=None).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["stem.weight"], states[2]["stem.weight"])


def one_branch(value: Scheme) -> bool:
    """Return whether a step has the weights of one branch alone, as one of forward Euler has."""
    return isinstance(value.tableau, Tableau) and (value.tableau.stages == 1 or value.tying == "stages")


@pytest.mark.parametrize("name", [name for name in schemes() if one_branch(scheme(name))])
def test_the_twin_starts_from_the_same_weights(name: str) -> None:
    """Drawn in the same order: a comparison of a scheme and its twin begins with equal convolutions and head."""
    states = []
    for value in (scheme(name), scheme(name).twin()):
        torch.manual_seed(3)
        states.append(build(value, 6 * max(3, scheme(name).tableau.steps) + 2, width=2).state_dict())
    twin = states[1]
    assert [key for key in states[0] if not key.startswith("weights.")] == list(twin)
    assert all(torch.equal(states[0][key], twin[key]) for key in twin)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, "`depth` is 21, .* nearest is 20"),
        ({"depth": 22}, "`depth` is 22, .* nearest is 20"),
        ({"depth": 24}, "`depth` is 24, .* nearest is 26"),
        ({"depth": 2}, "`depth` is 2, .* nearest is 8"),
        ({"depth": -4}, "`depth` is -4, .* nearest is 8"),
        ({"depth": 20.0}, "`depth` is 20.0, .* integer"),
        ({"depth": True}, "`depth` is True, .* integer"),
        ({"depth": "20"}, "`depth` is '20', .* integer"),
        ({"depth": 8}, "`depth` is 8 .* 2 steps .*depth 14"),
        ({"params": 10}, r"`params` is 10, .* has \d+"),
        ({"params": 0}, r"`params` is 0, .* has \d+"),
        ({"params": -1}, r"`params` is -1, .* has \d+"),
        ({"params": 2e5}, "`params` is 200000.0, .* integer"),
        ({"params": float("nan")}, "`params` is nan, .* integer"),
        ({"width": 0}, "`width` is 0, .* at least 1"),
        ({"width": (4, -8, 16)}, "`width` is -8, .* at least 1"),
        ({"width": (4, 8)}, "`width` has 2 numbers, .* 3"),
        ({"width": ()}, "`width` has no numbers, "),
        ({"width": 1.5}, "`width` is 1.5, .* integer"),
        ({"width": "wide"}, "`width` is 'w.*', .* integer"),
        ({"classes": 0}, "`classes` is 0, .* at least 1"),
        ({"classes": 2.5}, "`classes` is 2.5, .* integer"),
        ({"channels": 0}, "`channels` is 0, .* at least 1"),
    ],
    ids=str,
)
def test_mistakes_are_answered_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError) as caught:
        build(scheme("lm"), **options)
    assert re.match(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_depth_that_the_message_names_will_do() -> None:
    for value in (scheme("lm"), scheme("ab3"), Scheme(Tableau.multistep((1,), (1, 0, 0, 0, 0)))):
        for depth in (8, 14, 20, 26):
            try:
                build(value, depth, width=1)
            except OdenasError as error:
                (named,) = re.findall(r"depth (\d+)", str(error))
                assert int(named) > depth
                build(value, int(named), width=1)


def test_drop_rates_grow_linearly_from_zero_to_the_rate() -> None:
    value = Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", 0.4))
    rates = [rate for row in build(value, 20, width=1).architecture["rates"] for rate in row]
    assert rates == pytest.approx([0.4 * i / 8 for i in range(9)])
    assert rates[0] == 0
    stages: Any = build(value, 20, width=1).stages
    assert [noise.rate for stage in stages for noise in stage.noises] == rates
