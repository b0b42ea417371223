"""The equation A(u) = f on one grid of a multigrid network, and the smoother: steps of u' = B(f − A(u)) by a scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from odenas.nets.activations import ACTIVATIONS
from odenas.nets.grid_transfer import CONVOLUTIONS, on_each_channel
from odenas.nets.integrator import advance
from odenas.nets.noise import NOISES, QUIET
from odenas.nets.weights import EULER, Step, reach

IDENTITY = (0.0, 1.0, 0.0)
NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


class GridConvolution(nn.Module):
    """A convolution of 3 points in each dimension between functions on one grid, which are 0 outside of it.

    Args:
        weight: what it begins with, (outputs, inputs, 3, …).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.convolve = CONVOLUTIONS[weight.dim() - 2][0]

    def forward(self, u: Tensor) -> Tensor:
        """Return the convolution of u."""
        return self.convolve(u, self.weight, padding=1)


class LinearOperator(GridConvolution):
    """A of a linear equation: a convolution, which begins as −Δ on each channel by itself.

    That is the stencil (−1, 2, −1) / h² in each dimension, h = 1 on the finest grid and twice as large on the next.
    `relaxation` is the number to which B then makes the damped Jacobi method, ω/D with the ω that damps high
    frequencies best, 2/3 in one dimension and 4/5 in two (Trottenberg, Oosterlee and Schüller, Multigrid, 2001,
    chapter 2).
    """

    linear = True

    def __init__(self, width: int, level: int, activation: str, dimensions: int = 2) -> None:
        del activation
        weight = torch.zeros(())
        for axis in range(dimensions):
            stencils = [(-1.0, 2.0, -1.0) if i == axis else IDENTITY for i in range(dimensions)]
            weight = weight + on_each_channel(stencils, width, width)
        super().__init__(weight / 4**level)
        self.relaxation = 4**level / (2 * dimensions + 1)


class Diffusion(nn.Module):
    """A of one backward Euler step of diffusion, A(u) = u + KᵀΦ(Ku): u is f smoothed (Alt et al. 2022).

    K begins as normal numbers of variance 1 / inputs of a value, which makes ‖K‖² about 4; Euler steps by `relaxation`
    are stable up to ‖K‖² = 9 for Φ(s)/s from 0 to 1.
    """

    linear = False

    def __init__(self, width: int, level: int, activation: str, dimensions: int = 2) -> None:
        super().__init__()
        del level
        shape = (width, width, *(3,) * dimensions)
        self.weight = nn.Parameter(torch.randn(shape) / (width * 3**dimensions) ** 0.5)
        self.flux = ACTIVATIONS[activation]
        self.convolve, self.transposed = CONVOLUTIONS[dimensions]
        self.relaxation = 1 / 5

    def forward(self, u: Tensor) -> Tensor:
        """Return u + KᵀΦ(Ku)."""
        return u + self.transposed(self.flux(self.convolve(u, self.weight, padding=1)), self.weight, padding=1)


class LinearCorrector(GridConvolution):
    """B of a linear smoother: a convolution, which begins as the number `relaxation` on each channel by itself."""

    normed = False

    def __init__(self, width: int, relaxation: float, activation: str, dimensions: int = 2) -> None:
        del activation
        super().__init__(relaxation * on_each_channel([IDENTITY] * dimensions, width, width))


class MgNetCorrector(nn.Module):
    """σ∘B∘σ, B a convolution, each σ an activation after a batch normalisation (MgNet, He and Xu 2019).

    B begins as normal numbers of variance 2 / outputs of a value (He et al. 2015).
    """

    normed = True

    def __init__(self, width: int, relaxation: float, activation: str, dimensions: int = 2) -> None:
        super().__init__()
        del relaxation
        points = 3**dimensions
        self.norm1, self.norm2 = (NORMS[dimensions](width) for _ in range(2))
        shape = (width, width, *(3,) * dimensions)
        self.convolution = GridConvolution(torch.randn(shape) * (2 / (width * points)) ** 0.5)
        self.activation = ACTIVATIONS[activation]

    def forward(self, residual: Tensor) -> Tensor:
        """Return the slope of the smoother."""
        x = self.convolution(self.activation(self.norm1(residual)))
        return self.activation(self.norm2(x))


