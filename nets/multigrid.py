"""Multigrid networks: a cycle of the full approximation scheme is a U-net, whose long skips add a correction.

For the equation A(u) = f on the finest grid, with operators A_c on the coarser ones (FAS; Brandt 1977, "Multi-level
adaptive solutions to boundary-value problems"; Trottenberg, Oosterlee and Schüller, Multigrid, 2001, chapter 5):

    u ← smoothing steps of u' = B(f − A(u));
    u_c = Π u,    f_c = R (f − A(u)) + A_c(u_c),    v = the same on the coarser grid, from u_c and f_c;
    u ← u + P (v − u_c);
    u ← smoothing steps again.

As a network (He and Xu 2019, "MgNet"; Alt, Schrader, Augustin, Peter and Weickert 2022, "Connections between numerical
algorithms for PDEs and neural networks"): a smoothing step is a residual block, Π and R are convolutions with stride 2,
P is a transposed one. Two groups of channels go down, the state u and the right-hand side f. A U-net's long skip
concatenates; here the state of the way down is the very state of the way up, and what comes from below is added to it:
a difference, 0 where the coarser grid changed nothing. So a solution of A(u) = f stays what it is.

Where A is linear, the cycle is that of the linear correction scheme, whatever B is: B sees nothing of the states but
residuals, and those do not depend on Π. It is not trained then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

from torch import Tensor, nn

from odenas.nets.grid_transfer import TRANSFERS, Prolongation, Restriction, check_halving
from odenas.nets.network import SchemeNetwork
from odenas.nets.smoother import CORRECTORS, OPERATORS, Level
from odenas.nets.weights import Step


class Cycle(nn.Module):
    """A V-cycle, or with `gamma` = 2 a W-cycle, of the full approximation scheme.

    Its stages are what it passes in turn: down from the finest level, the coarsest, and up again. A W-cycle passes the
    coarser ones more than once, by the same weights.

    Made with a linear operator and corrector on vertex-centred grids, it is the solver of the textbooks for −Δu = f,
    grid width 1, zeros around: damped Jacobi steps, full weighting, (bi)linear interpolation. On cell-centred grids the
    zeros lie in the cells around, further out on each coarser grid: on 32 × 32 cells with three levels a cycle makes
    the error 0.6 times as large, and with six it does not converge.

    Args:
        widths: channels of each stage, an odd number of stages; on the way up as on the way down.
        branches: for each stage, the number of evaluations in each smoothing step.
        rates: for each stage, the rate of each smoothing step's noise.
        activation, tying, noise, operator, corrector: what each `Level` takes.
        transfer: a row of TRANSFERS.
        gamma: how often each visit to a level visits the next coarser one, if that is not the coarsest.
        dimensions: of the grid, 1 or 2.
    """

    def __init__(
        self,
        widths: Sequence[int],
        branches: Sequence[Sequence[int]],
        rates: Sequence[Sequence[float]],
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        operator: str = "convolution",
        corrector: str = "mgnet",
        transfer: str = "cell",
        gamma: int = 1,
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) % 2 == 0 or list(widths) != list(reversed(widths)):
            raise ValueError(f"`widths` are {list(widths)}, but must be an odd number of them, the same from both ends")
        last = len(widths) // 2
        kinds = operator, corrector, activation, tying, noise, dimensions
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths[: last + 1]):
            stages = sorted({i, 2 * last - i})
            self.levels.append(Level(width, i, [branches[j] for j in stages], [rates[j] for j in stages], *kinds))
        stencils, channels = TRANSFERS[transfer], list(pairwise(widths[: last + 1]))
        self.state_restrictions = nn.ModuleList(
            Restriction(stencils.state, *pair, dimensions, not OPERATORS[operator].linear) for pair in channels
        )
        self.residual_restrictions = nn.ModuleList(
            Restriction(stencils.residual, *pair, dimensions) for pair in channels
        )
        self.prolongations = nn.ModuleList(
            Prolongation(stencils.correction, stencils.border, coarse, fine, dimensions) for fine, coarse in channels
        )
        self.transfer, self.gamma = transfer, gamma

    def forward(self, u: Tensor, f: Tensor, steps: Sequence[Sequence[Step]], start: str = "euler") -> Tensor:
        """Return u after a cycle; u and f are (batch, width, n) or (batch, width, height, width of the grid).

        Args:
            u, f: state and right-hand side on the finest grid.
            steps: for each stage, the weights of its last smoothing steps; those before are forward Euler steps.
            start: "copy" if the smoothing steps of a stage begin with u as all of history, else "euler".

        Raises:
            ValueError: a side of the grid does not halve as often as there are coarser levels.
        """
        check_halving(u.shape[2:], len(self.levels), self.transfer)
        return self.visit(0, u, f, steps, start)

    def visit(self, index: int, u: Tensor, f: Tensor, steps: Sequence[Sequence[Step]], start: str) -> Tensor:
        """Return u on a level after its smoothing steps and what the coarser levels give it."""
        level, last = cast(Level, self.levels[index]), len(self.levels) - 1
        u = level(u, f, 0, steps[index], start)
        if index == last:
            return u
        coarse = self.state_restrictions[index](u)
        coarser = cast(Level, self.levels[index + 1])
        source = self.residual_restrictions[index](level.residual(f, u)) + coarser.operator(coarse)
        solved = coarse
        for _ in range(1 if index + 1 == last else self.gamma):
            solved = self.visit(index + 1, solved, source, steps, start)
        u = u + self.prolongations[index](solved - coarse)
        return cast(Tensor, level(u, f, 1, steps[2 * last - index], start))


class MultigridNetwork(SchemeNetwork):
    """From images to images, such as noisy ones to clean ones: cycles for an equation A(u) = f.

    Convolutions of the images make the right-hand side f and the first guess of u; the head, a convolution of u after
    the cycles, is added to the images. Where the correctors normalise, u is normalised before. All cycles solve one
    equation, and share their weights. The head begins with zeros, so that an untrained network returns its input.

    Args:
        widths, branches, rates, activation, tying, noise, operator, corrector, transfer, gamma: what `Cycle` takes.
        weights: module that gives the weights of a stage's smoothing steps, such as `TableWeights`.
        start: "euler" or "copy", how history begins in every stage.
        channels: of the images.
        cycles: number of cycles.
    """

    output: ClassVar = "images"

    def __init__(
        self,
        widths: Sequence[int],
        branches: Sequence[Sequence[int]],
        rates: Sequence[Sequence[float]],
        weights: nn.Module,
        start: str,
        channels: int,
        activation: str = "relu",
        tying: str = "none",
        noise: str = "none",
        operator: str = "convolution",
        corrector: str = "mgnet",
        transfer: str = "cell",
        gamma: int = 1,
        cycles: int = 1,
    ) -> None:
        kinds = {
            "activation": activation,
            "tying": tying,
            "noise": noise,
            "operator": operator,
            "corrector": corrector,
            "transfer": transfer,
            "gamma": gamma,
        }
        shapes = {
            "widths": list(widths),
            "branches": [list(row) for row in branches],
            "rates": [list(row) for row in rates],
        }
        super().__init__({**shapes, "start": start, "channels": channels, **kinds, "cycles": cycles})
        self.start, self.cycles, self.passed = start, cycles, len(widths)
        self.source = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.guess = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.cycle = Cycle(widths, branches, rates, **kinds)  # type: ignore[arg-type]
        self.weights = weights
        self.norm = nn.BatchNorm2d(widths[0]) if CORRECTORS[corrector].normed else nn.Identity()
        self.head = nn.Conv2d(widths[0], channels, 3, 1, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Return images of the same shape, (batch, channels, height, width).

        Raises:
            ValueError: a side does not halve as often as there are coarser levels.
        """
        u, f = self.guess(images), self.source(images)
        steps = [self.weights(stage, u.dtype) for stage in range(self.passed)]
        for _ in range(self.cycles):
            u = self.cycle(u, f, steps, self.start)
        return images + self.head(self.norm(u))  # type: ignore[no-any-return]
