"""Fractal networks: blocks of columns of layers, each column twice as deep as the one before.

This file, `fractal_block.py`, `drop_path.py`, `combine.py`, `activations.py` and `network.py` need nothing but torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.drop_path import joined, sampled_paths, used_paths
from odenas.nets.fractal_block import FractalBlock
from odenas.nets.network import SchemeNetwork

MOST_COLUMNS = 6


class FractalNetwork(SchemeNetwork):
    """A classifier of images: fractal blocks, each pooling at its end, mean over the image, linear layer.

    The deepest column has len(widths) · 2^(columns − 1) layers. After as many poolings as blocks an image of 32×32 is
    one pixel for the five blocks of the paper, and the mean does nothing. With columns 3, widths 64, 128, 256, 512, 512
    and 10 classes the network has 33 724 618 parameters. Weights begin as Glorot and Bengio's (2010), uniform.

    Drop-path draws anew for each mini-batch, for all images alike: with probability `global_share` all joins keep
    one column, the same in the whole network, else each join drops each of its inputs with probability `drop_path`, but
    never all. A join is the mean of what is kept, so that nothing needs to be rescaled at test. What a mini-batch does
    not use is not evaluated and gets no gradient; in a compiled graph it is, its gradient is 0, and its running
    statistics do not change.

    Args:
        columns: from 2 to 6.
        widths: channels of each block.
        classes, channels: numbers of classes and of image channels.
        dropout: rate of the layers of each block; from 0 evenly to 0.4, as in the paper, if not given.
        drop_path: probability that a join drops an input; 0 for no drop-path at all, of either kind.
        global_share: share of the mini-batches that keep one column.
        activation: a row of ACTIVATIONS.

    Raises:
        ValueError: a field is out of range; one line names it, what was given and the nearest that works.
    """

    def __init__(
        self,
        columns: int,
        widths: Sequence[int],
        classes: int,
        channels: int,
        dropout: Sequence[float] | None = None,
        drop_path: float = 0.15,
        global_share: float = 0.5,
        activation: str = "relu",
    ) -> None:
        _check_whole("columns", columns, 2, MOST_COLUMNS)
        if not len(widths):
            raise ValueError(
                "`widths` is empty, but a fractal network needs one block or more; the nearest is one width"
            )
        for name, value in [*(("widths", width) for width in widths), ("classes", classes), ("channels", channels)]:
            _check_whole(name, value, 1)
        last = len(widths) - 1
        # Whole numbers first: 0.1, 0.2 and so on are then the numbers that are so written.
        dropout = [4 * i / (10 * max(1, last)) for i in range(last + 1)] if dropout is None else list(dropout)
        if len(dropout) != len(widths):
            raise ValueError(
                f"`dropout` has {len(dropout)} rates, but must have one for each block; the nearest is {len(widths)}"
            )
        for name, rate in [("drop_path", drop_path), *(("dropout", rate) for rate in dropout)]:
            _check_rate(name, rate, "less than 1", lambda rate: 0 <= rate < 1, 0.99)
        _check_rate("global_share", global_share, "at most 1", lambda rate: 0 <= rate <= 1, 1)
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation` is {activation!r}, but must be one of {', '.join(ACTIVATIONS)}")
        super().__init__(
            {
                "columns": columns,
                "widths": list(widths),
                "classes": classes,
                "channels": channels,
                "dropout": dropout,
                "drop_path": drop_path,
                "global_share": global_share,
                "activation": activation,
            }
        )
        self.size, self.drop_path, self.global_share = (len(widths), columns), drop_path, global_share
        self.blocks = nn.ModuleList(
            FractalBlock(columns, inputs, width, rate, activation)
            for inputs, width, rate in zip([channels, *widths], widths, dropout, strict=False)
        )
        self.head = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, paths: Tensor | None = None) -> Tensor:
        """Return logits (batch, classes) of normalised images (batch, channels, height, width).

        Args:
            images: of any size from 1×1.
            paths: what each join keeps, as in `drop_path.py`, in training or evaluation; if not given, drawn in
                training, everything in evaluation.
        """
        x = images
        if paths is None and self.training and self.drop_path:
            paths = sampled_paths(*self.size, self.drop_path, self.global_share)
        weights: list[list[list[float]]] | list[list[list[Tensor]]]
        used: list[list[list[bool]]] | list[list[list[Tensor]]]
        if paths is None:
            weights, used = _whole_fractal(*self.size)
        elif torch.compiler.is_compiling():
            # Which paths are used is not known when the graph is made. A join without inputs is 0, and read by none.
            shares = paths.double() / paths.sum(-1, keepdim=True).clamp_min(1)
            weights, used = _entries(shares), _entries(used_paths(paths))
        else:
            weights, used = (paths.double() / paths.sum(-1, keepdim=True)).tolist(), used_paths(paths).tolist()
        for block, *joins in zip(self.blocks, weights, used, strict=True):
            x = block(x, *joins)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    def column(self, index: int) -> nn.Sequential:
        """Return a plain network of one column, 2^index layers a block, with a copy of its weights.

        In evaluation its logits are those of this network where all joins keep this column alone.

        Raises:
            ValueError: there is no such column.
        """
        _check_whole("index", index, 0, self.size[1] - 1)
        layers: list[nn.Module] = []
        for block in cast("list[FractalBlock]", list(self.blocks)):
            layers += [*cast(nn.ModuleList, block.columns[index]), block.pool]
        return nn.Sequential(*deepcopy(layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), deepcopy(self.head)).train(
            self.training
        )

    def deepest(self) -> nn.Sequential:
        """Return the last column, as `column` does."""
        return self.column(self.size[1] - 1)


def _whole_fractal(blocks: int, columns: int) -> tuple[list[list[list[float]]], list[list[list[bool]]]]:
    """Return the weights of all joins without drop-path, and that all is used."""
    counts = [len(joined(row + 1, columns)) for row in range(2 ** (columns - 1))]
    return [[[1 / count] * columns for count in counts]] * blocks, [[[True] * columns for _ in counts]] * blocks


def _entries(values: Tensor) -> list[list[list[Tensor]]]:
    """Return the entries of (blocks, rows, columns) as tensors ()."""
    return [[list(row.unbind()) for row in block.unbind()] for block in values.unbind()]


def _check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= (value if high is None else high):
        return
    wanted = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"
    near = high if high is not None and isinstance(value, int | float) and value > high else low
    raise ValueError(f"`{name}` is {value!r}, but must be {wanted}; the nearest is {near}")


def _check_rate(name: str, value: object, wanted: str, valid: Callable[[float], bool], most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and valid(cast(float, value)):
        return
    near = most if number and cast(float, value) > 0 else 0
    raise ValueError(f"`{name}` is {value!r}, but must be a number, at least 0 and {wanted}; the nearest is {near}")
