"""Write a trained network as a folder that needs nothing but torch and safetensors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from odenas.nets import standalone
from odenas.nets.coefficients import LearnedWeights, coefficients
from odenas.nets.model_card import docstring, model_card
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.source import modules_of, standalone_source
from odenas.nets.weights import TableWeights
from odenas.space.description import describe
from odenas.space.errors import OdenasError

TOLERANCES = {"float32": 1e-6, "float64": 1e-12}
"""Largest difference of the exported network's logits, relative to the largest logit."""

# Runs in a fresh process that cannot import odenas.
_CHECK = """
import sys
sys.modules["odenas"] = None
sys.path.insert(0, ".")
import torch
from safetensors.torch import load_file, save_file
from net import load
torch.set_num_threads(int(sys.argv[2]))
images = load_file(sys.argv[1])["images"]
with torch.no_grad():
    network = load()
    logits = {"float32": network(images), "float64": network.double()(images.double())}
save_file(logits, sys.argv[1])
"""


def export(
    network: SchemeNetwork,
    folder: str | Path,
    *,
    size: int = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Write net.py, config.json, model.safetensors and README.md; return the largest relative differences of logits.

    `net.py` is the very source that the network runs on. Before the folder appears, a fresh process that cannot import
    odenas loads it and must give the logits of `network` in evaluation mode, in float32 and float64. Learned
    coefficients become constants. The network itself is not changed.

    Args:
        network: as `build` made it, trained.
        folder: must not exist, or be empty.
        size: side of the images, for the check and the snippet in the README.
        mean, std: of the pixels / 255, per channel; 0 and 1 if not given.
        provenance: anything JSON-ready that says where the network comes from.

    Raises:
        OdenasError: the folder holds something or cannot be written, or the exported network differs.
    """
    _check(network, provenance)
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OdenasError(f"`--out` is {folder}, which exists already; an export needs a new or empty folder")
    scheme, channels = network.scheme, network.architecture["channels"]
    shift, scale = _of_channels("mean", mean, channels, 0.0), _of_channels("std", std, channels, 1.0)
    if min(scale) <= 0:
        raise OdenasError(f"`std` is {scale}, but deviations must be above 0")
    constant: TableWeights | None = getattr(network, "weights", None)
    if isinstance(constant, LearnedWeights):
        constant = constant.frozen()
    config = {
        "architecture": network.architecture,
        "output": network.output,
        "weights": constant and {"table": constant.table, "steps": constant.steps, "channels": constant.channels},
        "preprocessing": {
            "size": size,
            "mean": shift,
            "std": scale,
        },
        "scheme": {
            "description": describe(scheme),
            "order": scheme.order,
            "zero_stable": scheme.zero_stable,
            "definition": scheme.to_dict(),
            "steps": _steps(network),
        },
        "parameters": parameters(network),
        "provenance": dict(provenance or {}),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OdenasError(f"`--out` is {folder}, which cannot be made: {error.strerror}") from None
    try:
        (building / "net.py").write_text(_source(network, docstring(config)), encoding="utf-8")
        save_file(_state(network, constant), building / "model.safetensors")
        _write(building / "config.json", config)
        config["parity"] = differences = _differences(network, building, size)
        _write(building / "config.json", config)
        (building / "README.md").write_text(model_card(config), encoding="utf-8")
        building.chmod(0o755)
        (building / "model.safetensors").chmod(0o644)
        os.replace(building, folder)
    except OSError as error:
        raise OdenasError(f"`--out` is {folder}, which cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return differences


def _check(network: Any, provenance: Mapping[str, Any] | None) -> None:
    """Check that there is something to export, in the type that its differences are stated for."""
    if not isinstance(network, SchemeNetwork) or network.scheme is None:
        raise OdenasError(f"`network` is a {type(network).__name__}, but must be a network that `build` made")
    types = {parameter.dtype for parameter in network.parameters()} - {torch.float32}
    if types:
        raise OdenasError(f"`network` has parameters of the type {types.pop()}, but needs float32: call .float() first")
    try:
        json.dumps(dict(provenance or {}))
    except (TypeError, ValueError) as error:
        raise OdenasError(f"`provenance` cannot be written as JSON: {error}") from None


def _of_channels(name: str, values: Sequence[float] | None, channels: int, usual: float) -> list[float]:
    """Return one number for each channel."""
    numbers = [usual] * channels if values is None else [float(value) for value in values]
    if len(numbers) != channels:
        raise OdenasError(f"`{name}` has {len(numbers)} numbers, but needs {channels}: one for each channel")
    return numbers


def _source(network: SchemeNetwork, about: str) -> str:
    """Return net.py: the modules of the network's class, and `load` of it."""
    made = type(network)
    modules = modules_of(made.__module__, standalone.__name__)
    return standalone_source(modules, about).replace("NETWORK: Any = SchemeNetwork", f"NETWORK = {made.__name__}")


def _steps(network: SchemeNetwork) -> list[dict[str, Any]]:
    """Return the weights of every step, to be read: a number for each, or a list over the channels."""
    steps: dict[tuple[int, int], dict[str, Any]] = {}
    for row in coefficients(network):
        step = steps.setdefault((row["stage"], row["block"]), {"stage": row["stage"], "block": row["block"]})
        name = row["symbol"] + str(row["index"])
        step[name] = row["value"] if row["channel"] is None else [*step.get(name, []), row["value"]]
    return list(steps.values())


def _state(network: SchemeNetwork, constant: TableWeights | None) -> dict[str, Tensor]:
    state: dict[str, Tensor] = network.state_dict()
    if constant is not None:
        state = {name: value for name, value in state.items() if not name.startswith("weights.")}
        state |= {f"weights.{name}": value for name, value in constant.state_dict().items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _differences(network: SchemeNetwork, folder: Path, size: int) -> dict[str, float]:
    """Return the largest difference of logits for each type, relative to the largest logit; refuse too large a one."""
    shape = (8, network.architecture["channels"], size, size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tensors.safetensors"
        save_file({"images": images}, path)
        command = [sys.executable, "-I", "-c", _CHECK, str(path), str(torch.get_num_threads())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OdenasError(f"the exported network does not run: {done.stderr.strip().splitlines()[-1]}")
        exported = load_file(path)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    differences = {}
    for name, logits in _logits(network, images).items():
        differences[name] = float((exported[name] - logits).abs().max() / logits.abs().max().clamp_min(1e-30))
        if not differences[name] <= TOLERANCES[name]:
            raise OdenasError(
                f"the exported network's logits differ by {differences[name]:.1e} in {name}, "
                f"but at most {TOLERANCES[name]:.0e} is allowed"
            )
    return differences


def _logits(network: SchemeNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return the logits of a copy of the network on the CPU, in evaluation mode."""
    twin = deepcopy(network).cpu().eval()
    with torch.no_grad():
        return {"float32": twin(images), "float64": twin.double()(images.double())}


def _write(path: Path, config: Mapping[str, Any]) -> None:
    text = json.dumps(config, indent=1, ensure_ascii=False)
    # Lists of plain values are read more easily on one line. A line break is never inside a string: there it is "\\n".
    text = re.sub(r"\[\n *([^][{}]*?)\n *\]", lambda row: "[" + re.sub(r"\n *", " ", row[1]) + "]", text)
    path.write_text(text + "\n", encoding="utf-8")
