"""Residual networks whose channels are two halves, y and z, that step in turn by a partitioned Runge–Kutta method.

With h = 1 and branches f_i, g_i of their own weights, on half the channels each:

    Z_i     = z_n + Σ_{j<i} A2_ij g_j(Y_j),    Y_i     = y_n + Σ_{j≤i} A_ij f_j(Z_j),
    y_{n+1} = y_n + Σ_i b_i f_i(Z_i),          z_{n+1} = z_n + Σ_i b2_i g_i(Y_i).

Symplectic Euler, y ← y + f(z), z ← z + g(y), is RevNet (Gomez et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from odenas.nets.blocks import BLOCKS
from odenas.nets.combine import combine, pairs
from odenas.nets.noise import NOISES, QUIET, Noise
from odenas.nets.residual import ResidualNetwork, Stage, carrier
from odenas.nets.reversible import Kick, kicked, recomputed, unkicked
from odenas.nets.weights import Step

Method = Mapping[str, Any]
"""The numbers A, b, A2, b2 of a method as plain lists."""

# From the number of steps and the halves (0 for f, 1 for g) that a step's evaluations change, in turn, to the number of
# branches with weights of their own in each row of them. f and g are two functions: each shares with itself alone.
ROWS: dict[str, Callable[[int, Sequence[int]], list[int]]] = {
    "none": lambda steps, halves: [len(halves)] * steps,
    "stages": lambda steps, halves: [len(set(halves))] * steps,
    "steps": lambda steps, halves: [len(set(halves))] * min(1, steps),
}


def evaluations(method: Method) -> list[tuple[int, int]]:
    """Return the evaluations of a step in turn, each as its stage and 0 for f or 1 for g, slopes of no weight out."""
    columns = [list(zip(*[*method[A], method[b]], strict=True)) for A, b in (("A", "b"), ("A2", "b2"))]
    return [(i, half) for i in range(len(method["b"])) for half in (0, 1) if any(columns[half][i])]


def kicks_in_turn(method: Method) -> bool:
    """Return whether a step adds b_1 f(z) to y, b2_1 g(y) to z, b_2 f(z) to y, …: then it can be undone in turn."""
    places = [(i, j) for i in range(len(method["b"])) for j in range(i + 1)]
    return all(
        method["A"][i][j] == method["b"][j] and (i == j or method["A2"][i][j] == method["b2"][j]) for i, j in places
    )


def own_half_branches(method: Method, steps: int, tying: str) -> int:
    """Return how many branches, on half the channels, with weights of their own some steps have."""
    return sum(ROWS[tying](steps, [half for _, half in evaluations(method)]))


def enters_by_block(block: str, shortcut: str) -> bool:
    """Return whether a stage begins with a plain residual block: where a block may change the shape, and projects."""
    return shortcut == "projection" and not BLOCKS[block].keeps_shape


def signed(method: Method, block: str) -> Method:
    """Return the method with the signs that the block's class has for the branches of the two halves, + where none."""
    f, g = getattr(BLOCKS[block], "SIGNS", (1.0, 1.0))
    rows = {name: [sign * weight for weight in method[name]] for sign, name in ((f, "b"), (g, "b2"))}
    return rows | {
        name: [[sign * weight for weight in row] for row in method[name]] for sign, name in ((f, "A"), (g, "A2"))
    }


