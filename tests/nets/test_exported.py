"""The exported folder: the same network without odenas, or no folder at all."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from odenas.nets import SchemeNetwork, build, coefficients, export, parameters
from odenas.space import Blocks, Coefficients, OdenasError, Scheme, Stochasticity, Tableau, scheme
from odenas.space.feasible import slopes_of_order, states_from_reflections

EXPORT: Any = importlib.import_module("odenas.nets.export")  # the name in the package is the function
STATES = states_from_reflections([Fraction(1, 5), Fraction(-1, 4)])
STABLE = Tableau.multistep(STATES, slopes_of_order(STATES, [Fraction(1, 7)], 2))
RK4 = Tableau.runge_kutta(
    ((0, 0, 0, 0), ("1/2", 0, 0, 0), (0, "1/2", 0, 0), (0, 0, 1, 0)), ("1/6", "1/3", "1/3", "1/6")
)
SCHEMES = {
    "learned per step, stochastic": replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.3)),
    "learned per channel, three steps": Scheme(
        STABLE, Coefficients("learned", "channel", order=2, spread=0.1), "absorbed", "copy"
    ),
    "fixed, three steps": scheme("ab3"),
    "four stages, tied, projected": Scheme(
        RK4,
        tying="stages",
        transition="project",
        blocks=Blocks(activation="tanh"),
        stochasticity=Stochasticity("additive", 0.1),
    ),
    "scheduled, one f, projected, bottleneck": Scheme(
        Tableau.multistep(("2/3", "1/3"), ("4/3",)),
        Coefficients("scheduled", target=(Fraction(-9, 10),)),
        transition="project",
        tying="steps",
        blocks=Blocks("bottleneck", "gelu", (2, 1, 3)),
    ),
}
LAYERS = {"scheduled, one f, projected, bottleneck": "20: 3 stages of 2, 1, 3 blocks"}
CHANNELS = {"fixed, three steps": 1}
PROVENANCE = {
    "run": "[ first   try ] — ü",
    "trial": 3,
    "classes": ["a  b", "c"],
    "odd": ["[ 1   2 ]", "{ }", "\n  x", 'say "[\n 1 ]"'],
    "none": None,
    "nested": {"empty": [], "rows": [[1, 2], [3]]},
}


def trained(name: str) -> SchemeNetwork:
    """Return a network in training mode whose statistics and coefficients have moved."""
    torch.manual_seed(0)
    channels = CHANNELS.get(name, 3)
    network = build(SCHEMES[name], classes=6, channels=channels, width=3)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        network(torch.randn(8, channels, 9, 9)).square().mean().backward()
        optimiser.step()
    return network


class Exported:
    """A network, what it was before, and its exported folder."""

    def __init__(self, network: SchemeNetwork, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.before = deepcopy(network)
        self.without_gradient = [parameter.grad is None for parameter in network.parameters()]
        random = torch.get_rng_state()
        self.differences = export(
            network, folder, size=11, mean=[0.4] * self.channels, std=[0.2] * self.channels, provenance=PROVENANCE
        )
        self.drew = not torch.equal(torch.get_rng_state(), random)

    @property
    def channels(self) -> int:
        return int(self.network.architecture["channels"])

    @property
    def config(self) -> dict[str, Any]:
        def refuse(name: str) -> None:
            raise ValueError(f"{name} is not JSON")

        text = (self.folder / "config.json").read_text(encoding="utf-8")
        return dict(json.loads(text, parse_constant=refuse))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: Exported(trained(name), folder / "new" / str(i)) for i, name in enumerate(SCHEMES)}


every = pytest.mark.parametrize("name", SCHEMES)


@every
def test_the_fresh_process_gave_the_same_logits(exported: Mapping[str, Exported], name: str) -> None:
    differences = exported[name].differences
    assert differences.keys() == {"float32", "float64"}
    assert differences["float32"] <= 1e-6
    assert differences["float64"] <= 1e-12
    assert exported[name].config["parity"] == differences


@every
def test_the_folder_holds_four_files_and_nothing_lies_beside_it(exported: Mapping[str, Exported], name: str) -> None:
    folder = exported[name].folder
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors", "net.py"]
    assert sorted(os.listdir(folder.parent)) == sorted(entry.folder.name for entry in exported.values())
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o444 == 0o444  # others may read it


@every
def test_the_network_is_not_changed(exported: Mapping[str, Exported], name: str) -> None:
    """Not its mode, values, gradients or type, nor the random numbers that training would draw next."""
    network, before = exported[name].network, exported[name].before
    assert all(module.training for module in network.modules())
    assert network.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert [parameter.grad is None for parameter in network.parameters()] == exported[name].without_gradient
    assert not exported[name].drew


@every
def test_net_py_imports_the_standard_library_torch_and_safetensors_alone(
    exported: Mapping[str, Exported], name: str
) -> None:
    source = (exported[name].folder / "net.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    compile(tree, "net.py", "exec")
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module))
    roots = {module.split(".")[0] for module in imported}
    assert roots - set(sys.stdlib_module_names) == {"torch", "safetensors"}
    assert "pickle" not in roots
    assert not re.search(r"\bodenas\.|import odenas|type: ignore", source)
    assert ast.get_docstring(tree)


def test_net_py_is_clean(exported: Mapping[str, Exported]) -> None:
    """No name is imported or defined twice, none is missing or unused."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    paths = [str(entry.folder / "net.py") for entry in exported.values()]
    command = [str(ruff), "check", "--isolated", "--no-cache", "--select=E,F,W,B,UP,SIM", "--ignore=E501", *paths]
    done = subprocess.run([*command, "--target-version=py311"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@every
def test_config_json_says_what_the_network_is(exported: Mapping[str, Exported], name: str) -> None:
    config, network = exported[name].config, exported[name].network
    assert config["provenance"] == PROVENANCE
    assert config["parameters"] == parameters(network)
    assert Scheme.from_dict(config["scheme"]["definition"]) == SCHEMES[name]
    assert config["scheme"]["order"] == SCHEMES[name].order
    assert config["preprocessing"] == {
        "size": 11,
        "mean": [0.4] * exported[name].channels,
        "std": [0.2] * exported[name].channels,
    }
    listed = {
        (step["stage"], step["block"], key): value
        for step in config["scheme"]["steps"]
        for key, value in step.items()
        if key not in ("stage", "block")
    }
    expected: dict[tuple[int, int, str], Any] = {}
    for row in coefficients(network):
        key = (row["stage"], row["block"], f"{row['symbol']}{row['index']}")
        value = row["value"]
        expected[key] = value if row["channel"] is None else [*expected.get(key, []), value]
    assert listed == expected


@every
def test_the_weights_are_those_of_the_network(exported: Mapping[str, Exported], name: str) -> None:
    saved = load_file(exported[name].folder / "model.safetensors")
    state = exported[name].network.state_dict()
    for key, value in state.items():
        if not key.startswith("weights."):
            assert torch.equal(saved[key], value)
    extra = set(saved) - set(state)
    # Learned coefficients have become constants, in float64; fixed ones are in config.json alone.
    assert all(key.startswith("weights.") and saved[key].dtype == torch.float64 for key in extra)
    assert bool(extra) == name.startswith("learned")


@every
def test_the_loaded_network_shares_what_the_trained_one_shares(
    exported: Mapping[str, Exported], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many parameters, each saved once, and the same noise where it is trained on."""
    entry = exported[name]
    monkeypatch.syspath_prepend(entry.folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    network = importlib.import_module("net").load()
    monkeypatch.delitem(sys.modules, "net")
    learned = sum(p.numel() for p in entry.network.weights.parameters())
    assert parameters(network) == parameters(entry.network) - learned
    assert network.architecture == entry.network.architecture
    images = torch.randn(4, entry.channels, 11, 11)
    logits = []
    for either in (network.train(), deepcopy(entry.network)):
        torch.manual_seed(3)
        logits.append(either(images))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_the_snippet_of_the_readme_runs_as_pasted(exported: Mapping[str, Exported]) -> None:
    """In plain Python with the folder as the current one, and with the result that the network itself gives."""
    entry = exported["learned per channel, three steps"]
    (snippet,) = re.findall(r"```python\n(.*?)```", (entry.folder / "README.md").read_text(encoding="utf-8"), re.S)
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", snippet + "print(images.flatten().tolist())"]
    done = subprocess.run(command, cwd=entry.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed, images = done.stdout.splitlines()
    with torch.no_grad():
        pixels = torch.tensor(json.loads(images)).view(4, 3, 11, 11)
        logits = deepcopy(entry.network).eval()((pixels / 255 - 0.4) / 0.2)
    assert printed == str(logits.argmax(1))


@every
def test_the_readme_says_what_the_network_is(exported: Mapping[str, Exported], name: str) -> None:
    text = (exported[name].folder / "README.md").read_text(encoding="utf-8")
    for fact in (
        f"| layers | {LAYERS.get(name, '20: 3 stages of 3 blocks')}, widths ",
        f"| blocks | {SCHEMES[name].blocks.kind}, {SCHEMES[name].blocks.activation} |",
        str(parameters(exported[name].network)),
        "6 classes",
        "11 × 11",
    ):
        assert fact in text
    assert f"{exported[name].channels} channel" in text


# What goes wrong leaves nothing behind.


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["a file in it", "a hidden file in it", "a file"])
def test_what_exists_is_refused_and_stays_untouched(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / (".mine" if "hidden" in kind else "mine")).write_text("mine")
    before = listing(tmp_path)
    with pytest.raises(OdenasError, match=r"`--out` is .*out, which exists already"):
        export(build(scheme("euler"), 8, width=1), out)
    assert listing(tmp_path) == before
    assert all(path.read_text() == "mine" for path in tmp_path.rglob("*") if path.is_file())


def test_a_parent_that_is_a_file_is_answered_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OdenasError, match=r"`--out` is .*, which cannot be made") as caught:
        export(build(scheme("euler"), 8, width=1), tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == ["file"]


def test_tampered_weights_are_found_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares what lies on disk, in another process, with the network in memory."""
    honest = EXPORT._state

    def tampered(*arguments: Any) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = honest(*arguments)
        state["head.bias"][0] += 1e-3
        return state

    monkeypatch.setattr(EXPORT, "_state", tampered)
    with pytest.raises(OdenasError, match=r"logits differ by .* in float32, but at most 1e-06 is allowed"):
        export(build(scheme("euler"), 8, width=1), tmp_path / "out", size=8)
    assert listing(tmp_path) == []


def test_a_network_file_that_does_not_run_is_found_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import of this package would be the likeliest mistake: the process of the check has none."""
    honest = EXPORT.standalone_source

    def careless(*arguments: Any) -> str:
        return f"{honest(*arguments)}\nimport odenas.space\n"

    monkeypatch.setattr(EXPORT, "standalone_source", careless)
    (tmp_path / "out").mkdir()
    with pytest.raises(OdenasError, match="the exported network does not run: ModuleNotFoundError") as caught:
        export(build(scheme("euler"), 8, width=1), tmp_path / "out", size=8)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("precise", ["float32", "float64"])
def test_each_type_has_its_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precise: str) -> None:
    """A process that answers with logits off by a little more than allowed, or with NaN."""
    network = build(scheme("euler"), 8, width=1)

    for factor, passes in ((0.5, True), (2.0, False), (float("nan"), False)):

        def answer(command: list[str], factor: float = factor, **options: Any) -> SimpleNamespace:
            path = command[4]
            logits = EXPORT._logits(network, load_file(path)["images"])
            logits[precise] = logits[precise] + factor * EXPORT.TOLERANCES[precise] * logits[
                precise
            ].abs().max() * torch.nn.functional.one_hot(torch.tensor(0), 10)
            EXPORT.save_file(logits, path)
            return SimpleNamespace(returncode=0, stderr="")

        monkeypatch.setattr(EXPORT.subprocess, "run", answer)
        out = tmp_path / f"{factor}"
        if passes:
            export(network, out, size=8)
        else:
            with pytest.raises(OdenasError, match=f"in {precise}"):
                export(network, out, size=8)
            assert not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_provenance_that_json_cannot_hold_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OdenasError, match=r"^`provenance` cannot be written as JSON"):
        export(build(scheme("euler"), 8, width=1), tmp_path / "out", provenance={"path": object()})
    assert listing(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EXPORT.subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(build(scheme("euler"), 8, width=1), tmp_path / "out")
    assert listing(tmp_path) == []
