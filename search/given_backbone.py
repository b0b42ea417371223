"""What a search over the schemes of a given backbone checks before it begins: the network, the images, the space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from odenas.nets import parameters
from odenas.nets.backbones import given_network
from odenas.nets.rewire import check_scheme, plain_branches
from odenas.nets.stepper import stepper_of
from odenas.search.config import SearchConfig
from odenas.search.data import dataset
from odenas.space import Blocks, OdenasError, Scheme, SearchSpace, scheme
from odenas.space.integrate import EULER

FITTING = "ResNet, ResNeXt, RegNet, ConvNeXt and vision transformers can be"


def given_parameters(config: SearchConfig) -> int:
    """Return the number of parameters of the given backbone, which all networks of the search have.

    Raises:
        OdenasError: the library or the name is unknown, the network has no blocks to rewire or does not take the images
            of the data, or the space can draw a scheme that it cannot step by.
    """
    data_set = dataset(config.data)
    shape = (data_set.channels, data_set.size)
    with torch.random.fork_rng(devices=[]):
        network = _made(config.backbone, data_set.classes, *shape)
        _check_images(network, config.backbone, *shape)
    check_space(config.space, config.backbone, max(map(len, stepper_of(network).architecture["branches"])))
    return parameters(network)


def check_space(space: SearchSpace, backbone: str, branches: int) -> None:
    """Check that a network whose longest stage has so many residual branches can step by all that a space draws.

    Raises:
        OdenasError: it cannot; the message has what the space needs.
    """
    if branches < 2:
        raise OdenasError(
            f"`backbone` is {backbone!r}, whose stages have one residual branch each; a scheme needs two or more"
        )
    needed = {
        name: values
        for name, values in {
            **_blocks_left(space),
            "transition": ["restart"] if "multistep" in space.family else list(space.transition),
            "tying": _tyings(space),
            "steps": _steps(space, branches),
            "stochasticity": [kind for kind in space.stochasticity if kind != "shake"] or ["none"],
        }.items()
        if values != list(getattr(space, name))
    }
    wanted = [f"{name} = {_shown(values)}" for name, values in needed.items()]
    tyings = _tyings(space)
    unfit = [name for name in _of_family(space) if not _fits(_known(name), tyings, branches)]
    wanted += [f"named without {_shown(unfit)}"] if unfit else []
    if wanted:
        raise OdenasError(f"`space` can draw schemes that {backbone} cannot step by; it needs {', '.join(wanted)}")


def _made(backbone: str, classes: int, channels: int, size: int) -> nn.Module:
    try:
        return given_network(backbone, scheme("euler"), classes, channels, size)
    except OdenasError as error:
        # Forward Euler suits whatever can be rewired.
        if "no block to rewire" not in str(error):
            raise
        raise OdenasError(f"`backbone` is {backbone!r}, which cannot be rewired: {error}; {FITTING}") from None
    except Exception as error:  # a library's own, such as of a size that it cannot have
        raise _refused(backbone, size, error) from None


def _check_images(network: nn.Module, backbone: str, channels: int, size: int) -> None:
    try:
        with torch.no_grad():
            network.train()(torch.zeros(2, channels, size, size))
    except Exception as error:  # whatever a library's network fails with
        raise _refused(backbone, size, error) from None


def _refused(backbone: str, size: int, error: Exception) -> OdenasError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return OdenasError(f"`backbone` is {backbone!r}, which does not take images of {size}×{size}: {reason}")


def _blocks_left(space: SearchSpace) -> dict[str, list[Any]]:
    """Return the fields that say what blocks are, at their defaults: a given network has its own."""
    usual = SearchSpace()
    names = ["block" if field.name == "kind" else field.name for field in fields(Blocks)]
    return {name: list(getattr(usual, name)) for name in names if hasattr(usual, name)}


def _tyings(space: SearchSpace) -> list[str]:
    """Return the tyings that a block's one branch allows: for several stages, that they share it."""
    named = map(_known, _of_family(space))
    several = [value for value in named if getattr(value.tableau, "stages", 1) > 1 and value.tying == "none"]
    if "runge-kutta" in space.family or several:
        return ["stages"]
    return [tying for tying in space.tying if tying != "steps"] or ["none"]


def _steps(space: SearchSpace, branches: int) -> list[int]:
    """Return the numbers of steps whose history the longest stage has room for; "copy" makes up its own."""
    if "multistep" not in space.family or "euler" not in space.start:
        return list(space.steps)
    return [steps for steps in space.steps if steps <= branches] or [2]


def _of_family(space: SearchSpace) -> Iterable[str]:
    return space.named if "named" in space.family else ()


def _fits(value: Scheme, tyings: Iterable[str], branches: int) -> bool:
    """Return whether the network can step by a named scheme, however it is tied; what ties itself stays so."""
    try:
        for tying in tyings if value.tying == "none" else [value.tying]:
            check_scheme(replace(value, tying=tying))
    except OdenasError:
        return False
    # Blocks of its own, of which it is made, are not the network's.
    return value.blocks == Blocks() and (value.tableau == EULER or plain_branches(value) < branches)


@cache
def _known(name: str) -> Scheme:
    return scheme(name)


def _shown(values: list[Any]) -> str:
    """Return a list as TOML has it."""
    return "[" + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + "]"
