"""The weights of the steps of a network's stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from odenas.nets.combine import Weight


class Step(NamedTuple):
    """The weights of one step: of states and earlier slopes, newest first, and of this step's stages in turn."""

    V: Sequence[Weight] = (1.0,)
    R: Sequence[Weight] = ()
    B: Sequence[Weight] = (1.0,)
    A: Sequence[Sequence[Weight]] = ((0.0,),)
    U: Sequence[Sequence[Weight]] = ((1.0,),)
    W: Sequence[Sequence[Weight]] = ((),)


EULER = Step()


class TableWeights(nn.Module):
    """The weights of the steps of each stage, as constants.

    Args:
        table: "V", "R", "B" (lists), "A", "U", "W" (lists of lists). A number holds for all steps; None stands for
            numbers of its own for each step (and channel), which are buffers.
        steps: number of steps in each stage.
        channels: channels of each stage, where the numbers are per channel; else None.
    """

    def __init__(self, table: Mapping[str, Any], steps: Sequence[int], channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.table, self.steps, self.channels = dict(table), list(steps), channels and list(channels)
        for stage, count in enumerate(steps):
            for name, index in varying(table):
                shape = (count,) if channels is None else (count, channels[stage])
                self.register_buffer(f"{name}{index}_{stage}", torch.zeros(shape, dtype=torch.float64))

    def forward(self, stage: int, dtype: torch.dtype) -> list[Step]:
        """Return the weights of the steps of one stage, for states of this type."""
        values = {
            name: [getattr(self, f"{name}{j}_{stage}") if entry is None else entry for j, entry in enumerate(row)]
            for name, row in self.table.items()
            if name in ("V", "R", "B")
        }
        return unroll(self.table, values, self.steps[stage], dtype)


def reach(steps: Sequence[Step]) -> tuple[int, int]:
    """Return how many states and earlier slopes the steps read, at least one state."""

    def last(rows: Iterable[Sequence[Weight]]) -> int:
        return max([0, *[j + 1 for row in rows for j, w in enumerate(row) if isinstance(w, Tensor) or w != 0]])

    return (
        max([1, *[last([step.V, *step.U]) for step in steps]]),
        max([0, *[last([step.R, *step.W]) for step in steps]]),
    )


def varying(table: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the places of `table` that hold None: numbers of their own for each step."""
    return [(name, j) for name in ("V", "R", "B") for j, entry in enumerate(table[name]) if entry is None]


def unroll(
    table: Mapping[str, Any], values: Mapping[str, Sequence[Weight]], steps: int, dtype: torch.dtype
) -> list[Step]:
    """Return the weights step by step.

    `values` holds for "V", "R" and "B" an entry for each weight: a number, or a tensor (steps,) or (steps, C), which
    becomes scalars or tensors (C, 1, 1) of type `dtype`.
    """

    def split(entry: Weight) -> Sequence[Weight]:
        if not isinstance(entry, Tensor):
            return [entry] * steps
        if entry.dim() == 1:
            # A scalar does not raise the type of what it multiplies, so it may keep more digits than bfloat16 has.
            return entry.to(torch.promote_types(dtype, torch.float32)).unbind()
        return entry[..., None, None].to(dtype).unbind()

    rows = {name: list(zip(*map(split, entries), strict=True)) or [()] * steps for name, entries in values.items()}
    return [Step(rows["V"][i], rows["R"][i], rows["B"][i], table["A"], table["U"], table["W"]) for i in range(steps)]
