"""A search over the schemes of a given backbone: what is refused before it begins, its trials, its end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from odenas.nets import parameters
from odenas.nets.backbones import given_network
from odenas.nets.rewire import check_scheme, plain_branches
from odenas.nets.stepper import stepper_of
from odenas.results import Run, load
from odenas.search import driver, exporting, terminal
from odenas.search.budget import parameter_budget
from odenas.search.config import SearchConfig, read_config
from odenas.search.given_backbone import check_space, given_parameters
from odenas.search.presets import TWO_STEP
from odenas.search.retraining import retrain
from odenas.search.trial import macs, make_network, read_checkpoint, train_trial
from odenas.space import Blocks, OdenasError, Scheme, SearchSpace, scheme

torch.set_num_threads(1)  # as in a worker
RESNET = "torchvision:resnet18"
CONFIG = SearchConfig(backbone=RESNET, epochs=2, train_size=24, recipe={"learning_rate": 0.02, "batch_size": 8})
LM = scheme("lm")

# Configurations.


@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_depth_width_and_parameters_have_no_meaning(data: str) -> None:
    config = SearchConfig(data=data, backbone=RESNET)
    assert (config.depth, config.width, config.params) == (None, None, None)
    assert config.trials == SearchConfig(data=data).trials
    values = json.loads(json.dumps(config.resolved()))
    assert SearchConfig(**values) == config


def test_the_backbone_is_residual_or_what_the_file_or_the_option_says(tmp_path: Path) -> None:
    assert SearchConfig().backbone == "residual"
    path = tmp_path / "a.toml"
    path.write_text(f'backbone = "{RESNET}"\n')
    assert read_config(path, {}).backbone == RESNET
    assert read_config(path, {"backbone": "timm:resnet18"}).backbone == "timm:resnet18"
    with pytest.raises(OdenasError, match="`depth` is 20, but torchvision:resnet18 has its own size; leave it out"):
        read_config(path, {"depth": 20})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"backbone": RESNET, "width": 16}, "`width` is 16, but torchvision:resnet18 has its own size; leave it out"),
    ({"backbone": RESNET, "params": 9}, "`params` is 9, but torchvision:resnet18 has its own size; leave it out"),
    ({"backbone": "resnet18"}, "`backbone` is 'resnet18', but must be one of residual, .*torchvision:NAME, timm:NAME"),
    ({"backbone": "residul"}, r"`backbone` is 'residul', .*; did you mean 'residual'\?"),
    ({"backbone": "tim:resnet18"}, r"`backbone` is 'tim:resnet18', .*; did you mean 'timm:resnet18'\?"),
    ({"backbone": 3}, "`backbone` is 3, but must be a valid string"),
    ({"backbone": "dense"}, "`backbone` is 'dense', but the data set 'digits' needs 'residual'"),
    ({"data": "denoise", "backbone": RESNET}, "is 'torchvision:resnet18', but the data set 'denoise' needs 'dense'"),
    ({"depth": None}, "`depth` is None, but must be an integer for the backbone 'residual'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_does_not_go_together_is_told_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message) as caught:
        SearchConfig(**given)
    assert "\n" not in str(caught.value)


# Spaces.

TWO = {**TWO_STEP}
SPACES: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "two steps": TWO,
    "three steps": {**TWO, "steps": (2, 3)},
    "three steps, copied": {**TWO, "steps": (2, 3), "start": ("copy",)},
    "only five steps": {**TWO, "steps": (5,), "order": (1,)},
    "projected": {**TWO, "transition": ("restart", "project")},
    "tied over steps": {**TWO, "tying": ("none", "steps")},
    "only tied over steps": {**TWO, "tying": ("steps",)},
    "shaken": {**TWO, "stochasticity": ("none", "shake", "depth")},
    "blocks": {**TWO, "block": ("basic", "bottleneck"), "activation": ("tanh",), "per_stage": (4, 5)},
    "learned by channel": {**TWO, "learning": ("fixed", "learned", "scheduled")},
    "runge-kutta": {"family": ("runge-kutta",), "order": (1, 2)},
    "runge-kutta, tied": {"family": ("runge-kutta",), "order": (1, 2, 3), "tying": ("stages",)},
    "both": {**TWO, "family": ("multistep", "runge-kutta"), "tying": ("stages",)},
    "named": {"family": ("named",), "named": ("euler", "lm", "ab2", "momentum"), "tying": ("none",)},
    "named, of many kinds": {"family": ("named",), "tying": ("stages",)},
    "named, partitioned": {"family": ("named",), "named": ("symplectic_euler", "euler"), "tying": ("none",)},
}


def steppable(value: Scheme, branches: int) -> bool:
    """Return whether the network can step by a scheme, or stays as it is by forward Euler."""
    try:
        tableau = check_scheme(value)
    except OdenasError:
        return False
    return tableau.steps == tableau.stages == 1 or plain_branches(value) < branches


def drawn(space: SearchSpace, count: int = 40) -> Iterator[Scheme]:
    generator = np.random.default_rng(0)
    return (space.draw(generator) for _ in range(count))


def mended(space: SearchSpace, message: str) -> SearchSpace:
    """Return the space with what the message says that it needs."""
    told = message.partition(" it needs ")[2]
    unfit = re.search(r"named without (\[.*?\])", told)
    changes: dict[str, Any] = {
        name: tuple(tomllib.loads(f"a = {values}")["a"]) for name, values in re.findall(r"(\w+) = (\[.*?\])", told)
    }
    if unfit:
        left = tomllib.loads(f"a = {unfit[1]}")["a"]
        changes["named"] = tuple(name for name in space.named if name not in left)
    return replace(space, **changes)


@pytest.mark.parametrize("branches", [2, 3, 6])
@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_taken_if_the_network_can_step_by_all_it_draws(name: str, branches: int) -> None:
    """What is refused becomes such a space by the very words of the message."""
    space = SearchSpace(**SPACES[name])
    try:
        check_space(space, RESNET, branches)
    except OdenasError as error:
        message = str(error)
        assert message.startswith("`space` can draw schemes that torchvision:resnet18 cannot step by; it needs ")
        assert "\n" not in message
        unlike = space.block != ("basic",) or space.per_stage or "shake" in space.stochasticity
        assert unlike or not all(steppable(value, branches) for value in drawn(space, 300))
        space = mended(space, message)
        check_space(space, RESNET, branches)
    for value in drawn(space):
        assert steppable(value, branches)
        assert value.blocks == Blocks()


def test_which_spaces_are_taken() -> None:
    taken = {name for name, given in SPACES.items() if not refusal(SearchSpace(**given), 2)}
    # TWO with "shake": a step of one stage has no two stages to shake, but no network of a library has either.
    assert taken == {"two steps", "three steps, copied", "learned by channel", "runge-kutta, tied", "both", "named"}
    assert refusal(SearchSpace(**SPACES["three steps"]), 2).endswith("it needs steps = [2]")
    assert not refusal(SearchSpace(**SPACES["three steps"]), 3)
    assert refusal(SearchSpace(**SPACES["named, partitioned"]), 2).endswith(
        'it needs named without ["symplectic_euler"]'
    )
    assert "one residual branch each" in refusal(SearchSpace(**TWO), 1)


def refusal(space: SearchSpace, branches: int) -> str:
    """Return why a space is refused, or nothing."""
    try:
        check_space(space, RESNET, branches)
    except OdenasError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["two steps", "three steps, copied", "learned by channel", "both", "named"])
def test_the_network_steps_by_what_is_drawn_and_by_its_twin(name: str) -> None:
    space = SearchSpace(**SPACES[name])
    for value in drawn(space, 5):
        for each in (value, value.twin()):
            with torch.device("meta"):
                network = given_network(RESNET, each)
            assert stepper_of(network).architecture["branches"] == [[1, 1]] * 4


# The start of a search.


def test_all_networks_have_the_backbones_parameters() -> None:
    config = SearchConfig(backbone=RESNET)
    before = torch.get_rng_state()
    assert parameter_budget(config) == given_parameters(config) == 11_181_642  # 11.69 million with 1000 classes
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet81", r"did you mean 'torchvision:resnet18'\?"),
        ("torchvision:squeezenet1_1", r"which cannot be rewired: .* no block to rewire .*; ResNet, .* can be$"),
        ("timm:test_resnet", "whose stages have one residual branch each; a scheme needs two or more"),
        ("timm:test_convnext", "which does not take images of 8×8: "),
        ("timm:test_vit", "which does not take images of 8×8: "),
        ("torchvision:vit_b_16", "which does not take images of 8×8: "),
    ],
)
def test_a_backbone_that_does_not_suit_is_refused_before_the_search(name: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip(name.partition(":")[0])
    config = SearchConfig(backbone=name, run=str(tmp_path / "run"))
    with pytest.raises(OdenasError, match=message) as caught:
        driver.search(config)
    assert str(caught.value).startswith(f"`backbone` is {name!r}, ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_space_that_does_not_suit_is_refused_before_the_search(tmp_path: Path) -> None:
    config = SearchConfig(backbone=RESNET, run=str(tmp_path / "run"), space={"family": ["runge-kutta"]})
    with pytest.raises(OdenasError, match=r'it needs tying = \["stages"\]$'):
        driver.search(config)
    assert not (tmp_path / "run").exists()


def test_the_run_folder_names_the_librarys_version(tmp_path: Path) -> None:
    run = driver.open_run(SearchConfig(backbone=RESNET, run=str(tmp_path / "run")))
    assert set(run.versions) - set(driver.versions()) == {"torchvision"}
    with pytest.raises(OdenasError, match="there `backbone` is 'torchvision:resnet18', here 'torchvision:resnet34'"):
        driver.open_run(SearchConfig(backbone="torchvision:resnet34", run=str(tmp_path / "run")))


NEWER = ("backbone", "objectives", "constraints", "lag", "timeout", "retries", "storage", "loggers")


def test_a_folder_of_before_there_were_backbones_goes_on(tmp_path: Path) -> None:
    config = SearchConfig(run=str(tmp_path / "run"))
    old = {name: value for name, value in config.resolved().items() if name not in NEWER}
    Run.create(config.folder, old, {})
    assert driver.open_run(config).config == old
    with pytest.raises(OdenasError, match="there `backbone` is 'residual'"):
        driver.open_run(SearchConfig(run=str(tmp_path / "run"), backbone=RESNET))


# Trials.


def task(path: Path, value: Scheme = LM, **changes: Any) -> dict[str, Any]:
    return {
        "config": CONFIG.resolved(),
        "params": 11_181_642,
        "scheme": value.to_dict(),
        "seed": 5,
        "checkpoint": [str(path), "00000"],
        **changes,
    }


def reports(given: dict[str, Any], stop_after: int | None = None) -> list[dict[str, Any]]:
    """Return what a trial reports; it is cut off, as by a kill, in its `stop_after`-th report."""
    told: list[dict[str, Any]] = []

    def report(one: dict[str, Any]) -> None:
        told.append(json.loads(json.dumps(one, allow_nan=False)))
        if len(told) == stop_after:
            raise KeyboardInterrupt

    if stop_after:
        with pytest.raises(KeyboardInterrupt):
            train_trial(given, report)
    else:
        train_trial(given, report)
    return told


def test_a_trial_reports_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = reports(task(tmp_path / "a"))
    assert [one["epoch"] for one in whole] == [0, 1, 2]
    for one in whole[1:]:
        assert "failure" not in one
        assert (one["fields"]["widths"], one["fields"]["params"]) == ("64-128-256-512", 11_181_642 + 4)
        assert {(row["stage"], row["block"], row["symbol"]) for row in one["coefficients"]} == {
            (stage, 1, "V") for stage in range(4)
        }
    assert whole[1]["coefficients"] != whole[2]["coefficients"]
    first = reports(task(tmp_path / "b"), stop_after=2)
    second = reports(task(tmp_path / "b"))
    assert second[0]["rows"] == first[1]["rows"]
    errors = [[row["train_loss"] for one in told for row in one["rows"]] for told in (whole, second)]
    assert errors[0] == errors[1]
    ends = [read_checkpoint(tmp_path / name / "00000.safetensors") for name in "ab"]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(torch.equal(ends[0][0][name], ends[1][0][name]) for name in ends[0][0])
    names = {name.removeprefix("network.") for name in ends[0][0] if name.startswith("network.")}
    with torch.device("meta"):
        assert names == set(given_network(RESNET, LM).state_dict())


def test_a_scheme_and_its_twin_start_from_the_same_weights(tmp_path: Path) -> None:
    networks = [make_network(CONFIG, task(tmp_path), value) for value in (LM, LM.twin())]
    first, twin = (dict(network.named_parameters()) for network in networks)
    assert all(torch.equal(first[name], tensor) for name, tensor in twin.items())
    assert parameters(networks[1]) == 11_181_642


def test_retraining_reports_the_test_error(tmp_path: Path) -> None:
    config = {**CONFIG.resolved(), "epochs": 1}
    result = retrain(task(tmp_path, scheme("ab2"), config=config))
    assert (result["status"], result["params"]) == ("COMPLETE", 11_181_642)
    assert 0 <= result["test_error"] <= 100


def test_multiply_accumulates_are_those_that_torchvision_publishes() -> None:
    from torchvision.models import ResNet18_Weights

    network = given_network(RESNET, LM, classes=1000, size=224)
    published = ResNet18_Weights.IMAGENET1K_V1.meta
    assert macs(network, 224) / 1e9 == pytest.approx(published["_ops"], abs=1e-3)
    assert parameters(network) - 4 == published["num_params"]


# The end of a search.


def test_an_export_says_what_it_would_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = driver.open_run(SearchConfig(backbone=RESNET, run=str(tmp_path / "run")))
    with pytest.raises(OdenasError) as caught:
        exporting.export_trial(run.path, None, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith(f"`RUN` is {run.path}, whose networks are {RESNET}: an export would need")
    assert "torchvision.models.resnet" in message
    assert str(run.path / "checkpoints") in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()
    terminal.show_next(run)
    out = capsys.readouterr().out
    assert " export " not in out
    assert f"{run.path / 'checkpoints'}" in out
    terminal.show_next(driver.open_run(SearchConfig(run=str(tmp_path / "other"))))
    assert " export " in capsys.readouterr().out


SMALL = f"""
backbone = "{RESNET}"
trials = 2
epochs = 1
train_size = 48
enqueue = ["euler", "lm"]
[recipe]
learning_rate = 0.02
[confirm]
top = 1
seeds = 1
"""


@pytest.mark.slow
def test_a_whole_search(tmp_path: Path) -> None:
    def odenas(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from odenas.search.app import main; main()", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)

    (tmp_path / "small.toml").write_text(SMALL)
    done = odenas("search", "small.toml", "--run", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("odenas · digits · 11181642 parameters · ")
    assert "Retrained over 1 seed:" in done.stdout
    assert " export " not in done.stdout
    run = load(tmp_path / "run")
    ended = run.trials["finished"].tolist()
    assert run.trials["status"].tolist() == ["COMPLETE"] * 2
    assert run.trials["params"].tolist() == [11_181_642, 11_181_642 + 4]
    assert run.trials["depth"].isna().all()
    assert set(run.coefficients["number"]) == {1}
    assert set(run.confirmations["role"]) == {"candidate", "twin"}
    assert (run.confirmations["status"] == "COMPLETE").all()

    more = odenas("search", "small.toml", "--run", "run", "--trials", "3")
    assert (more.returncode, more.stderr) == (0, "")
    again = load(tmp_path / "run").trials
    assert len(again) == 3
    assert again["finished"].tolist()[:2] == ended

    assert odenas("results", "run").returncode == 0
    refused = odenas("export", "run", "--out", "net")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("odenas: `RUN` is run, whose networks are torchvision:resnet18")
    assert len(refused.stderr.splitlines()) == 1
