"""Make a FractalNet."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import nn

from odenas.nets.fractal import FractalNetwork
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.request import Request
from odenas.nets.widths import widths_within
from odenas.space.catalogue import scheme as named_scheme
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

BLOCKS = 5
"""Of the networks of the paper, for images of 32×32."""


def made_fractal(asked: Request) -> SchemeNetwork:
    """Return the FractalNet of the scheme "fractal": its columns, with drop-path at the rate of stochastic depth.

    Widths are w, 2w, 4w, 8w, 8w with w the width that is asked for, as in the paper, where `width` is no list; with
    `params` they are nearly so.

    Raises:
        OdenasError: the scheme is another or has blocks, tying or start of its own; it has one column; the depth is not
            that of the blocks and columns; the noise is another; no width meets the budget; or a stem or `reversible`
            is asked for.
    """
    scheme, columns = asked.scheme, columns_of(asked.scheme)
    noise = scheme.stochasticity
    if noise.variant not in ("none", "depth"):
        raise OdenasError(
            f"`stochasticity` is {noise.variant!r}, but a fractal network drops paths: use 'depth' or 'none'"
        )
    plain = named_scheme("fractal", columns=columns)
    needed = {
        "reversible": (asked.reversible, False),
        "stem": (asked.stem, "plain"),
        "stem_width": (asked.stem_width, None),
        **{name: (getattr(scheme, name), getattr(plain, name)) for name in ("blocks", "tying", "start", "transition")},
    }
    for name, (given, value) in needed.items():
        if given != value:
            raise OdenasError(f"`{name}` is {given!r}, but a fractal network has layers of its own and needs {value!r}")
    if noise.rate and noise.growth != "constant":
        raise OdenasError(
            f"`growth` is {noise.growth!r}, but a fractal network drops at one rate throughout: 'constant'"
        )
    blocks = BLOCKS if isinstance(asked.width, int) else len(asked.width)
    layers = blocks * 2 ** (columns - 1)
    if asked.depth not in (None, layers):
        raise OdenasError(
            f"`depth` is {asked.depth}, but {blocks} blocks of {columns} columns are {layers} layers deep; leave it out"
        )
    widths = asked.width if isinstance(asked.width, tuple) else _of_first(asked.width)
    if asked.params is not None and blocks != BLOCKS:
        raise OdenasError(
            f"`width` has {blocks} numbers, but with `params` a fractal network has {BLOCKS} blocks: leave `width` out"
        )
    if asked.params is not None:
        widths = _within(asked.params, columns, asked.classes, asked.channels)
    network = FractalNetwork(columns, widths, asked.classes, asked.channels, drop_path=noise.rate)
    return network


def columns_of(scheme: Scheme) -> int:
    """Return the number of columns of the scheme "fractal".

    Raises:
        OdenasError: it is another scheme, or one column, which is forward Euler.
    """
    stages = scheme.tableau.stages if isinstance(scheme.tableau, Tableau) else 0
    columns = int(math.log2(stages + 1))
    if not 2 <= columns <= 5 or scheme.tableau != named_scheme("fractal", columns=columns).tableau:
        raise OdenasError(
            "`tableau` is not that of the scheme 'fractal' with 2 columns or more, by which a fractal network expands; "
            "the nearest is scheme('fractal', columns=2)"
        )
    return columns


def _of_first(width: int) -> tuple[int, ...]:
    return tuple(width * 2 ** min(i, BLOCKS - 2) for i in range(BLOCKS))


@lru_cache(maxsize=256)
def _within(params: int, columns: int, classes: int, channels: int) -> tuple[int, ...]:
    """Return the widths w, 2w, … with which the network comes nearest to the budget."""

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            network: nn.Module = FractalNetwork(columns, (*widths, widths[-1]), classes, channels)
        return parameters(network)

    widths = widths_within(params, BLOCKS - 1, count)
    return (*widths, widths[-1])
