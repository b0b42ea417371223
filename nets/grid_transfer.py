"""What carries a function from one grid to the next coarser one and back: restriction and prolongation, trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Transfer(NamedTuple):
    """The stencils, in one dimension, between a grid and the next coarser one; in more they are multiplied.

    A side of n points becomes one of n / 2 (rounded down) and must be one of 2m + `surplus` points. The transposed
    convolution of the correction leaves out `border` points at each end.
    """

    state: tuple[float, ...]
    residual: tuple[float, ...]
    correction: tuple[float, ...]
    border: int
    surplus: int


TRANSFERS: dict[str, Transfer] = {
    # Every other point lies on the coarser grid: injection, full weighting, (bi)linear interpolation (Briggs, Henson
    # and McCormick, A Multigrid Tutorial, 2nd ed. 2000, chapter 3).
    "vertex": Transfer((0, 1, 0), (1 / 4, 1 / 2, 1 / 4), (1 / 2, 1, 1 / 2), border=0, surplus=1),
    # Pixels: two in a row make one. Averages, and (bi)linear interpolation between the centres: constants back would be
    # of too low an order (Trottenberg, Oosterlee and Schüller, Multigrid, 2001, chapter 2).
    "cell": Transfer((1 / 2, 1 / 2), (1 / 2, 1 / 2), (1 / 4, 3 / 4, 3 / 4, 1 / 4), border=1, surplus=0),
}

CONVOLUTIONS: dict[int, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    1: (functional.conv1d, functional.conv_transpose1d),
    2: (functional.conv2d, functional.conv_transpose2d),
}


class Restriction(nn.Module):
    """A convolution with stride 2, (batch, inputs, n, …) to (batch, outputs, n / 2, …), sides rounded down.

    It begins as the stencil on each channel by itself; where there are more outputs than inputs, the rest begin as 0.

    Args:
        stencil: in one dimension.
        inputs, outputs: channels.
        dimensions: of the grid, 1 or 2.
        trained: whether the weights are parameters; else they are a buffer.
    """

    weight: Tensor

    def __init__(
        self, stencil: Sequence[float], inputs: int, outputs: int, dimensions: int = 2, trained: bool = True
    ) -> None:
        super().__init__()
        weight = on_each_channel([stencil] * dimensions, outputs, inputs)
        if trained:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)
        self.convolve = CONVOLUTIONS[dimensions][0]

    def forward(self, fine: Tensor) -> Tensor:
        """Return the function on the coarser grid."""
        return self.convolve(fine, self.weight, stride=2)


class Prolongation(nn.Module):
    """A transposed convolution with stride 2, back from the coarser grid; it begins as `Restriction` does.

    Args:
        stencil: in one dimension.
        border: points left out at each end.
        inputs, outputs: channels, on the coarser grid and the finer one.
        dimensions: of the grid, 1 or 2.
    """

    def __init__(self, stencil: Sequence[float], border: int, inputs: int, outputs: int, dimensions: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(on_each_channel([stencil] * dimensions, inputs, outputs))
        self.border, self.convolve = border, CONVOLUTIONS[dimensions][1]

    def forward(self, coarse: Tensor) -> Tensor:
        """Return the function on the finer grid."""
        return self.convolve(coarse, self.weight, stride=2, padding=self.border)


def on_each_channel(stencils: Sequence[Sequence[float]], rows: int, columns: int) -> Tensor:
    """Return the weights (rows, columns, k, …) of a convolution by a product of stencils on each channel by itself."""
    product = torch.ones(())
    for stencil in stencils:
        product = product.unsqueeze(-1) * torch.tensor(stencil, dtype=torch.get_default_dtype())
    return torch.eye(rows, columns).view(rows, columns, *(1,) * len(stencils)) * product


def check_halving(sides: Sequence[int], levels: int, transfer: str) -> None:
    """Check that grids of these sides have coarser ones, on so many levels with the finest.

    Raises:
        ValueError: a side does not halve so often.
    """
    unit, surplus = 2 ** (levels - 1), TRANSFERS[transfer].surplus
    if all((side + surplus) % unit == 0 and (side + surplus) // unit > surplus for side in sides):
        return
    near = [max(1 + surplus, round((side + surplus) / unit)) * unit - surplus for side in sides]
    form = f"{unit}m − {surplus}" if surplus else f"multiples of {unit}"
    raise ValueError(
        f"`images` are {' × '.join(map(str, sides))}, but a multigrid network of {levels} levels on {transfer}-centred "
        f"grids halves its grid {levels - 1} times and needs sides that are {form}; the nearest is "
        f"{' × '.join(map(str, near))}"
    )
