"""The published networks by name: what each is, how many parameters, by which recipe."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from typing import Any

import pytest
import torch

from odenas.nets import build, coefficients, parameters
from odenas.nets.block_options import STABLE
from odenas.nets.blocks import BLOCKS
from odenas.nets.named import canonical, look_up, named, twin_of
from odenas.nets.named_networks import NETWORKS
from odenas.results import published
from odenas.space import OdenasError, scheme, schemes

LIVE = {20: 273_475 - 1091, 32: 467_913 - 1091, 44: 662_351 - 1091, 56: 856_789 - 1091, 110: 1_731_760 - 1091}
"""Parameters of the classes of LM-ResNet's authors that a gradient reaches; tests/nets/test_build.py explains 1091."""

LIVE_164 = 1_703_725

# From torchvision's and pytorchcv's networks of these names; tests/nets/test_against_*.py compare them whole.
KNOWN = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "resnext29_8x64d": 34_426_698,
    "resnext29_16x64d": 68_155_210,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x4d": 44_177_704,
    "resnext101_64x4d": 83_455_272,
}


@cache
def on_meta(name: str, **shape: Any) -> Any:
    with torch.device("meta"):
        return named(name, **shape).eval()


def layers(name: str) -> int:
    """Return the number of layers: in steps of several evaluations of all, one after the other."""
    row, network = NETWORKS[name], on_meta(name)
    if row.options.get("backbone") == "fractal":
        return len(network.architecture["widths"]) * int(2 ** (network.architecture["columns"] - 1))
    evaluated = sum(chain(*network.architecture["branches"]))
    blocks = sum(map(len, network.architecture["branches"]))
    in_turn = "method" in network.architecture
    return int(BLOCKS[row.scheme.blocks.kind].layers * (evaluated if in_turn else blocks) + 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_is_a_network_of_its_depth(name: str) -> None:
    row, network = NETWORKS[name], on_meta(name, classes=7, channels=1)
    number = re.search(r"[a-z](\d+)(_sd|_\d+x\d+d)?$", name)
    assert number
    assert layers(name) == int(number[1])
    assert row.depth in (None, layers(name))
    first = network.architecture["widths"][0]
    assert first == (row.width if isinstance(row.width, int) else row.width[0])
    needs_numbers = row.scheme.blocks.kind in STABLE or "reversible" in row.options
    if layers(name) < 1000 and not needs_numbers:
        images = torch.empty(2, 1, 36, 36, device="meta")
        assert network(images).shape == ((2, 7) if network.output == "logits" else images.shape)


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_other_implementations(name: str) -> None:
    assert parameters(on_meta(name, classes=1000 if "imagenet" in str(NETWORKS[name].options) else 10)) == KNOWN[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_twin_of_its_parameters(name: str) -> None:
    """Forward Euler, on the same backbone where that can step by it; forward Euler without noise is its own twin."""
    (other, value), own = twin_of(name), NETWORKS[name].scheme
    if own.tableau == scheme("euler").tableau and not own.stochasticity.rate:
        assert (other, value) == (name, own)
        return
    assert value == own.twin() or other != name
    assert value.tableau == scheme("euler").tableau
    budget = 1_000_000
    with torch.device("meta"):
        twin = named(other, scheme=value, params=budget)
    assert twin.scheme == value
    assert abs(parameters(twin) / budget - 1) < 0.02
    if other == name:
        assert {twin.architecture.get(part) == on_meta(name).architecture.get(part) for part in ("stem", "block")} == {
            True
        }
    else:
        assert abs(layers(name) - look_up(other).depth) <= 2  # type: ignore[operator]


@pytest.mark.parametrize("depth", LIVE)
def test_parameters_are_those_of_the_authors_that_learn(depth: int) -> None:
    assert parameters(on_meta(f"lm_resnet{depth}")) == LIVE[depth]
    learned = 3 * ((depth - 2) // 6 - 1)
    assert parameters(on_meta(f"preact_resnet{depth}")) == LIVE[depth] - learned


def test_bottlenecks_have_the_parameters_of_the_authors() -> None:
    assert parameters(on_meta("lm_resnet164")) == LIVE_164
    assert parameters(on_meta("preact_resnet164")) == LIVE_164 - 3 * 17


@pytest.mark.parametrize("name", [name for name, row in NETWORKS.items() if row.published])
def test_the_published_number_is_of_this_network(name: str) -> None:
    row, table = NETWORKS[name], published()
    known = table[(table["network"] == row.published) & (table["data"] != "cifar100")]
    assert len(known)
    assert set(known["depth"]) == {layers(name)}
    assert set(known["scheme"]) == {"lm" if name.startswith("lm") else "euler"}
    assert all(abs(parameters(on_meta(name)) / count - 1) < 0.02 for count in known["params"].dropna())


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("preact_resnet110_sd", 1 - 0.5 / 54, 0.5), ("lm_resnet56_sd", 1, 0.8), ("lm_resnet110_sd", 1, 0.5)],
)
def test_stochastic_depth_keeps_the_last_block_with_probability_p_L(name: str, first: float, last: float) -> None:
    """And the first with 1 − (1 − p_L)/L (Huang et al. 2016), or always (the program of Lu et al. 2018)."""
    rates = [rate for row in on_meta(name).architecture["rates"] for rate in row]
    assert [1 - rates[0], 1 - rates[-1]] == pytest.approx([first, last])
    plain = on_meta(name.removesuffix("_sd")).architecture
    assert {**on_meta(name).architecture, "rates": None, "noise": None} == {**plain, "rates": None, "noise": None}


def test_momentum_resnet_follows_the_velocity() -> None:
    """v ← 0.9 v + 0.1 f(x), x ← x + v with v = 0 after the first block of every stage."""
    torch.manual_seed(0)
    network: Any = named("momentum_resnet18").eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        x = network.stem(images)
        for stage in network.stages:
            x = stage.shortcut(x) + stage.first(x.clone())
            velocity = 0.9 * torch.zeros_like(x) + (1 - 0.9) * stage.blocks[0][0](x.clone())
            x = x + velocity
        expected = network.head(network.activation(network.norm(x)).mean((2, 3)))
        assert torch.allclose(network(images), expected, atol=1e-5)
    assert network.architecture["widths"] == [64, 128, 256, 512]


def test_midpoint_and_leapfrog_step_as_they_are_called() -> None:
    steps = {}
    for name in ("midpoint_resnet26", "leapfrog_resnet26"):
        rows = [row for row in coefficients(named(name)) if row["block"] == 3]
        steps[name] = {(row["symbol"], row["index"]): row["value"] for row in rows if row["stage"] == 0}
    assert {key: value for key, value in steps["midpoint_resnet26"].items() if value} == {("V", 1): 1, ("B", 0): 2}
    leapfrog = {key: value for key, value in steps["leapfrog_resnet26"].items() if value}
    assert leapfrog == {("V", 0): 2, ("V", 1): -1, ("B", 0): 1}


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "rate", "decay", "batch"),
    [
        ("lm_resnet56", 160, (80, 120), 0.1, 1e-4, 128),
        ("lm_resnet56_sd", 500, (250, 375), 0.1, 1e-4, 128),
        ("lm_resnet110_sd", 500, (250, 375), 0.1, 1e-4, 128),
        ("preact_resnet110_sd", 500, (250, 375), 0.1, 1e-4, 128),
        ("resnext29_8x64d", 300, (150, 225), 0.1, 5e-4, 128),
        ("lm_resnext29_8x64d", 160, (80, 120), 0.1, 5e-4, 128),
        ("lm_resnet50", 90, (30, 60), 0.1, 1e-4, 256),
        ("momentum_resnet18", 220, (180,), 0.01, 5e-4, 128),
        ("revnet110", 160, (80, 120), 0.1, 2e-4, 100),  # 80 000 steps of 100 of 50 000 images
        ("hamiltonian_resnet38", 180, (100, 140), 0.1, 4e-4, 100),  # 90 000 steps
        ("fractalnet20", 400, (200, 300, 350, 375), 0.02, 0, 100),
    ],
)
def test_recipes_are_those_of_the_papers(
    name: str, epochs: int, milestones: tuple[int, ...], rate: float, decay: float, batch: int
) -> None:
    recipe = NETWORKS[name].recipe
    assert (recipe.epochs, recipe.milestones, recipe.momentum) == (epochs, milestones, 0.9)
    assert (recipe.learning_rate, recipe.weight_decay, recipe.batch_size) == (rate, decay, batch)
    assert recipe.source


