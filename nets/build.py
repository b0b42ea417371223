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
from odenas.nets.partitioned import PartitionedNetwork, evaluations, kicks_in_turn, own_half_branches
from odenas.nets.residual import ResidualNetwork, own_branches
from odenas.nets.weights import TableWeights
from odenas.space.blocks import STAGES
from odenas.space.errors import OdenasError
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

DEPTH = 20
TOLERANCE = 0.01
"""A budget of parameters counts as met within this share; among the widths that meet it, the most regular are taken."""


NO_STEPS: dict[str, Any] = {"V": [], "R": [], "B": [], "A": [], "U": [], "W": []}
"""The weights of the steps of a network that has no steps by a tableau."""


class SchemeNetwork(ResidualNetwork):
    """A residual network that knows the scheme it was built from, as `scheme`."""

    def __init__(self, scheme: Scheme, **architecture: Any) -> None:
        super().__init__(**architecture)
        self.scheme = scheme


class PartitionedSchemeNetwork(SchemeNetwork, PartitionedNetwork):
    """A network whose halves step by a partitioned method, and that knows the scheme it was built from."""


def build(
    scheme: Scheme,
    depth: int | None = None,
    classes: int = 10,
    channels: int = 3,
    params: int | None = None,
    width: int | Sequence[int] = 16,
    reversible: bool = False,
) -> SchemeNetwork:
    """Return the pre-activation residual network for small images that steps by the scheme.

    Three stages of n blocks with widths 1 : 2 : 4 (He et al. 2016), of depth 6n + 2, or 9n + 2 with bottlenecks; or as
    many as `scheme.blocks.per_stage` says. The first block of the network is a plain residual block; with the
    transition "restart", so is that of every stage, with a projected shortcut where the shape changes. The others step
    by the scheme, after as many forward Euler steps as its start needs (as LM-ResNet does, Lu et al. 2018). Weights are
    drawn from torch's global generator: convolutions from N(0, 2 / (k² outputs)) (He et al. 2015).

    By a partitioned method the two halves of the channels step in turn, each branch on half the channels; a step has as
    many branches as evaluations, one after the other, and counts as one block in the depth.

    Args:
        scheme: how to step.
        depth: number of layers along one branch of each block; if not given, what `per_stage` makes, or 20.
        classes, channels: of the data.
        params: if given, the widths are chosen so that the number of parameters comes nearest to it. The scheme's few
            learned coefficients are left out of the account, so that a scheme and its twin have the same widths.
        width: channels of the first stage, or of all stages, if `params` is not given.
        reversible: whether training computes the states within a stage again from its last one instead of keeping
            them: its memory then does not grow with depth, and each branch of a step is evaluated once more.

    Raises:
        OdenasError: no n gives the depth, it is not that of `per_stage`, the blocks are too few for the scheme's
            history, no width meets the budget, a number is no integer, the scheme's first stage reads slopes that its
            start does not give, its noise does not fit its tableau, or it is neither a tableau nor a partitioned
            method; or for a partitioned method a width is odd; or `reversible` is asked of steps that cannot be undone.
    """
    given = [("depth", DEPTH if depth is None else depth), ("classes", classes), ("channels", channels)]
    given += [] if params is None else [("params", params)]
    for name, value in [*given, *(("width", each) for each in (width if isinstance(width, Sequence) else [width]))]:
        if isinstance(value, bool) or not isinstance(value, int):
            raise OdenasError(f"`{name}` is {value!r}, but must be an integer")
    tableau, blocks = _checked_tableau(scheme), _blocks(scheme, depth)
    _check_reversible(scheme, reversible)
    steps = _steps(scheme, tableau, blocks)
    stages = len(blocks)
    widths = tuple(width * 2**i for i in range(stages)) if isinstance(width, int) else tuple(width)
    if len(widths) != stages:
        raise OdenasError(f"`width` has {len(widths)} numbers, but needs one, or {stages}: one for each stage")
    for name, value in (("classes", classes), ("channels", channels), ("width", min(widths))):
        if value < 1:
            raise OdenasError(f"`{name}` is {value}, but must be at least 1")
    method = plain_method(tableau) if isinstance(tableau, Partitioned) else None
    each = len(evaluations(method)) if method else tableau.stages
    branches = [[1] * (n - own) + [each] * own for n, own in zip(blocks, steps, strict=True)]
    if params is not None:
        if method:
            own = tuple(own_half_branches(method, count, scheme.tying) for count in steps)
        else:
            own = tuple(sum(own_branches(row, scheme.tying)) for row in branches)
        widths = _widths(params, own, scheme.blocks.kind, classes, channels, 2 if method else 1)
    elif method:
        _check_even(width, widths)
    rates = iter(scheme.stochasticity.rates(sum(blocks)))
    architecture: dict[str, Any] = {
        "widths": widths,
        "branches": branches,
        "rates": [[next(rates) for _ in row] for row in branches],
        "start": scheme.start,
        "classes": classes,
        "channels": channels,
        "block": scheme.blocks.kind,
        "activation": scheme.blocks.activation,
        "tying": scheme.tying,
        "noise": scheme.stochasticity.kind,
        "transition": scheme.transition,
    }
    network: SchemeNetwork
    if method:
        made = {"weights": TableWeights(NO_STEPS, [0] * len(blocks)), "method": method, "reversible": reversible}
        network = PartitionedSchemeNetwork(scheme, **architecture, **made)
    else:
        network = SchemeNetwork(scheme, **architecture, weights=constant_weights(scheme, steps))
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


