"""Residual networks that step by a numerical scheme.

With x_n the state after n blocks, F_n = f_n(x_n) the output of a residual branch, k states and s branches in a step:

    Y_i     = Σ_j U_ij x_{n−j} + Σ_{j≥1} W_ij F_{n−j} + Σ_{l<i} A_il F^l,      F^i = f_n^i(Y_i)
    x_{n+1} = Σ_j V_j  x_{n−j} + Σ_{j≥1} R_j  F_{n−j} + Σ_i B_i F^i.

V = (1), B = (1) is the ordinary residual network x + f(x); V = (1 − k, k), B = (1) is LM-ResNet.

This file and those it imports need nothing but torch: together they are the `net.py` of an exported network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.blocks import BLOCKS
from odenas.nets.integrator import advance
from odenas.nets.network import SchemeNetwork
from odenas.nets.noise import NOISES, QUIET
from odenas.nets.shortcuts import SHORTCUTS
from odenas.nets.stems import STEMS
from odenas.nets.weights import EULER, Step, reach

# From the number of branches of each block, the very first left out, to the number that have weights of their own.
TYINGS: dict[str, Callable[[list[int]], list[int]]] = {
    "none": lambda counts: counts,
    "stages": lambda counts: [min(1, count) for count in counts],
    "steps": lambda counts: [0, min(1, sum(counts))],
}


def own_branches(branches: Sequence[int], tying: str) -> list[int]:
    """Return how many branches with weights of their own a stage has for each block, but for its very first branch.

    That one may change the shape, and shares its weights with none.
    """
    return TYINGS[tying]([branches[0] - 1, *branches[1:]])


def carrier(inputs: int, outputs: int, stride: int, block: str, activation: str, shortcut: str) -> nn.Module:
    """Return what carries a state into a shape: nothing where it has it, else a row of SHORTCUTS."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    name = BLOCKS[block].shortcut if shortcut == "projection" else shortcut
    carried: nn.Module = SHORTCUTS[name](inputs, outputs, stride, activation)
    return carried


