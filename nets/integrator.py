"""One step of a scheme, whatever its branches are: what every network here steps by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from torch import Tensor

from odenas.nets.combine import combine, pairs
from odenas.nets.noise import Noise
from odenas.nets.weights import Step


def advance(
    step: Step,
    states: Sequence[Tensor],
    slopes: Sequence[Tensor | None],
    branches: Sequence[Callable[[Tensor], Tensor]],
    noise: Noise,
    read: Sequence[Tensor] = (),
) -> tuple[Tensor, list[Tensor | None]]:
    """Return the new state, and the slopes with that of this step's first stage, newest first.

    Args:
        step: the weights.
        states, slopes: history, newest first. Without slopes, those before are the first one of this step.
        branches: f of each stage.
        noise: of this block.
        read: the states that the first stage reads, where they differ from `states`: as they were before the shape
            changed, where the branch changes it too.
    """
    evaluated: list[Tensor | None] = []
    known = list(slopes)
    for branch, A, U, W in zip(branches, step.A, step.U, step.W, strict=True):
        stage = combine(chain(pairs(U, states if evaluated else read or states), pairs(W, known), pairs(A, evaluated)))
        evaluated.append(noise.slope(branch, stage))
        known = known or [evaluated[0]] * len(step.R)
    terms = chain(pairs(step.V, states), pairs(step.R, known), noise.terms(step.B, evaluated))
    state = noise.state(combine(terms))
    return state, [evaluated[0], *known]
