"""Load an exported network from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from odenas.nets.residual import ResidualNetwork
from odenas.nets.weights import TableWeights


def load(folder: str | Path = Path(__file__).parent) -> ResidualNetwork:
    """Return the trained network of `folder` (config.json, model.safetensors), in evaluation mode."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    network = ResidualNetwork(weights=TableWeights(**config["weights"]), **config["architecture"])
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def normalise(images: Tensor, folder: str | Path = Path(__file__).parent) -> Tensor:
    """Return uint8 images (batch, channels, height, width) as the network wants them: float32, mean 0, deviation 1."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    mean, std = (torch.tensor(config["preprocessing"][name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std
