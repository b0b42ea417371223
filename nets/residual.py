"""A residual network that steps from layer to layer by a numerical scheme.

With x_n the state after n blocks, F_n = f_n(x_n) the output of a residual branch, k states and s branches in a step:

    Y_i     = Σ_j U_ij x_{n−j} + Σ_{j≥1} W_ij F_{n−j} + Σ_{l<i} A_il F^l,      F^i = f_n^i(Y_i)
    x_{n+1} = Σ_j V_j  x_{n−j} + Σ_{j≥1} R_j  F_{n−j} + Σ_i B_i F^i.

V = (1), B = (1) is the ordinary residual network x + f(x); V = (1 − k, k), B = (1) is LM-ResNet.

This file, `weights.py` and `combine.py` need nothing but torch: together they are the `net.py` of an exported network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets.combine import combine, pairs
from odenas.nets.weights import EULER, Step, reach


class Branch(nn.Module):
    """The right-hand side f: BN-ReLU-conv-BN-ReLU-conv (He et al. 2016, "Identity Mappings", fig. 4e).

    Maps (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        x = self.conv1(functional.relu(self.norm1(x), inplace=True))
        return self.conv2(functional.relu(self.norm2(x), inplace=True))  # type: ignore[no-any-return]


class Shortcut(nn.Module):
    """The state where the shape changes: a 1×1 convolution of ReLU(BN(x)), as in the code of LM-ResNet's authors."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the state in the new shape."""
        return self.conv(functional.relu(self.norm(x), inplace=True))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Blocks of one shape: a plain residual block that may change it, then steps of the scheme.

    Args:
        inputs, outputs, stride: channels of the state before and after, and how much smaller it becomes.
        branches: number of branches of each block after the first; one for a plain residual block.
        drop: rate with which each block's branches are dropped in training, the first block included.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, branches: Sequence[int], drop: Sequence[float]) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else Shortcut(inputs, outputs, stride)
        self.first = Branch(inputs, outputs, stride)
        self.blocks = nn.ModuleList(nn.ModuleList(Branch(outputs, outputs) for _ in range(count)) for count in branches)
        self.drop = list(drop)

    def forward(self, x: Tensor, steps: Sequence[Step], start: str) -> Tensor:
        """Return the last state; `steps` are the weights of the last `len(steps)` blocks, those before are Euler's."""
        states_read, slopes_read = reach(steps)
        states, slopes = self._first_block(x)
        if start == "copy" and steps:
            # History begins here; the earlier slopes are the first one below.
            states, slopes = states[:1] * len(steps[0].V), []
        states, slopes = states[:states_read], slopes[:slopes_read]
        euler = [EULER] * (len(self.blocks) - len(steps))
        for index, (branches, step) in enumerate(zip(self.blocks, chain(euler, steps), strict=True), start=1):
            evaluated: list[Tensor | None] = []
            for branch, A, U, W in zip(cast(nn.ModuleList, branches), step.A, step.U, step.W, strict=True):
                stage = combine(chain(pairs(U, states), pairs(W, slopes), pairs(A, evaluated)))
                evaluated.append(self._evaluate(branch, stage, index))
                slopes = slopes or [evaluated[0]] * len(step.R)
            state = combine(chain(pairs(step.V, states), pairs(step.R, slopes), pairs(step.B, evaluated)))
            # What no later step reads is let go.
            states, slopes = [state, *states][:states_read], [evaluated[0], *slopes][:slopes_read]
        return states[0]

    def _first_block(self, x: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return the states after and before the first block, the latter in the new shape, and the block's slope."""
        shortcut = self.shortcut(x)
        slope = self._evaluate(self.first, x, 0)
        return [combine([(1.0, shortcut), (1.0, slope)]), shortcut], [slope]

    def _evaluate(self, branch: nn.Module, x: Tensor, index: int) -> Tensor | None:
        """Return f(x), or None where stochastic depth drops it: one coin for the batch, scaled by 1 / (1 − rate)."""
        rate = self.drop[index]
        if not self.training or rate == 0:
            return branch(x)  # type: ignore[no-any-return]
        keep = torch.rand(()) >= rate
        if torch.compiler.is_compiling():
            return branch(x) / (1 - rate) * keep.to(x)  # type: ignore[no-any-return]
        return branch(x) / (1 - rate) if keep else None


class ResidualNetwork(nn.Module):
    """A classifier of images: convolution, stages of residual steps, BN-ReLU, mean over the image, linear layer.

    Args:
        widths: channels of each stage; every stage but the first halves the image.
        branches: for each stage, the number of branches of each block after its first.
        drop: for each stage, the drop rate of each block.
        weights: module that gives the weights of a stage's steps, such as `TableWeights`.
        start: "euler" or "copy", how a stage's history begins.
        classes, channels: numbers of classes and of image channels.
    """

    def __init__(
        self,
        widths: Sequence[int],
        branches: Sequence[Sequence[int]],
        drop: Sequence[Sequence[float]],
        weights: nn.Module,
        start: str,
        classes: int,
        channels: int,
    ) -> None:
        super().__init__()
        # The arguments in plain values: what an export writes down.
        self.architecture: dict[str, Any] = {
            "widths": list(widths),
            "branches": [list(row) for row in branches],
            "drop": [list(row) for row in drop],
            "start": start,
            "classes": classes,
            "channels": channels,
        }
        self.start = start
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        inputs = [widths[0], *widths]
        self.stages = nn.ModuleList(
            Stage(inputs[i], width, 1 if i == 0 else 2, branches[i], drop[i]) for i, width in enumerate(widths)
        )
        self.weights = weights
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of normalised images (batch, channels, height, width)."""
        x = self.stem(images)
        for index, stage in enumerate(self.stages):
            x = stage(x, self.weights(index, x.dtype), self.start)
        x = functional.relu(self.norm(x), inplace=True)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]
