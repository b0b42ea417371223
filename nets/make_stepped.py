"""Make the networks whose stages step by a tableau, a partitioned or an implicit method."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from odenas.nets.block_options import block_options
from odenas.nets.blocks import BLOCKS
from odenas.nets.coefficients import LearnedWeights
from odenas.nets.layout import blocks_of
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.partitioned import enters_by_block
from odenas.nets.request import Request
from odenas.nets.residual import ResidualNetwork
from odenas.nets.stepping import STEPPED, Steps, check_reversible, constant
from odenas.nets.widths import widths_within
from odenas.space.errors import OdenasError

Networks = Mapping[type, type[ResidualNetwork]]


def made_stepped(networks: Networks, stages: int, growth: int, asked: Request) -> SchemeNetwork:
    """Return the network of stages that step by a scheme.

    Args:
        networks: its class by the kind of method.
        stages: how many there are where nothing else says it.
        growth: of the widths from stage to stage.
        asked: the arguments of `build`.

    Raises:
        OdenasError: as `build` does.
    """
    scheme, method = asked.scheme, type(asked.scheme.tableau)
    if method not in networks:
        known = ", ".join(sorted(kind.__name__ for kind in networks))
        raise OdenasError(f"`tableau` is a {method.__name__}, but a {asked.backbone} network steps by one of {known}")
    check_reversible(scheme, asked.reversible)
    if asked.stem == "imagenet" and networks[method].output == "images":
        raise OdenasError(
            "`stem` is 'imagenet', which makes images smaller, but a dense network keeps them: use 'plain'"
        )
    blocks = blocks_of(scheme, asked.depth, stages)
    stepped = STEPPED[method](scheme, blocks, asked.reversible)
    rates = iter(scheme.stochasticity.rates(sum(blocks)))
    architecture: dict[str, Any] = {
        "branches": stepped.branches,
        "rates": [[next(rates) for _ in of_stage] for of_stage in stepped.branches],
        "start": scheme.start,
        "classes": asked.classes,
        "channels": asked.channels,
        "block": scheme.blocks.kind,
        "activation": scheme.blocks.activation,
        "tying": scheme.tying,
        "noise": scheme.stochasticity.variant,
        "transition": scheme.transition,
        "shortcut": scheme.blocks.shortcut,
        "stem": asked.stem,
        "stem_width": asked.stem_width,
        "options": block_options(scheme),
        **stepped.options,
    }
    if isinstance(asked.width, tuple) and len(asked.width) != len(blocks):
        raise OdenasError(
            f"`width` has {len(asked.width)} numbers, but needs one, or {len(blocks)}: one for each stage"
        )
    if asked.params is not None and asked.stem == "identity":
        raise OdenasError(
            "`params` is given, but with the stem 'identity' the width is that of the images: leave it out"
        )
    if asked.params is not None:
        widths = _within(asked.params, networks[method], growth, stepped, architecture)
    else:
        widths = _given_widths(asked.width, len(blocks), growth, stepped.parts)
    if asked.stem == "identity" and widths[0] != asked.channels:
        raise OdenasError(
            f"`width` is {widths[0]}, but the stem 'identity' gives the {asked.channels} channel(s) of the images"
        )
    network = networks[method](widths, weights=constant(scheme, stepped.steps), **architecture)
    for module in [*network.stem.modules(), *network.stages.modules()]:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if scheme.coefficients.learning == "learned":
        # Drawn last, so that a scheme and its twin start from the same convolutions.
        network.weights = LearnedWeights(scheme, stepped.steps, widths)
    return network


def _within(
    params: int, network: type[ResidualNetwork], growth: int, stepped: Steps, architecture: dict[str, Any]
) -> tuple[int, ...]:
    """Return the widths with which the network comes nearest to the budget."""
    counted = ("branches", "rates", "method", "reversible")
    shown = json.dumps({name: value for name, value in architecture.items() if name not in counted}, sort_keys=True)
    method = json.dumps({name: architecture[name] for name in ("method",) if name in architecture})
    made: Callable[..., ResidualNetwork] = network
    return _cached_widths(params, made, growth, tuple(stepped.own), stepped.parts, shown, method)


@lru_cache(maxsize=1024)
def _cached_widths(
    params: int,
    network: Callable[..., ResidualNetwork],
    growth: int,
    own: tuple[int, ...],
    parts: int,
    shown: str,
    method: str,
) -> tuple[int, ...]:
    """Return `_within`. Counted are a network of bare transitions, and one branch for each of a stage's own."""
    architecture: dict[str, Any] = {**json.loads(shown), **json.loads(method)}
    block, stages = BLOCKS[architecture["block"]], len(own)
    entered = parts == 1 or enters_by_block(architecture["block"], architecture["shortcut"])
    bare: dict[str, Any] = {"branches": [[1] * entered] * stages, "rates": [[0.0] * entered] * stages}

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            empty = network(widths, weights=nn.Identity(), **bare, **architecture)
            of_one = [block(width // parts, width // parts, **architecture["options"]) for width in widths]
        return parameters(empty) + sum(n * parameters(one) for n, one in zip(own, of_one, strict=True))

    return widths_within(params, stages, count, growth, parts)


def _given_widths(width: int | Sequence[int], stages: int, growth: int, parts: int) -> tuple[int, ...]:
    """Return the channels of each stage."""
    widths = tuple(width * growth**i for i in range(stages)) if isinstance(width, int) else tuple(width)
    if any(each % parts for each in widths):
        near: object = width + 1 if isinstance(width, int) else [each + each % 2 for each in width]
        shown = width if isinstance(width, int) else list(width)
        raise OdenasError(
            f"`width` is {shown}, but a partitioned method splits the channels into halves and needs even numbers; the "
            f"nearest is {near}"
        )
    return widths