class Stage(nn.Module):
    """Blocks of one shape, of which the first may change it.

    Where branches share their weights, they are one module, batch normalisation included. In training each use is
    normalised by the statistics of its own batch; the running statistics, which serve at test, are one average over all
    uses, the later ones weighing more.

    Args:
        inputs, outputs, stride: channels of the state before and after, and how much smaller it becomes.
        branches: number of branches of each block; one for a forward Euler step.
        rates: rate of each block's noise.
        block, activation, tying, noise: rows of BLOCKS, ACTIVATIONS, TYINGS and NOISES.
        shortcut: "projection" for the one that suits the block, or a row of SHORTCUTS.
        options: what the block takes beside.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        branches: Sequence[int],
        rates: Sequence[float],
        block: str = "basic",
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        shortcut: str = "projection",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        make, options = BLOCKS[block], options or {}
        self.shortcut = carrier(inputs, outputs, stride, block, activation, shortcut)
        before = (outputs, outputs, 1) if make.keeps_shape else (inputs, outputs, stride)
        self.first = make(*before, activation, **options)
        first, *later = (
            nn.ModuleList(make(outputs, outputs, 1, activation, **options) for _ in range(count))
            for count in own_branches(branches, tying)
        )
        self.keeps_shape = make.keeps_shape
        self.after = ACTIVATIONS[activation] if make.after else None
        self.rest, self.blocks = first, nn.ModuleList(later)
        self.count, self.tying = len(branches), tying
        self.noises = [NOISES[noise](rate) if rate else QUIET for rate in rates]

    def forward(
        self, history: Sequence[Tensor], steps: Sequence[Step], start: str, kept: tuple[int, int]
    ) -> list[Tensor]:
        """Return the states after the stage, newest first.

        Args:
            history: the states before it, newest first, in the shape that they have there.
            steps: weights of the last `len(steps)` blocks; the blocks before make forward Euler steps.
            start: "copy" if the state after the first block becomes all of history, else "euler".
            kept: how many states and slopes are kept for later steps.
        """
        states = self._carried(history)
        slopes: list[Tensor | None] = []
        euler = [EULER] * (self.count - len(steps))
        for index, step in enumerate(chain(euler, steps)):
            noise = self.noises[index] if self.training else QUIET
            branches = [self._branch(index, i) for i in range(len(step.B))]
            # The very first branch reads the states as they were before, and changes the shape itself, where it can.
            read = () if index or self.keeps_shape else history
            state, slopes = advance(step, states, slopes, branches, noise, read)
            if self.after is not None:
                # What was dropped left nothing but a state, which an activation in place must not overwrite.
                state = self.after(state.clone() if any(state is each for each in states) else state)
            states = [state, *states]
            if index == 0 and start == "copy":
                # History begins here; the earlier slopes are the first one of the next step.
                states, slopes = [state] * kept[0], []
            # What no later step reads is let go.
            states, slopes = states[: kept[0]], slopes[: kept[1]]
        return states

    def _carried(self, history: Sequence[Tensor]) -> list[Tensor]:
        """Return the states in the new shape."""
        if isinstance(self.shortcut, nn.Identity):
            return list(history)
        if len(history) == 1:
            return [self.shortcut(history[0])]
        return list(self.shortcut(torch.cat(list(history))).chunk(len(history)))

    def _branch(self, index: int, i: int) -> nn.Module:
        """Return branch i of a block."""
        if index == i == 0:
            return cast(nn.Module, self.first)
        if self.tying == "steps":
            return cast(nn.ModuleList, self.blocks[0])[0]
        row = cast(nn.ModuleList, self.blocks[index - 1] if index else self.rest)
        return row[0 if self.tying == "stages" else i - (index == 0)]


class ResidualNetwork(SchemeNetwork):
    """A classifier of images: stem, stages of steps, norm and activation, mean over the image, linear layer.

    Where an activation follows every step, none follows the last stage.

    Args:
        widths: channels of each stage; every stage but the first halves the image.
        branches: for each stage, the number of branches of each block.
        rates: for each stage, the rate of each block's noise.
        weights: module that gives the weights of a stage's steps, such as `TableWeights`.
        start: "euler" or "copy", how history begins.
        classes, channels: numbers of classes and of image channels.
        block, activation, tying, noise: rows of BLOCKS, ACTIVATIONS, TYINGS and NOISES.
        transition: "restart" if history begins anew in every stage, "project" if the shortcuts carry it over.
        shortcut: "projection" for the one that suits the block, or a row of SHORTCUTS.
        stem: a row of STEMS.
        stem_width: channels after the stem; as in the first stage if not given.
        options: what the block takes beside.
        of_stage: what the stages take beside.
    """

    stage: ClassVar[Callable[..., nn.Module]] = Stage

    def __init__(
        self,
        widths: Sequence[int],
        branches: Sequence[Sequence[int]],
        rates: Sequence[Sequence[float]],
        weights: nn.Module,
        start: str,
        classes: int,
        channels: int,
        block: str = "basic",
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        transition: str = "restart",
        shortcut: str = "projection",
        stem: str = "plain",
        stem_width: int | None = None,
        options: Mapping[str, Any] | None = None,
        **of_stage: Any,
    ) -> None:
        # The arguments in plain values: what an export writes down.
        super().__init__(
            {
                "widths": list(widths),
                "branches": [list(row) for row in branches],
                "rates": [list(row) for row in rates],
                "start": start,
                "classes": classes,
                "channels": channels,
                "block": block,
                "activation": activation,
                "tying": tying,
                "noise": noise,
                "transition": transition,
                "shortcut": shortcut,
                "stem": stem,
                "stem_width": stem_width,
                "options": dict(options or {}),
                **of_stage,
            }
        )
        self.start, self.transition = start, transition
        inputs = [widths[0] if stem_width is None else stem_width, *widths]
        self.stem = STEMS[stem](channels, inputs[0], activation)
        kinds = (block, activation, tying, noise, shortcut, options)
        self.stages = nn.ModuleList(
            type(self).stage(inputs[i], width, stride, branches[i], rates[i], *kinds, **of_stage)
            for i, (width, stride) in enumerate(zip(widths, self.strides(len(widths)), strict=True))
        )
        self.weights = weights
        self.make_head(widths[-1], BLOCKS[block].after)

    def strides(self, stages: int) -> list[int]:
        """Return how much smaller the image becomes in each stage."""
        return [1] + [2] * (stages - 1)

    def make_head(self, width: int, after: bool) -> None:
        """Make what follows the last stage; `after` says whether the state comes out of an activation."""
        self.norm = nn.Identity() if after else nn.BatchNorm2d(width)
        self.activation = nn.Identity() if after else ACTIVATIONS[self.architecture["activation"]]
        self.head: nn.Module = nn.Linear(width, self.architecture["classes"])

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of normalised images (batch, channels, height, width)."""
        x = self.activation(self.norm(self.last_state(images)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]

    def last_state(self, images: Tensor) -> Tensor:
        """Return the state after the last stage."""
        states = [self.stem(images)]
        steps = [self.weights(index, states[0].dtype) for index in range(len(self.stages))]
        for index, stage in enumerate(self.stages):
            if self.transition == "restart":
                states = stage(states[:1], steps[index], self.start, reach(steps[index]))
            else:
                states = stage(states, steps[index], "euler" if index else self.start, reach(list(chain(*steps))))
        return states[0]  # type: ignore[no-any-return]
