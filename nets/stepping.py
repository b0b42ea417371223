"""How the stages of a network step, by the kind of method: how many branches each block has, and how many are steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from odenas.nets.blocks import BLOCKS
from odenas.nets.coefficients import constant_weights, tableau_of
from odenas.nets.implicit import SOLVABLE, first_steps
from odenas.nets.layout import own_steps
from odenas.nets.partitioned import enters_by_block, evaluations, kicks_in_turn, own_half_branches
from odenas.nets.residual import own_branches
from odenas.nets.weights import TableWeights
from odenas.space.errors import OdenasError
from odenas.space.implicit import ImplicitMultistep
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

NO_STEPS: dict[str, Any] = {"V": [], "R": [], "B": [], "A": [], "U": [], "W": []}
"""The weights of the steps of a network that has no steps by a tableau."""


class Steps(NamedTuple):
    """How the stages of a network step: what the kind of method makes of a scheme.

    Fields: `branches`, the number of branches of each block, by stage; `steps`, how many blocks at the end of each
    stage step by the tableau; `own`, how many branches with weights of their own each stage has beside its first;
    `parts` into which the channels are divided; `options` of the network.
    """

    branches: list[list[int]]
    steps: list[int]
    own: list[int]
    parts: int
    options: dict[str, Any]


def plain_method(method: Partitioned) -> dict[str, Any]:
    """Return a partitioned method in plain numbers, JSON-ready."""
    rows = {name: [float(weight) for weight in getattr(method, name)] for name in ("b", "b2")}
    return rows | {name: [[float(weight) for weight in row] for row in getattr(method, name)] for name in ("A", "A2")}


def by_tableau(scheme: Scheme, blocks: Sequence[int], reversible: bool) -> Steps:
    """Return how stages step by a tableau."""
    del reversible  # refused before
    tableau = checked_tableau(scheme)
    of_one_branch = tableau.steps == tableau.stages == 1
    steps = own_steps(scheme, tableau.steps, of_one_branch, blocks)
    branches = [[1] * (n - own) + [tableau.stages] * own for n, own in zip(blocks, steps, strict=True)]
    return Steps(branches, steps, [sum(own_branches(row, scheme.tying)) for row in branches], 1, {})


def by_halves(scheme: Scheme, blocks: Sequence[int], reversible: bool) -> Steps:
    """Return how the halves of stages step by a partitioned method."""
    if scheme.stochasticity.kind == "shake":
        raise OdenasError(
            "`stochasticity` is 'shake', but needs a tableau with two stages or more of equal weight; the stages "
            "of a partitioned method are in turn: use 'depth' or 'multiplicative'"
        )
    method, entered = plain_method(scheme.applied), enters_by_block(scheme.blocks.kind, scheme.blocks.shortcut)  # type: ignore[arg-type]
    if entered:
        own_steps(scheme, 1, False, blocks)
    branches = [[1] * entered + [len(evaluations(method))] * (n - entered) for n in blocks]
    own = [own_half_branches(method, n - entered, scheme.tying) for n in blocks]
    return Steps(branches, [0] * len(blocks), own, 2, {"method": method, "reversible": reversible})


def by_solving(scheme: Scheme, blocks: Sequence[int], reversible: bool) -> Steps:
    """Return how stages step by an implicit method, every block a step."""
    del reversible  # refused before
    if scheme.blocks.kind not in SOLVABLE:
        raise OdenasError(
            f"`kind` of the blocks is {scheme.blocks.kind!r}, but the steps of an implicit method are solved with "
            f"blocks that have no batch normalisation and keep the shape: {' or '.join(map(repr, SOLVABLE))}"
        )
    if scheme.stochasticity.kind == "shake":
        raise OdenasError(
            "`stochasticity` is 'shake', but needs two stages or more of equal weight, and a step of an implicit "
            "method has one: use 'depth' or 'multiplicative'"
        )
    assert isinstance(scheme.tableau, ImplicitMultistep)
    method = {name: [float(weight) for weight in getattr(scheme.tableau, name)] for name in ("states", "slopes")}
    least = first_steps(method) + 1
    if max(blocks) < least:
        layers = BLOCKS[scheme.blocks.kind].layers
        raise OdenasError(
            f"`depth` is {layers * sum(blocks) + 2} with {max(blocks)} blocks a stage, but the implicit method needs "
            f"{least} (depth {layers * len(blocks) * least + 2}) to make one step of its own"
        )
    own = [0 if scheme.tying == "steps" else n - 1 for n in blocks]
    return Steps([[1] * n for n in blocks], [0] * len(blocks), own, 1, {"method": method})


STEPPED: dict[type, Callable[[Scheme, Sequence[int], bool], Steps]] = {
    Tableau: by_tableau,
    Partitioned: by_halves,
    ImplicitMultistep: by_solving,
}


def constant(scheme: Scheme, steps: Sequence[int]) -> TableWeights:
    """Return the weights of the steps by a tableau."""
    return constant_weights(scheme, steps) if isinstance(scheme.tableau, Tableau) else TableWeights(NO_STEPS, steps)


def checked_tableau(scheme: Scheme) -> Tableau:
    """Return the tableau of a scheme that blocks can step by.

    Raises:
        OdenasError: the start gives no slopes that the first stage reads, or the noise does not fit the tableau.
    """
    tableau, noise = tableau_of(scheme), scheme.stochasticity.kind
    if scheme.start == "copy" and any(tableau.W[0]):
        raise OdenasError("`start` is 'copy', but the tableau's first stage reads earlier slopes; use 'euler'")
    if noise == "shake" and (tableau.stages < 2 or tableau.B[0] != tableau.B[1] or tableau.B[0] == 0):
        raise OdenasError(
            f"`stochasticity` is 'shake' with the weights ({', '.join(map(str, tableau.B))}) of the stages, but needs "
            "two stages or more, the first two of equal weight"
        )
    return tableau


def check_reversible(scheme: Scheme, reversible: bool) -> None:
    """Check that the steps of a scheme can be undone, if that is asked for.

    Raises:
        OdenasError: they cannot.
    """
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