OPERATORS: dict[str, Any] = {"convolution": LinearOperator, "diffusion": Diffusion}
CORRECTORS: dict[str, Any] = {"linear": LinearCorrector, "mgnet": MgNetCorrector}

# From the place of an evaluation on its level (stage, smoothing step, stage of the scheme) to what it has in common
# with all evaluations of the same B. The equation, and so A, is one for the level.
SHARED: dict[str, Callable[[int, int, int], tuple[int, ...]]] = {
    "none": lambda *place: place,
    "stages": lambda *place: place[:2],
    "steps": lambda *place: (),
}


class Level(nn.Module):
    """One grid: the operator A, and the correctors B of the smoothing steps before and after the coarser grid.

    With the tying "steps" all evaluations share one B, as in multigrid methods; with "stages" each smoothing step has
    its own, as in MgNet (He and Xu 2019, where it is B^{l,i}).

    Args:
        width: channels of u and of f.
        level: 0 for the finest grid.
        branches: number of evaluations in each smoothing step, for each of the level's stages: before and after the
            coarser grid, or the one stage of the coarsest.
        rates: rate of each smoothing step's noise, in the same order.
        operator, corrector, activation, tying, noise: rows of OPERATORS, CORRECTORS, ACTIVATIONS, SHARED and NOISES.
        dimensions: of the grid, 1 or 2.
    """

    def __init__(
        self,
        width: int,
        level: int,
        branches: Sequence[Sequence[int]],
        rates: Sequence[Sequence[float]],
        operator: str = "convolution",
        corrector: str = "mgnet",
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        self.operator = OPERATORS[operator](width, level, activation, dimensions)
        shared = [
            [[SHARED[tying](stage, step, i) for i in range(count)] for step, count in enumerate(row)]
            for stage, row in enumerate(branches)
        ]
        own = list(dict.fromkeys(chain.from_iterable(chain.from_iterable(shared))))
        self.correctors = nn.ModuleList(
            CORRECTORS[corrector](width, self.operator.relaxation, activation, dimensions) for _ in own
        )
        self.places = [[[own.index(key) for key in step] for step in stage] for stage in shared]
        self.noises = [[NOISES[noise](rate) if rate else QUIET for rate in row] for row in rates]

    def forward(self, u: Tensor, f: Tensor, stage: int, steps: Sequence[Step], start: str) -> Tensor:
        """Return u after the smoothing steps of one of the level's stages; u and f are (batch, width, n, …).

        Args:
            u, f: state and right-hand side.
            stage: 0, or 1 for the steps after the coarser grid.
            steps: weights of the last `len(steps)` smoothing steps; those before are forward Euler steps.
            start: "copy" if u is all of history in the first step, else "euler".
        """
        kept = reach(steps)
        states = [u] * (kept[0] if start == "copy" else 1)
        slopes: list[Tensor | None] = []
        euler = [EULER] * (len(self.places[stage]) - len(steps))
        for index, step in enumerate(chain(euler, steps)):
            noise = self.noises[stage][index] if self.training else QUIET
            branches = [partial(self.slope, f, self.correctors[own]) for own in self.places[stage][index]]
            state, slopes = advance(step, states, slopes, branches, noise)
            states, slopes = [state, *states][: kept[0]], slopes[: kept[1]]
        return states[0]

    def slope(self, f: Tensor, corrector: nn.Module, u: Tensor) -> Tensor:
        """Return B(f − A(u))."""
        return corrector(self.residual(f, u))  # type: ignore[no-any-return]

    def residual(self, f: Tensor, u: Tensor) -> Tensor:
        """Return f − A(u)."""
        return f - self.operator(u)  # type: ignore[no-any-return]