def plain_method(method: Partitioned) -> dict[str, Any]:
    """Return a partitioned method in plain numbers, JSON-ready."""
    rows = {name: [float(weight) for weight in getattr(method, name)] for name in ("b", "b2")}
    return rows | {name: [[float(weight) for weight in row] for row in getattr(method, name)] for name in ("A", "A2")}


def _checked_tableau(scheme: Scheme) -> Tableau | Partitioned:
    noise = scheme.stochasticity.kind
    if isinstance(scheme.tableau, Partitioned):
        if noise == "shake":
            raise OdenasError(
                "`stochasticity` is 'shake', but needs a tableau with two stages or more of equal weight; the stages "
                "of a partitioned method are in turn: use 'depth' or 'multiplicative'"
            )
        return scheme.tableau
    tableau = tableau_of(scheme)
    if scheme.start == "copy" and any(tableau.W[0]):
        raise OdenasError("`start` is 'copy', but the tableau's first stage reads earlier slopes; use 'euler'")
    if noise == "shake" and (tableau.stages < 2 or tableau.B[0] != tableau.B[1] or tableau.B[0] == 0):
        raise OdenasError(
            f"`stochasticity` is 'shake' with the weights ({', '.join(map(str, tableau.B))}) of the stages, but needs "
            "two stages or more, the first two of equal weight"
        )
    return tableau


def _check_reversible(scheme: Scheme, reversible: object) -> None:
    if not isinstance(reversible, bool):
        raise OdenasError(f"`reversible` is {reversible!r}, but must be true or false")
    if not reversible:
        return
    tableau, noise = scheme.tableau, scheme.stochasticity.kind
    if not isinstance(tableau, Partitioned) or not kicks_in_turn(plain_method(tableau)):
        raise OdenasError(
            "`reversible` is True, but a step of the scheme cannot be undone kick by kick; it needs a partitioned "
            "method by kicks in turn, such as symplectic_euler"
        )
    if noise != "none":
        raise OdenasError(
            f"`reversible` is True, but the noise {noise!r} would be drawn anew where states are computed again; use "
            "'none'"
        )


def _check_even(width: int | Sequence[int], widths: Sequence[int]) -> None:
    """Check that the channels of every stage make two halves."""
    if all(each % 2 == 0 for each in widths):
        return
    near: object = width + 1 if isinstance(width, int) else [each + each % 2 for each in width]
    given = width if isinstance(width, int) else list(width)
    raise OdenasError(
        f"`width` is {given}, but a partitioned method splits the channels into halves and needs even numbers; the "
        f"nearest is {near}"
    )


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


def _steps(scheme: Scheme, tableau: Tableau | Partitioned, blocks: Sequence[int]) -> list[int]:
    """Return how many blocks at the end of each stage step by the scheme; those before make forward Euler steps.

    Raises:
        OdenasError: none does, for want of history.
    """
    needed = 1 + (max(0, tableau.steps - 2) if scheme.start == "euler" else 0)
    project = scheme.transition == "project"
    before = [sum(blocks[:i]) if project else 0 for i in range(len(blocks))]
    steps = [n - min(n, max(0, needed - past)) for n, past in zip(blocks, before, strict=True)]
    of_one_branch = isinstance(tableau, Tableau) and tableau.steps == tableau.stages == 1
    if not any(steps) and not of_one_branch:
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
def _widths(
    budget: int, branches: tuple[int, ...], block: str, classes: int, channels: int, parts: int = 1
) -> tuple[int, ...]:
    """Return the widths with which a network comes nearest to the budget, near to 1 : 2 : 4.

    `branches` is the number in each stage that have weights of their own, that of its first block left out. They act on
    one of the `parts` into which the channels are divided; all but the result counts the channels of one part.
    """
    stages = len(branches)

    def count(widths: tuple[int, ...]) -> int:
        whole = [parts * width for width in widths]
        with torch.device("meta"):
            bare = ResidualNetwork(
                whole, [[1]] * stages, [[0.0]] * stages, nn.Identity(), "euler", classes, channels, block
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
    return tuple(parts * width for width in min(candidates)[-1])
