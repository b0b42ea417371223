"""Load an exported network from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from odenas.nets.network import SchemeNetwork
from odenas.nets.weights import TableWeights

NETWORK: Any = SchemeNetwork  # an export puts its own class here


def load(folder: str | Path = Path(__file__).parent) -> SchemeNetwork:
    """Return the trained network of `folder` (config.json, model.safetensors), in evaluation mode."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    steps = {"weights": TableWeights(**config["weights"])} if config["weights"] else {}
    network: SchemeNetwork = NETWORK(**steps, **config["architecture"])
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def normalise(images: Tensor, folder: str | Path = Path(__file__).parent) -> Tensor:
    """Return uint8 images (batch, channels, height, width) as the network wants them: float32, mean 0, deviation 1."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    mean, std = (torch.tensor(config["preprocessing"][name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std
