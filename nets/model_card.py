"""What an exported network says of itself: the docstring of its source, and its README."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from odenas.nets.blocks import BLOCKS

Config = Mapping[str, Any]

# By the output of a network: what the snippet prints, and what it is.
OUTPUTS: dict[str, tuple[str, Callable[[Config], str]]] = {
    "logits": (
        "network(normalise(images)).argmax(1)",
        lambda architecture: f"logits of {architecture['classes']} classes",
    ),
    "images": ("network(normalise(images)).shape", lambda architecture: "images, normalised as the input is"),
}


def docstring(config: Config) -> str:
    """Return the docstring of net.py."""
    scheme = config["scheme"]
    return f"""A residual network that steps by the scheme {scheme["description"]} (order {scheme["order"]}).

Written by odenas; it needs torch and safetensors. `load()` returns the trained network, `normalise(images)` prepares
uint8 images for it. README.md has an example.
"""


def model_card(config: Config) -> str:
    """Return README.md."""
    architecture, preprocessing, scheme = config["architecture"], config["preprocessing"], config["scheme"]
    printed, output = OUTPUTS[config["output"]]
    size, stable = preprocessing["size"], "zero-stable" if scheme["zero_stable"] else "not zero-stable"
    rows = {
        "scheme": f"{scheme['description']}: order {scheme['order']}, {stable}",
        **shape(architecture),
        "parameters": config["parameters"],
        "input": f"uint8 images of {architecture['channels']} channel(s), {size} × {size}",
        "output": output(architecture),
        "largest relative difference to the trained network's output": f"{config['parity']['float32']:.1e} in float32, "
        f"{config['parity']['float64']:.1e} in float64",
    }
    rows |= {name: value for name, value in config["provenance"].items() if name not in rows}
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# A residual network that steps by {scheme["description"]}

`net.py` (plain PyTorch), `config.json` and `model.safetensors` need torch and safetensors, nothing else.
In this folder:

```python
import torch
from net import load, normalise

network = load()
images = torch.randint(0, 256, (4, {architecture["channels"]}, {size}, {size}), dtype=torch.uint8)  # put yours here
with torch.no_grad():
    print({printed})
```

| | |
|---|---|
{table}

The scheme's coefficients, learned ones as training left them, are listed step by step in `config.json`.
"""


def shape(architecture: Config) -> dict[str, str]:
    """Return the rows that say how deep and wide the network is, and of what blocks."""
    widths = f"widths {architecture['widths']}"
    if architecture.get("block") not in BLOCKS:
        return {"shape": widths}
    blocks = [len(row) for row in architecture["branches"]]
    layers = BLOCKS[architecture["block"]].layers * sum(blocks) + 2
    each = str(blocks[0]) if len(set(blocks)) == 1 else ", ".join(map(str, blocks))
    return {
        "layers": f"{layers}: {len(blocks)} stages of {each} blocks, {widths}",
        "blocks": f"{architecture['block']}, {architecture['activation']}",
    }
