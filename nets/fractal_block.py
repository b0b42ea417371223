"""The block of a fractal network: columns of layers, joined by their mean wherever their layers end together.

With conv a layer of its own wherever it stands, and ⊕ the mean over all that is joined (Larsson, Maire, Shakhnarovich
2017, "FractalNet"):

    f_1(z) = conv(z),    f_{C+1}(z) = (f_C ∘ f_C)(z) ⊕ conv(z).

Joins that follow one another are one, over all their inputs: f_3 ends in a mean of three, each of weight ⅓.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.combine import combine
from odenas.nets.drop_path import joined

# What a layer may be used as: always, or as a flag says, of a plain or a compiled graph.
Flag = bool | Tensor


class FractalLayer(nn.Module):
    """A layer: 3×3 convolution, dropout, batch normalisation, activation; the image keeps its size.

    The order is that of the authors' own files for Caffe. Dropout is number by number.
    """

    def __init__(self, inputs: int, outputs: int, dropout: float, activation: str = "relu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor, used: Flag = True) -> Tensor:
        """Return (batch, outputs, height, width) of (batch, inputs, height, width).

        Where `used` is a tensor that says False, the running statistics stay as they were.
        """
        x = self.dropout(self.conv(x))
        normalised = self.norm(x) if isinstance(used, bool) or not self.training else self._normalised(x, used)
        return self.activation(normalised)

    def _normalised(self, x: Tensor, used: Tensor) -> Tensor:
        """Return BN(x) in training, its running statistics renewed where it is used."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        mean, variance = norm.running_mean.clone(), norm.running_var.clone()
        x = functional.batch_norm(x, mean, variance, norm.weight, norm.bias, True, norm.momentum or 0.0, norm.eps)
        used = used.to(mean.device)
        with torch.no_grad():
            norm.running_mean.copy_(torch.where(used, mean, norm.running_mean))
            norm.running_var.copy_(torch.where(used, variance, norm.running_var))
            norm.num_batches_tracked.add_(used)
        return x


class FractalBlock(nn.Module):
    """f_C: C columns, of which column c has 2^c layers, with 2×2 max-pooling before the last join.

    Pooling comes before that join, as in the authors' files for Caffe: the mean of the columns' maxima. An odd row or
    column of pixels at the edge is pooled alone, as Caffe does, so that an image of one pixel stays as it is.

    Args:
        columns: C.
        inputs, outputs: channels before and after; the first layer of each column changes them.
        dropout: rate of each layer.
        activation: a row of ACTIVATIONS.
    """

    def __init__(self, columns: int, inputs: int, outputs: int, dropout: float, activation: str = "relu") -> None:
        super().__init__()
        self.columns = nn.ModuleList(
            nn.ModuleList(
                FractalLayer(outputs if i else inputs, outputs, dropout, activation) for i in range(2**column)
            )
            for column in range(columns)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor, weights: Sequence[Sequence[float | Tensor]], used: Sequence[Sequence[Flag]]) -> Tensor:
        """Return (batch, outputs, ⌈height / 2⌉, ⌈width / 2⌉).

        Args:
            x: state (batch, inputs, height, width).
            weights: for each row, of each column in the join.
            used: for each row, whether the end of the block depends on what the column brings. What it does not is not
                evaluated, but where a graph is compiled.
        """
        columns, rows = len(self.columns), 2 ** (len(self.columns) - 1)
        # What the layer of each column that comes next reads.
        states: list[Tensor | None] = [x] * columns
        for row in range(1, rows + 1):
            terms: list[tuple[float | Tensor, Tensor]] = []
            for column in joined(row, columns):
                flag, state = used[row - 1][column], states[column]
                if flag is False:
                    continue
                assert state is not None
                layer = cast(nn.ModuleList, self.columns[column])[row * 2**column // rows - 1]
                output = layer(state, flag)
                output = self.pool(output) if row == rows else output
                weight = weights[row - 1][column]
                terms.append((weight.to(output) if isinstance(weight, Tensor) else weight, output))
            join = combine(terms) if terms else None
            for column in joined(row, columns):
                states[column] = join
        assert join is not None
        return join
