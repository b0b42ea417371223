"""Make the network of a scheme: its blocks and steps, widths within a budget of parameters, coefficients, noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import nn

from odenas.nets.branch import BLOCKS
from odenas.nets.coefficients import LearnedWeights, constant_weights, tableau_of
from odenas.nets.residual import ResidualNetwork, own_branches
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

STAGES, DEPTH = 3, 20
TOLERANCE = 0.01
"""A budget of parameters counts as met within this share; among the widths that meet it, the most regular are taken."""


class SchemeNetwork(ResidualNetwork):
    """A residual network that knows the scheme it was built from, as `scheme`."""

    def __init__(self, scheme: Scheme, **architecture: Any) -> None:
        super().__init__(**architecture)
        self.scheme = scheme


def build(
    scheme: Scheme,
    depth: int | None = None,
    classes: int = 10,
    channels: int = 3,
    params: int | None = None,
    width: int | Sequence[int] = 16,
) -> SchemeNetwork:
    """Return the pre-activation residual network for small images that steps by the scheme.

    Three stages of n blocks with widths 1 : 2 : 4 (He et al. 2016), of depth 6n + 2, or 9n + 2 with bottlenecks; or as
    many as `scheme.blocks.per_stage` says. The first block of the network is a plain residual block; with the
    transition "restart", so is that of every stage, with a projected shortcut where the shape changes. The others step
    by the scheme, after as many forward Euler steps as its start needs (as LM-ResNet does, Lu et al. 2018). Weights are
    drawn from torch's global generator: convolutions from N(0, 2 / (k² outputs)) (He et al. 2015).

    Args:
        scheme: how to step.
        depth: number of layers along one branch of each block; if not given, what `per_stage` makes, or 20.
        classes, channels: of the data.
        params: if given, the widths are chosen so that the number of parameters comes nearest to it. The scheme's few
            learned coefficients are left out of the account, so that a scheme and its twin have the same widths.
        width: channels of the first stage, or of all stages, if `params` is not given.

    Raises:
        OdenasError: no n gives the depth, it is not that of `per_stage`, the blocks are too few for the scheme's
            history, no width meets the budget, a number is no integer, the scheme's first stage reads slopes that its
            start does not give, its noise does not fit its tableau, or it is no tableau.
    """
    given = [("depth", DEPTH if depth is None else depth), ("classes", classes), ("channels", channels)]
    given += [] if params is None else [("params", params)]
    for name, value in [*given, *(("width", each) for each in (width if isinstance(width, Sequence) else [width]))]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise OdenasError(f"`{name}` is {value!r}, but must be an integer")
    tableau, blocks = _checked_tableau(scheme), _blocks(scheme, depth)
    steps = _steps(scheme, tableau, blocks)
    stages = len(blocks)
    widths = tuple(width * 2**i for i in range(stages)) if isinstance(width, int) else tuple(width)
    if len(widths) != stages:
        raise OdenasError(f"`width` has {len(widths)} numbers, but needs one, or {stages}: one for each stage")
    for name, value in (("classes", classes), ("channels", channels), ("width", min(widths))):
        if value < 1:
            raise OdenasError(f"`{name}` is {value}, but must be at least 1")
    branches = [[1] * (n - own) + [tableau.stages] * own for n, own in zip(blocks, steps, strict=True)]
    if params is not None:
        own = tuple(sum(own_branches(row, scheme.tying)) for row in branches)
        widths = _widths(params, own, scheme.blocks.kind, classes, channels)
    rates = iter(scheme.stochasticity.rates(sum(blocks)))
    network = SchemeNetwork(
        scheme,
        widths=widths,
        branches=branches,
        rates=[[next(rates) for _ in row] for row in branches],
        weights=constant_weights(scheme, steps),
        start=scheme.start,
        classes=classes,
        channels=channels,
        block=scheme.blocks.kind,
        activation=scheme.blocks.activation,
        tying=scheme.tying,
        noise=scheme.stochasticity.kind,
        transition=scheme.transition,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if scheme.coefficients.learning == "learned":
        # Drawn last, so that a scheme and its twin start from the same convolutions.
        network.weights = LearnedWeights(scheme, steps, widths)
    return network


def parameters(network: nn.Module) -> int:
    """Return the number of trained parameters, the scheme's learned coefficients included, shared ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _checked_tableau(scheme: Scheme) -> Tableau:
    tableau, noise = tableau_of(scheme), scheme.stochasticity.kind
    if scheme.start == "copy" and any(tableau.W[0]):
        raise OdenasError("`start` is 'copy', but the tableau's first stage reads earlier slopes; use 'euler'")
    if noise == "shake" and (tableau.stages < 2 or tableau.B[0] != tableau.B[1] or tableau.B[0] == 0):
        raise OdenasError(
            f"`stochasticity` is 'shake' with the weights ({', '.join(map(str, tableau.B))}) of the stages, but needs "
            "two stages or more, the first two of equal weight"
        )
    return tableau


