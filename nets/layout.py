"""How many blocks each stage of a network has, and how many of them step by the scheme."""

from __future__ import annotations

from collections.abc import Sequence

from odenas.nets.blocks import BLOCKS
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme

DEPTH = 20
"""Layers of a network where nothing says how many."""


def blocks_of(scheme: Scheme, depth: int | None, stages: int) -> list[int]:
    """Return the number of blocks in each stage, of a network of so many stages where `per_stage` says nothing.

    Raises:
        OdenasError: no n gives the depth, or it is not that of `per_stage`.
    """
    layers, per_stage = BLOCKS[scheme.blocks.kind].layers, scheme.blocks.per_stage
    if per_stage:
        made = layers * sum(per_stage) + 2
        if depth not in (None, made):
            raise OdenasError(f"`depth` is {depth}, but `per_stage` is {list(per_stage)}, which makes {made}")
        return list(per_stage)
    depth, unit = DEPTH if depth is None else depth, layers * stages
    blocks, remainder = divmod(depth - 2, unit)
    if remainder or blocks < 1:
        near = max(unit + 2, unit * round((depth - 2) / unit) + 2)
        raise OdenasError(f"`depth` is {depth}, but must be {unit}n + 2 for a whole n ≥ 1; the nearest is {near}")
    return [blocks] * stages


def own_steps(scheme: Scheme, steps: int, of_one_branch: bool, blocks: Sequence[int]) -> list[int]:
    """Return how many blocks at the end of each stage step by the scheme; those before make forward Euler steps.

    Args:
        scheme: whose start and transition count.
        steps: number of states that a step reads.
        of_one_branch: whether a step is one branch alone, as forward Euler's is.
        blocks: of each stage.

    Raises:
        OdenasError: none does, for want of history.
    """
    needed = 1 + (max(0, steps - 2) if scheme.start == "euler" else 0)
    project = scheme.transition == "project"
    before = [sum(blocks[:i]) if project else 0 for i in range(len(blocks))]
    own = [n - min(n, max(0, needed - past)) for n, past in zip(blocks, before, strict=True)]
    if any(own) or of_one_branch:
        return own
    of = f"a scheme of {steps} steps"
    if scheme.blocks.per_stage:
        where = "in all" if project else "in a stage"
        raise OdenasError(
            f"`per_stage` is {list(blocks)}, but {of} needs {needed + 1} blocks {where} to make one step of its own"
        )
    layers = BLOCKS[scheme.blocks.kind].layers
    least = -(-(needed + 1) // len(blocks)) if project else needed + 1
    raise OdenasError(
        f"`depth` is {layers * sum(blocks) + 2} with {blocks[0]} blocks a stage, but {of} needs "
        f"{least} (depth {layers * len(blocks) * least + 2}) to make one step of its own"
    )
