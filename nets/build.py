"""Make the network of a scheme: depth, widths within a budget of parameters, coefficients, stochastic depth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import nn

from odenas.nets.coefficients import LearnedWeights, plain_table
from odenas.nets.residual import ResidualNetwork
from odenas.nets.weights import TableWeights
from odenas.space.catalogue import euler
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme

STAGES = 3
TOLERANCE = 0.01
"""A budget of parameters counts as met within this share; among the widths that meet it, the most regular are taken."""


class SchemeNetwork(ResidualNetwork):
    """A residual network that knows the scheme it was built from, as `scheme`."""

    def __init__(self, scheme: Scheme, **architecture: Any) -> None:
        super().__init__(**architecture)
        self.scheme = scheme


def build(
    scheme: Scheme,
    depth: int = 20,
    classes: int = 10,
    channels: int = 3,
    params: int | None = None,
    width: int | Sequence[int] = 16,
) -> SchemeNetwork:
    """Return the pre-activation residual network of depth 6n + 2 for small images that steps by the scheme.

    Three stages of n blocks with widths 1 : 2 : 4 (He et al. 2016). The first block of each stage is a plain residual
    block, with a projected shortcut where the shape changes; the others step by the scheme, after as many forward Euler
    steps as its start needs (as LM-ResNet does, Lu et al. 2018). Weights are drawn from torch's global generator:
    convolutions from N(0, 2 / (k² outputs)) (He et al. 2015).

    Args:
        scheme: how to step.
        depth: 6n + 2 layers.
        classes, channels: of the data.
        params: if given, the widths are chosen so that the number of parameters comes nearest to it. The scheme's few
            learned coefficients are left out of the account, so that a scheme and its twin have the same widths.
        width: channels of the first stage, or of all three, if `params` is not given.

    Raises:
        OdenasError: no n gives the depth, it is too small for the scheme's history, no width meets the budget, a number
            is no integer, or the scheme's first stage reads slopes that its start does not give.
    """
    given = [("depth", depth), ("classes", classes), ("channels", channels)]
    given += [] if params is None else [("params", params)]
    for name, value in [*given, *(("width", each) for each in (width if isinstance(width, Sequence) else [width]))]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise OdenasError(f"`{name}` is {value!r}, but must be an integer")
    if scheme.start == "copy" and any(scheme.tableau.W[0]):
        raise OdenasError(
            "`start` is 'copy', but the tableau's first stage reads earlier slopes; use the start 'euler'"
        )
    blocks, remainder = divmod(depth - 2, 6)
    if remainder or blocks < 1:
        near = max(8, 6 * round((depth - 2) / 6) + 2)
        raise OdenasError(f"`depth` is {depth}, but must be 6n + 2 for a whole n ≥ 1; the nearest is {near}")
    warmup = _warmup(scheme)
    if blocks <= warmup + 1 and scheme.tableau.steps > 1:
        raise OdenasError(
            f"`depth` is {depth} with {blocks} blocks a stage, but a scheme of {scheme.tableau.steps} steps needs "
            f"{warmup + 2} (depth {6 * (warmup + 2) + 2}) to make one step of its own"
        )
    widths = (width, 2 * width, 4 * width) if isinstance(width, int) else tuple(width)
    if len(widths) != STAGES:
        raise OdenasError(f"`width` has {len(widths)} numbers, but needs one, or {STAGES}: one for each stage")
    for name, value in (("classes", classes), ("channels", channels), ("width", min(widths))):
        if value < 1:
            raise OdenasError(f"`{name}` is {value}, but must be at least 1")
    if params is not None:
        branches = sum(_branches(scheme, blocks))
        widths = _widths(params, branches, classes, channels)
    network = _network(widths, scheme, blocks, classes, channels)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if scheme.coefficients.learning == "learned":
        # Drawn last, so that a scheme and its twin start from the same convolutions.
        network.weights = LearnedWeights(scheme, [blocks - 1 - warmup] * STAGES, widths)
    return network


def parameters(network: nn.Module) -> int:
    """Return the number of trained parameters, the scheme's learned coefficients included."""
    return sum(parameter.numel() for parameter in network.parameters())


def _network(widths: tuple[int, ...], scheme: Scheme, blocks: int, classes: int, channels: int) -> SchemeNetwork:
    branches = _branches(scheme, blocks)
    steps = [blocks - 1 - _warmup(scheme)] * STAGES
    last = max(1, STAGES * blocks - 1)
    rates = [scheme.stochasticity.rate * index / last for index in range(STAGES * blocks)]
    return SchemeNetwork(
        scheme,
        widths=widths,
        branches=[branches] * STAGES,
        drop=[rates[i * blocks : (i + 1) * blocks] for i in range(STAGES)],
        weights=TableWeights(plain_table(scheme), steps),
        start=scheme.start,
        classes=classes,
        channels=channels,
    )


def _warmup(scheme: Scheme) -> int:
    """Return how many blocks of a stage, after its first, are forward Euler steps for want of history."""
    return max(0, scheme.tableau.steps - 2) if scheme.start == "euler" else 0


def _branches(scheme: Scheme, blocks: int) -> list[int]:
    """Return the number of branches of each block of a stage after its first."""
    warmup = _warmup(scheme)
    return [1] * warmup + [scheme.tableau.stages] * (blocks - 1 - warmup)


@cache
def _widths(budget: int, branches: int, classes: int, channels: int) -> tuple[int, ...]:
    """Return the widths with which a network comes nearest to the budget, near to 1 : 2 : 4.

    `branches` is their number in each stage, those of the first block left out; every other one adds the same.
    """

    def count(widths: tuple[int, ...]) -> int:
        none, one = (parameters(_plain(widths, number, classes, channels)) for number in (0, 1))
        return none + branches * (one - none)

    def regular(last: int) -> tuple[int, ...]:
        return max(1, round(last / 4)), max(1, round(last / 2)), last

    smallest = count((1, 1, 1))
    if budget < smallest * (1 - TOLERANCE):
        raise OdenasError(f"`params` is {budget}, but the narrowest network of this depth has {smallest}")
    low, high = 1, 2
    while count(regular(high)) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(regular(middle)) < budget else (low, middle)
    candidates = []
    for last, shift1, shift2 in product((low, high), (-1, 0, 1), (-1, 0, 1)):
        first, second, _ = regular(last)
        widths = (max(1, first + shift1), max(1, second + shift2), last)
        miss = abs(count(widths) / budget - 1)
        irregular = abs(widths[0] * 4 / last - 1) + abs(widths[1] * 2 / last - 1)
        candidates.append((max(miss, TOLERANCE), irregular, miss, widths))
    return min(candidates)[-1]


def _plain(widths: tuple[int, ...], branches: int, classes: int, channels: int) -> ResidualNetwork:
    """Return a network on the meta device, to count its parameters."""
    rows = [[1] * branches] * STAGES
    with torch.device("meta"):
        weights = TableWeights(plain_table(euler()), [branches] * STAGES)
        return ResidualNetwork(widths, rows, [[0.0] * (branches + 1)] * STAGES, weights, "euler", classes, channels)
