"""Make the networks whose stages step by a tableau or a partitioned method."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from odenas.nets.blocks import BLOCKS
from odenas.nets.coefficients import LearnedWeights, constant_weights, tableau_of
from odenas.nets.implicit import SOLVABLE, first_steps
from odenas.nets.layout import blocks_of, own_steps
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.partitioned import enters_by_block, evaluations, kicks_in_turn, own_half_branches
from odenas.nets.request import Request
from odenas.nets.residual import ResidualNetwork, own_branches
from odenas.nets.weights import TableWeights
from odenas.nets.widths import widths_within
from odenas.space.errors import OdenasError
from odenas.space.implicit import ImplicitMultistep
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.scheme import Scheme
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.tableau import Tableau

Networks = Mapping[type, type[ResidualNetwork]]

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


def made_stepped(networks: Networks, stages: int, growth: int, asked: Request) -> SchemeNetwork:
    """Return the network of stages that step by a scheme.

    Args:
        networks: its class by the kind of method.
        stages: how many there are where nothing else says it.
        growth: of the widths from stage to stage.
        asked: the arguments of `build`.

    Raises:
        OdenasError: as `build` does.
    """
    scheme, method = asked.scheme, type(asked.scheme.tableau)
    if method not in networks:
        known = ", ".join(sorted(kind.__name__ for kind in networks))
        raise OdenasError(f"`tableau` is a {method.__name__}, but a {asked.backbone} network steps by one of {known}")
    _check_reversible(scheme, asked.reversible)
    if asked.stem == "imagenet" and networks[method].output == "images":
        raise OdenasError(
            "`stem` is 'imagenet', which makes images smaller, but a dense network keeps them: use 'plain'"
        )
    blocks = blocks_of(scheme, asked.depth, stages)
    stepped = STEPPED[method](scheme, blocks, asked.reversible)
    rates = iter(scheme.stochasticity.rates(sum(blocks)))
    architecture: dict[str, Any] = {
        "branches": stepped.branches,
        "rates": [[next(rates) for _ in of_stage] for of_stage in stepped.branches],
        "start": scheme.start,
        "classes": asked.classes,
        "channels": asked.channels,
        "block": scheme.blocks.kind,
        "activation": scheme.blocks.activation,
        "tying": scheme.tying,
        "noise": scheme.stochasticity.variant,
        "transition": scheme.transition,
        "shortcut": scheme.blocks.shortcut,
        "stem": asked.stem,
        "stem_width": asked.stem_width,
        "options": block_options(scheme),
        **stepped.options,
    }
    if asked.params is not None:
        widths = _within(asked.params, networks[method], growth, stepped, architecture)
    else:
        widths = _given_widths(asked.width, len(blocks), growth, stepped.parts)
    if asked.stem == "identity" and widths[0] != asked.channels:
        raise OdenasError(
            f"`width` is {widths[0]}, but the stem 'identity' gives the {asked.channels} channel(s) of the images"
        )
    network = networks[method](widths, weights=_constant(scheme, stepped.steps), **architecture)
    for module in [*network.stem.modules(), *network.stages.modules()]:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if scheme.coefficients.learning == "learned":
        # Drawn last, so that a scheme and its twin start from the same convolutions.
        network.weights = LearnedWeights(scheme, stepped.steps, widths)
    return network


def of_decay(method: Any) -> float:
    """Return how large hλ may be for blocks with the eigenvalues −λ ≤ 0; of λh² for x'' = f(x).

    Of two halves with each such a block, one the negative of the other, it is a frequency, as each is in h.
    """
    if isinstance(method, Partitioned):
        return imaginary_interval(method)
    of_second_order = isinstance(method, Tableau) and method.derivative == 2
    return imaginary_interval(method) ** 2 if of_second_order else real_interval(method)


def of_oscillation(method: Any) -> float:
    """Return how large hω may be for blocks with the eigenvalues ±iω; 1 where no step is stable, as forward Euler's."""
    return imaginary_interval(method) or 1.0


