"""Make a multigrid network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from odenas.nets.coefficients import LearnedWeights, constant_weights
from odenas.nets.multigrid import MultigridNetwork
from odenas.nets.network import SchemeNetwork, parameters
from odenas.nets.request import Request
from odenas.nets.stepping import checked_tableau
from odenas.nets.widths import widths_within
from odenas.space.blocks import STAGES
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme

LAYERS = 2
"""The convolutions in a slope of the smoother: A and B."""

SMOOTHING = 2
"""Smoothing steps of a stage where nothing says how many."""

# From the kind of the scheme's blocks to what its smoother is made of.
KINDS: dict[str, dict[str, str]] = {
    "basic": {"operator": "convolution", "corrector": "mgnet"},
    "symmetric": {"operator": "diffusion", "corrector": "linear"},
}


def made_multigrid(asked: Request) -> SchemeNetwork:
    """Return the multigrid network, from images to images, whose smoother steps by the scheme.

    A V-cycle on L levels, 3 if `width` is no list of L, passes 2L − 1 stages of n smoothing steps each: down, the
    coarsest, and up. With two layers for a step, the first and the last one, its depth is 2 (2L − 1) n + 2, by itself
    with n = 2. `per_stage` of the scheme's blocks may say the smoothing steps of each stage instead. Blocks of the kind
    "basic" make a smoother as of MgNet, "symmetric" ones diffusion. No step changes the shape: a stage begins with as
    many forward Euler steps as the scheme's start needs for its history, by "copy" with none.

    With `width` a number, all levels have that many channels; with `params`, nearly the same.

    Raises:
        OdenasError: the scheme steps by no tableau, carries history from stage to stage, or has blocks that make no
            smoother; no n gives the depth, or it is not that of `per_stage`, which has an even number of stages; the
            steps are too few for the history; no width meets the budget; or a stem or `reversible` is asked for.
    """
    scheme = asked.scheme
    tableau = checked_tableau(scheme)
    _check(asked)
    counts = _smoothing_steps(asked)
    euler = tableau.steps - 1 if scheme.start == "euler" else 0
    steps = [max(0, count - euler) for count in counts]
    if not any(steps):
        field, least = "per_stage" if scheme.blocks.per_stage else "depth", euler + 1
        raise OdenasError(
            f"`{field}` makes {max(counts)} smoothing step(s) a stage, but a scheme of {tableau.steps} steps needs "
            f"{least} (depth {LAYERS * len(counts) * least + 2}) to make one of its own"
        )
    rates = iter(scheme.stochasticity.rates(sum(counts)))
    architecture: dict[str, Any] = {
        "branches": [[1] * (n - own) + [tableau.stages] * own for n, own in zip(counts, steps, strict=True)],
        "rates": [[next(rates) for _ in range(n)] for n in counts],
        "start": scheme.start,
        "channels": asked.channels,
        "activation": scheme.blocks.activation,
        "tying": scheme.tying,
        "noise": scheme.stochasticity.variant,
        **KINDS[scheme.blocks.kind],
    }
    levels = len(counts) // 2 + 1
    if asked.params is None:
        widths = mirrored(_given(asked.width, levels))
    else:
        # Noise adds no parameters, and many schemes differ in it alone.
        counted = architecture | {"rates": [[0.0] * n for n in counts], "noise": "none"}
        widths = mirrored(_within(asked.params, levels, json.dumps(counted)))
    network = MultigridNetwork(widths, weights=constant_weights(scheme, steps), **architecture)
    if scheme.coefficients.learning == "learned":
        # Drawn last, so that a scheme and its twin start from the same convolutions.
        network.weights = LearnedWeights(scheme, steps, widths)
    return network


def mirrored(widths: Sequence[int]) -> list[int]:
    """Return the channels of each stage from those of each level: on the way up as on the way down."""
    return [*widths, *list(widths)[-2::-1]]


def _check(asked: Request) -> None:
    blocks = asked.scheme.blocks
    if blocks.kind not in KINDS:
        raise OdenasError(
            f"`kind` of the blocks is {blocks.kind!r}, but the smoother of a multigrid network is made of one of "
            f"{', '.join(KINDS)}"
        )
    needed = {
        "transition": (asked.scheme.transition, "restart", "changes u between its stages"),
        "reversible": (asked.reversible, False, "has no steps to undo"),
        "stem": (asked.stem, "plain", "has first layers of its own"),
        "stem_width": (asked.stem_width, None, "has first layers of its own"),
        "inner": (blocks.inner, None, "has a smoother of its own"),
        "shortcut": (blocks.shortcut, "projection", "has restrictions of its own"),
    }
    for name, (given, value, reason) in needed.items():
        if given != value:
            raise OdenasError(f"`{name}` is {given!r}, but a multigrid network {reason} and needs {value!r}")


def _smoothing_steps(asked: Request) -> list[int]:
    """Return the number of smoothing steps of each stage."""
    depth, per_stage = asked.depth, list(asked.scheme.blocks.per_stage)
    if per_stage:
        return _as_said(asked.scheme, depth)
    stages = 2 * (STAGES if isinstance(asked.width, int) else len(asked.width)) - 1
    unit = LAYERS * stages
    if depth is None:
        return [SMOOTHING] * stages
    steps, remainder = divmod(depth - 2, unit)
    if remainder or steps < 1:
        near = max(unit + 2, unit * round((depth - 2) / unit) + 2)
        raise OdenasError(
            f"`depth` is {depth}, but must be {unit}n + 2 for a whole n ≥ 1, the smoothing steps of a stage; the "
            f"nearest is {near}"
        )
    return [steps] * stages


def _as_said(scheme: Scheme, depth: int | None) -> list[int]:
    """Return the smoothing steps of each stage that `per_stage` says."""
    per_stage = list(scheme.blocks.per_stage)
    if len(per_stage) % 2 == 0:
        raise OdenasError(
            f"`per_stage` is {per_stage}, but a V-cycle passes an odd number of stages, down, the coarsest and up; the "
            f"nearest is {[*per_stage, per_stage[-1]]}"
        )
    made = LAYERS * sum(per_stage) + 2
    if depth not in (None, made):
        raise OdenasError(f"`depth` is {depth}, but `per_stage` is {per_stage}, which makes {made}")
    return per_stage


def _given(width: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    """Return the channels of each level."""
    widths = (width,) * levels if isinstance(width, int) else width
    if len(widths) != levels:
        raise OdenasError(f"`width` has {len(widths)} numbers, but needs one, or {levels}: one for each level")
    if min(widths) < 1:
        raise OdenasError(f"`width` is {min(widths)}, but must be at least 1")
    return widths


@lru_cache(maxsize=256)
def _within(params: int, levels: int, architecture: str) -> tuple[int, ...]:
    """Return the channels of each level with which the network comes nearest to the budget."""

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            network = MultigridNetwork(mirrored(widths), weights=nn.Identity(), **json.loads(architecture))
        return parameters(network)

    return widths_within(params, levels, count, growth=1)
