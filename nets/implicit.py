"""Residual networks that step by an implicit linear multistep method, every step solved.

With h = 1, F_n the slope with which step n ended, and f_{n+1} the branch of a step:

    x_{n+1} = c + b_0 f_{n+1}(x_{n+1}),    c = Σ_j a_j x_{n−j} + Σ_{j≥1} b_j F_{n+1−j},    F_{n+1} = (x_{n+1} − c)/b_0,

a and b being the method's `states` and `slopes`: F_{n+1} = f_{n+1}(x_{n+1}) costs no evaluation. Backward Euler, with
a = (1) and b = (1), never raises ‖x‖ where xᵀf(x) ≤ 0, whatever the step size in f (Alt, Schrader, Augustin, Peter,
Weickert, J. Math. Imaging Vis. 2022, arXiv 2107.14742); fixed-point iterations for it need a step below half that of
forward Euler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from odenas.nets.blocks import BLOCKS
from odenas.nets.combine import combine, pairs
from odenas.nets.dense import DenseNetwork
from odenas.nets.implicit_solver import solved
from odenas.nets.noise import NOISES, QUIET
from odenas.nets.residual import ResidualNetwork, carrier
from odenas.nets.weights import Step

SOLVABLE = {"symmetric": True, "antisymmetric": False}
"""The blocks that act on each image alone and keep its shape, and whether their Jacobian is symmetric."""
BACKWARD_EULER: dict[str, list[float]] = {"states": [1.0], "slopes": [1.0]}


def history(method: Mapping[str, Sequence[float]]) -> tuple[int, int]:
    """Return how many states and earlier slopes a step of the method reads."""
    rows = method["states"], method["slopes"][1:]
    states, slopes = (max([0, *[j + 1 for j, weight in enumerate(row) if weight]]) for row in rows)
    return states, slopes


def first_steps(method: Mapping[str, Sequence[float]]) -> int:
    """Return how many steps of backward Euler a stage makes before there is history enough for the method's own."""
    states, slopes = history(method)
    return max(states - 1, slopes)


class ImplicitStage(nn.Module):
    """A shortcut into the stage's shape, where that changes, then implicit steps; the first ones by backward Euler.

    Each stage begins its history anew. Backward Euler at the start lowers the order that is seen to 2 at most (Hairer,
    Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., III.4: starting values need order p − 1).

    Noise acts on the slope that solves a step: a dropped one leaves x_{n+1} = c.

    Args:
        inputs, outputs, stride: as of `odenas.nets.residual.Stage`.
        branches: one for each step: as many ones.
        rates: rate of each step's noise.
        block: a row of SOLVABLE.
        activation, noise: rows of ACTIVATIONS and NOISES.
        tying: "steps" if all steps share one branch; in each other row of TYINGS every step has its own.
        shortcut, options: as of `odenas.nets.residual.Stage`.
        method: `states` and `slopes` of the method as plain numbers.

    Raises:
        ValueError: the block is not in SOLVABLE.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        branches: Sequence[int],
        rates: Sequence[float],
        block: str = "symmetric",
        activation: str = "charbonnier",
        tying: str = "none",
        noise: str = "none",
        shortcut: str = "projection",
        options: Mapping[str, Any] | None = None,
        *,
        method: Mapping[str, Sequence[float]],
    ) -> None:
        super().__init__()
        if block not in SOLVABLE:
            raise ValueError(f"`block` is {block!r}, but an implicit step needs one of {', '.join(SOLVABLE)}")
        self.method, self.count, self.symmetric = dict(method), len(branches), SOLVABLE[block]
        self.shortcut = carrier(inputs, outputs, stride, block, activation, shortcut)
        self.blocks = nn.ModuleList(
            BLOCKS[block](outputs, outputs, 1, activation, **(options or {}))
            for _ in range(min(1, self.count) if tying == "steps" else self.count)
        )
        self.noises = [NOISES[noise](rate) if rate else QUIET for rate in rates]

    def forward(
        self, before: Sequence[Tensor], steps: Sequence[Step], start: str, kept: tuple[int, int]
    ) -> list[Tensor]:
        """Return the state after the stage alone; the arguments are those of `Stage`, whose `steps` must be none.

        Raises:
            NotSolved: a step was not solved.
        """
        states: list[Tensor] = [self.shortcut(before[0])]
        slopes: list[Tensor | None] = []
        own = history(self.method)
        for index in range(self.count):
            method = BACKWARD_EULER if index < first_steps(self.method) else self.method
            c = combine([*pairs(method["states"], states), *pairs(method["slopes"][1:], slopes)])
            state, slope = self._solved(index, c, method["slopes"][0], slope_read=own[1] > 0)
            states, slopes = [state, *states][: own[0]], [slope, *slopes][: own[1]]
        return states[:1]

    def _solved(self, index: int, c: Tensor, weight: float, slope_read: bool) -> tuple[Tensor, Tensor | None]:
        """Return x = c + weight · f(x), and its slope f(x), if that is read or what noise changes."""
        branch = self.blocks[index % len(self.blocks)]
        noise = self.noises[index] if self.training else QUIET
        if noise is QUIET:
            x = solved(branch, c, weight, self.symmetric)
            return x, (x - c) / weight if slope_read else None
        slope = noise.slope(lambda known: (solved(branch, known, weight, self.symmetric) - known) / weight, c)
        return noise.state(combine([(1.0, c), (weight, slope)])), slope


class ImplicitNetwork(ResidualNetwork):
    """A classifier of images like `ResidualNetwork` whose stages step by an implicit method.

    It takes `method` of `ImplicitStage` beside, and `weights` for no steps.
    """

    stage: ClassVar = ImplicitStage


class ImplicitDenseNetwork(DenseNetwork):
    """A `DenseNetwork` whose stages step by an implicit method; the arguments are those of `ImplicitNetwork`."""

    stage: ClassVar = ImplicitStage
