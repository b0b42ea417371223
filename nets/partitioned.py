"""Residual networks whose channels are two halves, y and z, that step in turn by a partitioned Runge–Kutta method.

With h = 1 and branches f_i, g_i of their own weights, on half the channels each:

    Z_i     = z_n + Σ_{j<i} A2_ij g_j(Y_j),    Y_i     = y_n + Σ_{j≤i} A_ij f_j(Z_j),
    y_{n+1} = y_n + Σ_i b_i f_i(Z_i),          z_{n+1} = z_n + Σ_i b2_i g_i(Y_i).

Symplectic Euler, y ← y + f(z), z ← z + g(y), is RevNet (Gomez et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from odenas.nets.branch import BLOCKS
from odenas.nets.combine import combine, pairs
from odenas.nets.noise import NOISES, QUIET, Noise
from odenas.nets.residual import ResidualNetwork, Stage
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


class PartitionedStage(nn.Module):
    """A plain residual block on the whole state, which may change its shape, then partitioned steps of its halves.

    Args:
        entry: the plain block, a stage of that one block.
        channels: of the state after it; even.
        method: the numbers of the method.
        rates: rate of each step's noise; as many as there are steps.
        block, activation, tying, noise: rows of BLOCKS, ACTIVATIONS, ROWS and NOISES.
        reversible: whether states are computed again for the gradient instead of kept; for kicks in turn, without
            noise. It may be set at any time between a backward and the next forward.
    """

    def __init__(
        self,
        entry: Stage,
        channels: int,
        method: Method,
        rates: Sequence[float],
        block: str = "basic",
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        reversible: bool = False,
    ) -> None:
        super().__init__()
        self.entry, self.method, self.tying, self.reversible = entry, method, tying, reversible
        self.evaluations, self.in_turn = evaluations(method), kicks_in_turn(method)
        half = channels // 2
        self.steps = nn.ModuleList(
            nn.ModuleList(BLOCKS[block](half, half, 1, activation) for _ in range(count))
            for count in ROWS[tying](len(rates), [half for _, half in self.evaluations])
        )
        self.noises = [NOISES[noise](rate) if rate else QUIET for rate in rates]

    def forward(
        self, history: Sequence[Tensor], steps: Sequence[Step], start: str, kept: tuple[int, int]
    ) -> list[Tensor]:
        """Return the state after the stage alone; the arguments are those of `Stage`, whose `steps` must be none."""
        (x,) = self.entry(history, steps, start, kept)
        return [self.stepped(x)]

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
    """A classifier of images like `ResidualNetwork`; after the first block of a stage the halves of the channels step.

    Args:
        method: the numbers of the method.
        branches: for each stage, the number of branches of each block: 1 for the first.
        rates: for each stage, the rate of each block's noise.
        tying: a row of ROWS.
        reversible: whether the stages are.
        architecture: all else that `ResidualNetwork` takes, widths even; `weights` for no steps.
    """

    def __init__(
        self,
        method: Method,
        branches: Sequence[Sequence[int]],
        rates: Sequence[Sequence[float]],
        tying: str = "none",
        noise: str = "none",
        reversible: bool = False,
        **architecture: Any,
    ) -> None:
        first: dict[str, Any] = {"branches": [row[:1] for row in branches], "rates": [row[:1] for row in rates]}
        super().__init__(**architecture, **first, tying=tying, noise=noise)
        self.architecture |= {
            "method": dict(method),
            "branches": [list(row) for row in branches],
            "rates": [list(row) for row in rates],
        }
        block, activation = self.architecture["block"], self.architecture["activation"]
        self.stages = nn.ModuleList(
            PartitionedStage(cast(Stage, entry), width, method, row[1:], block, activation, tying, noise, reversible)
            for entry, width, row in zip(self.stages, self.architecture["widths"], rates, strict=True)
        )