# What keeps the step of a kind of block: a function of the applied method.
STABLE: dict[str, Callable[[Any], float]] = {
    "symmetric": of_decay,
    "hamiltonian": of_decay,
    "antisymmetric": of_oscillation,
}


def block_options(scheme: Scheme) -> dict[str, Any]:
    """Return what the branches of a scheme's network take beside shape and activation, JSON-ready.

    Where a kind of block keeps its step stable, that is the scheme's interval of stability, None where it is infinite.

    Raises:
        OdenasError: the scheme is unstable with blocks of this kind whatever the step.
    """
    blocks = scheme.blocks
    options: dict[str, Any] = {} if blocks.inner is None else {"inner": blocks.inner}
    options |= {} if blocks.groups == 1 else {"groups": blocks.groups}
    if blocks.kind in STABLE:
        interval = STABLE[blocks.kind](scheme.applied)
        options["interval"] = interval if interval < math.inf else None
        if not interval:
            raise OdenasError(
                f"`kind` of the blocks is {blocks.kind!r}, but no step of the scheme is stable with such blocks: its "
                "interval of stability is empty"
            )
    return options


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


def _constant(scheme: Scheme, steps: Sequence[int]) -> TableWeights:
    """Return the weights of the steps by a tableau."""
    return constant_weights(scheme, steps) if isinstance(scheme.tableau, Tableau) else TableWeights(NO_STEPS, steps)


def _within(
    params: int, network: type[ResidualNetwork], growth: int, stepped: Steps, architecture: dict[str, Any]
) -> tuple[int, ...]:
    """Return the widths with which the network comes nearest to the budget."""
    counted = ("branches", "rates", "method", "reversible")
    shown = json.dumps({name: value for name, value in architecture.items() if name not in counted}, sort_keys=True)
    method = json.dumps({name: architecture[name] for name in ("method",) if name in architecture})
    made: Callable[..., ResidualNetwork] = network
    return _cached_widths(params, made, growth, tuple(stepped.own), stepped.parts, shown, method)


@lru_cache(maxsize=1024)
def _cached_widths(
    params: int,
    network: Callable[..., ResidualNetwork],
    growth: int,
    own: tuple[int, ...],
    parts: int,
    shown: str,
    method: str,
) -> tuple[int, ...]:
    """Return `_within`. Counted are a network of bare transitions, and one branch for each of a stage's own."""
    architecture: dict[str, Any] = {**json.loads(shown), **json.loads(method)}
    block, stages = BLOCKS[architecture["block"]], len(own)
    entered = parts == 1 or enters_by_block(architecture["block"], architecture["shortcut"])
    bare: dict[str, Any] = {"branches": [[1] * entered] * stages, "rates": [[0.0] * entered] * stages}

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            empty = network(widths, weights=nn.Identity(), **bare, **architecture)
            of_one = [block(width // parts, width // parts, **architecture["options"]) for width in widths]
        return parameters(empty) + sum(n * parameters(one) for n, one in zip(own, of_one, strict=True))

    return widths_within(params, stages, count, growth, parts)


def _given_widths(width: int | Sequence[int], stages: int, growth: int, parts: int) -> tuple[int, ...]:
    """Return the channels of each stage."""
    widths = tuple(width * growth**i for i in range(stages)) if isinstance(width, int) else tuple(width)
    if len(widths) != stages:
        raise OdenasError(f"`width` has {len(widths)} numbers, but needs one, or {stages}: one for each stage")
    if min(widths) < 1:
        raise OdenasError(f"`width` is {min(widths)}, but must be at least 1")
    if any(each % parts for each in widths):
        near: object = width + 1 if isinstance(width, int) else [each + each % 2 for each in width]
        shown = width if isinstance(width, int) else list(width)
        raise OdenasError(
            f"`width` is {shown}, but a partitioned method splits the channels into halves and needs even numbers; the "
            f"nearest is {near}"
        )
    return widths


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


def _check_reversible(scheme: Scheme, reversible: bool) -> None:
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