def _blocks(scheme: Scheme, depth: int | None) -> list[int]:
    """Return the number of blocks in each stage."""
    layers, per_stage = BLOCKS[scheme.blocks.kind].layers, scheme.blocks.per_stage
    if per_stage:
        made = layers * sum(per_stage) + 2
        if depth not in (None, made):
            raise OdenasError(f"`depth` is {depth}, but `per_stage` is {list(per_stage)}, which makes {made}")
        return list(per_stage)
    depth, unit = DEPTH if depth is None else depth, layers * STAGES
    blocks, remainder = divmod(depth - 2, unit)
    if remainder or blocks < 1:
        near = max(unit + 2, unit * round((depth - 2) / unit) + 2)
        raise OdenasError(f"`depth` is {depth}, but must be {unit}n + 2 for a whole n ≥ 1; the nearest is {near}")
    return [blocks] * STAGES


def _steps(scheme: Scheme, tableau: Tableau, blocks: Sequence[int]) -> list[int]:
    """Return how many blocks at the end of each stage step by the scheme; those before make forward Euler steps.

    Raises:
        OdenasError: none does, for want of history.
    """
    needed = 1 + (max(0, tableau.steps - 2) if scheme.start == "euler" else 0)
    project = scheme.transition == "project"
    before = [sum(blocks[:i]) if project else 0 for i in range(len(blocks))]
    steps = [n - min(n, max(0, needed - past)) for n, past in zip(blocks, before, strict=True)]
    if not any(steps) and (tableau.steps > 1 or tableau.stages > 1):
        of = f"a scheme of {tableau.steps} steps"
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
    return steps


@cache
def _widths(budget: int, branches: tuple[int, ...], block: str, classes: int, channels: int) -> tuple[int, ...]:
    """Return the widths with which a network comes nearest to the budget, near to 1 : 2 : 4.

    `branches` is the number in each stage that have weights of their own, that of its first block left out.
    """
    stages = len(branches)

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            bare = ResidualNetwork(
                widths, [[1]] * stages, [[0.0]] * stages, nn.Identity(), "euler", classes, channels, block
            )
            of_one = [parameters(BLOCKS[block](width, width)) for width in widths]
        return parameters(bare) + sum(n * one for n, one in zip(branches, of_one, strict=True))

    def regular(last: int) -> tuple[int, ...]:
        return tuple(max(1, round(last / 2**i)) for i in reversed(range(stages)))

    smallest = count((1,) * stages)
    if budget < smallest * (1 - TOLERANCE):
        raise OdenasError(f"`params` is {budget}, but the narrowest network of this depth has {smallest}")
    low, high = 1, 2
    while count(regular(high)) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(regular(middle)) < budget else (low, middle)
    candidates = []
    for last, *shifts in product((low, high), *[(-1, 0, 1)] * (stages - 1)):
        widths = (*(max(1, near + shift) for near, shift in zip(regular(last), shifts, strict=False)), last)
        miss = abs(count(widths) / budget - 1)
        irregular = sum(abs(width * 2 ** (stages - 1 - i) / last - 1) for i, width in enumerate(widths))
        candidates.append((max(miss, TOLERANCE), irregular, miss, widths))
    return min(candidates)[-1]