class PartitionedStage(nn.Module):
    """A transition into the stage's shape, then partitioned steps of the halves of the state.

    The transition is a plain residual block on the whole state, or the shortcut alone where `enters_by_block` says so.

    Args:
        inputs, outputs, stride: as of `Stage`; an even number of outputs.
        branches: number of branches of each block; 1 for the plain block.
        rates: rate of each block's noise.
        block, activation, tying, noise: rows of BLOCKS, ACTIVATIONS, ROWS and NOISES.
        shortcut, options: as of `Stage`.
        method: the numbers of the method.
        reversible: whether states are computed again for the gradient instead of kept; for kicks in turn, without
            noise. It may be set at any time between a backward and the next forward.
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
        *,
        method: Method,
        reversible: bool = False,
    ) -> None:
        super().__init__()
        self.method, self.tying, self.reversible = signed(method, block), tying, reversible
        self.evaluations, self.in_turn = evaluations(method), kicks_in_turn(method)
        entered = enters_by_block(block, shortcut)
        if entered:
            of_entry = (branches[:1], rates[:1], block, activation, tying, noise, shortcut, options)
            self.entry: nn.Module = Stage(inputs, outputs, stride, *of_entry)
        else:
            self.entry = carrier(inputs, outputs, stride, block, activation, shortcut)
        rates, half = rates[entered:], outputs // 2
        self.steps = nn.ModuleList(
            nn.ModuleList(BLOCKS[block](half, half, 1, activation, **(options or {})) for _ in range(count))
            for count in ROWS[tying](len(rates), [half for _, half in self.evaluations])
        )
        self.noises = [NOISES[noise](rate) if rate else QUIET for rate in rates]

    def forward(
        self, history: Sequence[Tensor], steps: Sequence[Step], start: str, kept: tuple[int, int]
    ) -> list[Tensor]:
        """Return the state after the stage alone; the arguments are those of `Stage`, whose `steps` must be none."""
        if isinstance(self.entry, Stage):
            return [self.stepped(self.entry(history, steps, start, kept)[0])]
        return [self.stepped(self.entry(history[0]))]

    def stepped(self, x: Tensor) -> Tensor:
        """Return the state after the partitioned steps, (batch, channels, height, width)."""
        if self.reversible and torch.is_grad_enabled():
            return recomputed(self.kicks(), x)
        noisy = self.training and any(noise is not QUIET for noise in self.noises)
        if self.in_turn and not noisy:
            return kicked(self.kicks(), x)
        y, z = x.chunk(2, 1)
        for step, noise in enumerate(self.noises):
            y, z = self._step(y, z, step, noise if self.training else QUIET)
        return torch.cat([y, z], 1)

    def inverse(self, x: Tensor) -> Tensor:
        """Return the state before the partitioned steps from that after them; for kicks in turn, without noise."""
        return unkicked(self.kicks(), x)

    def kicks(self) -> list[Kick]:
        """Return what all steps add in turn; of a method by kicks in turn."""
        assert self.in_turn
        weights = self.method["b"], self.method["b2"]
        return [
            Kick(half, weights[half][i], branch)
            for step in range(len(self.noises))
            for (i, half), branch in zip(self.evaluations, self._branches(step), strict=True)
        ]

    def _step(self, y: Tensor, z: Tensor, step: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the halves after one step, as it is defined."""
        branches = dict(zip(self.evaluations, self._branches(step), strict=True))
        f_slopes: list[Tensor | None] = []
        g_slopes: list[Tensor | None] = []
        for i, (A, A2) in enumerate(zip(self.method["A"], self.method["A2"], strict=True)):
            Z = combine([(1.0, z), *pairs(A2, g_slopes)])
            f_slopes.append(noise.slope(branches[i, 0], Z) if (i, 0) in branches else None)
            Y = combine([(1.0, y), *pairs(A, f_slopes)])
            g_slopes.append(noise.slope(branches[i, 1], Y) if (i, 1) in branches else None)
        y = combine([(1.0, y), *pairs(self.method["b"], f_slopes)])
        z = combine([(1.0, z), *pairs(self.method["b2"], g_slopes)])
        return noise.state(y), noise.state(z)

    def _branches(self, step: int) -> Iterator[nn.Module]:
        """Yield the branch of each evaluation of a step."""
        row = cast(nn.ModuleList, self.steps[0 if self.tying == "steps" else step])
        if self.tying == "none":
            yield from row
            return
        order = sorted({half for _, half in self.evaluations})
        for _, half in self.evaluations:
            yield row[order.index(half)]


class PartitionedNetwork(ResidualNetwork):
    """A classifier of images like `ResidualNetwork` whose stages are partitioned.

    It takes `method` and `reversible` of `PartitionedStage` beside, as tying a row of ROWS, and `weights` for no steps.
    """

    stage: ClassVar = PartitionedStage