@pytest.mark.parametrize("name", ["ab2-20", "rk4-14", "lm-14", "stochastic_depth-14"])
def test_a_scheme_and_a_depth_are_a_name(name: str) -> None:
    value, depth = name.split("-")
    states = []
    torch.manual_seed(1)
    states.append(named(name, 5, 1).state_dict())
    torch.manual_seed(1)
    states.append(build(scheme(value), int(depth), 5, 1).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_a_name_may_be_written_with_hyphens_and_capitals() -> None:
    for name in NETWORKS:
        for written in (name, name.upper(), name.replace("_", "-"), name.replace("_", ""), f"{name[:-1]}-{name[-1]}"):
            assert canonical(written) == name
            assert look_up(written) is NETWORKS[name]
    for name in schemes():
        for written in (f"{name}-38", f"{name.upper()}-38", f"{name.replace('_', '-')}-38"):
            assert canonical(written) == f"{name}-38"
            assert look_up(written).scheme == scheme(name)
    papers = {"LM-ResNet-56": "lm_resnet56", "lm-resnet56-sd": "lm_resnet56_sd", "ResNet-110": "resnet110",
              "ResNeXt-29-8x64d": "resnext29_8x64d", "AB2-20": "ab2-20", "lm-20": "lm-20"}  # fmt: skip
    assert {written: canonical(written) for written in papers} == papers
    assert twin_of("LM-ResNet-56") == twin_of("lm_resnet56")


def test_the_rule_hides_no_row_and_every_scheme_fits_it() -> None:
    assert not any("-" in name for name in [*NETWORKS, *schemes()])
    plain = {re.sub("[-_]", "", name) for name in NETWORKS}
    assert len(plain) == len(NETWORKS)
    assert not any(re.fullmatch(name.replace("_", "") + "[0-9]{1,5}", row) for name in schemes() for row in plain)
    for name in schemes():
        assert look_up(f"{name}-38").scheme == scheme(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lm_resnet21", r"`NAME` is 'lm_resnet21', .*; did you mean 'lm_resnet20'\?$"),
        ("lm_resnet1000", r"`NAME` is 'lm_resnet1000', .*; did you mean 'lm_resnet164'\?$"),
        ("lm_resnet100_sd", r"`NAME` is 'lm_resnet100_sd', .*; did you mean 'lm_resnet110_sd'\?$"),
        ("LM-ResNet-21", r"`NAME` is 'LM-ResNet-21', but must be one of resnet20, .*; did you mean 'lm_resnet20'\?$"),
        ("ab9-20", r"`NAME` is 'ab9-20', .*; did you mean 'ab[2-5]-20'\?$"),
        ("rk4", r"`NAME` is 'rk4', .*; did you mean 'rk4-20'\?$"),
        ("rk4-37", "`depth` is 37, but must be 6n [+] 2 .* the nearest is 38$"),
        ("ab2-8", "`depth` is 8 with 1 blocks a stage, .*depth 14"),
        ("ab2--20", "`NAME` is 'ab2--20'"),
        ("ab2-20\n", "`NAME` is 'ab2-20.n'"),
        ("", "`NAME` is ''"),
        (3, "`NAME` is 3"),
    ],
    ids=repr,
)
def test_what_is_no_name_is_answered_in_one_line(name: Any, message: str) -> None:
    with pytest.raises(OdenasError) as caught:
        named(name)
    assert re.match(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
