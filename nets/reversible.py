"""Partitioned steps whose states are computed again from the last one, so that training keeps no other state.

A step made by kicks in turn changes one half of the state by what it reads from the other, y ← y + w f(z), and so is
undone by y ← y − w f(z), with no equation to solve (Gomez et al. 2017, "The Reversible Residual Network", section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Kick(NamedTuple):
    """Adds weight × branch(other half) to one half of the state: 0 for y, the first channels, 1 for z, the others."""

    half: int
    weight: float
    branch: nn.Module


def kicked(kicks: Iterable[Kick], x: Tensor) -> Tensor:
    """Return the state (batch, channels, …) after the kicks, its channels an even number."""
    halves = list(x.chunk(2, 1))
    for half, weight, branch in kicks:
        halves[half] = torch.add(halves[half], branch(halves[1 - half]), alpha=weight)
    return torch.cat(halves, 1)


def unkicked(kicks: Sequence[Kick], x: Tensor) -> Tensor:
    """Return the state before the kicks, from that after them: exact but for rounding errors.

    In training batch normalisation uses the statistics of the batch, as on the way there, and counts nothing.
    """
    halves = list(x.chunk(2, 1))
    with evaluated_again(modes(kicks)):
        for half, weight, branch in reversed(kicks):
            halves[half] = torch.sub(halves[half], branch(halves[1 - half]), alpha=weight)
    return torch.cat(halves, 1)


def recomputed(kicks: Sequence[Kick], x: Tensor) -> Tensor:
    """Return `kicked(kicks, x)`; of its states only the last is kept for the gradient, whatever the number of kicks.

    The gradients are those of `kicked`, for one more evaluation of each branch. Branches must draw no random numbers.
    Under autocast the states are kept in float32 at least: in bfloat16 a kick could not be undone.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
    parameters = {id(p): p for kick in kicks for p in kick.branch.parameters() if p.requires_grad}
    return Recomputed.apply(kicks, x, *parameters.values())  # type: ignore[no-any-return]


class Recomputed(torch.autograd.Function):
    """`kicked(kicks, x)`, with the gradients of x and of the parameters that follow it, each once."""

    @staticmethod
    def forward(ctx: Any, kicks: Sequence[Kick], x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the state after the kicks."""
        device = x.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        halves = _halves(x)
        for half, weight, branch in kicks:
            halves[half].add_(branch(halves[1 - half]), alpha=weight)
        result = torch.cat(halves, 1)
        ctx.kicks, ctx.parameters, ctx.modes = kicks, parameters, modes(kicks)
        fixed = [norm for norm, training in ctx.modes.items() if not training]
        statistics = [s for norm in fixed for s in (norm.running_mean, norm.running_var) if s is not None]
        # Saved for a check that costs no memory: what changes in place before the gradient is an error, as elsewhere.
        ctx.save_for_backward(result, *parameters, *statistics)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and of the parameters, going back through the states."""
        if torch.is_grad_enabled():  # torch's own guard misses second derivatives that do not pass through here
            raise RuntimeError(
                "recomputed steps have first derivatives alone; for second ones set `reversible` to False"
            )
        halves, parts = _halves(ctx.saved_tensors[0]), _halves(gradients[0])
        # All made before the first kick: between its tensors, which come and go, they would leave memory in pieces.
        found = {id(parameter): torch.zeros_like(parameter) for parameter in ctx.parameters}
        with evaluated_again(ctx.modes):
            for half, weight, branch in reversed(ctx.kicks):
                own = [p for p in branch.parameters() if p.requires_grad and id(p) in found]
                with torch.enable_grad(), torch.autocast(*ctx.autocast):
                    other = halves[1 - half].detach().requires_grad_()
                    slope = branch(other)
                of_slope = (weight * parts[half]).to(slope.dtype)
                of_other, *of_own = torch.autograd.grad(slope, [other, *own], of_slope)
                halves[half].sub_(slope.detach(), alpha=weight)
                parts[1 - half].add_(of_other)
                for parameter, gradient in zip(own, of_own, strict=True):
                    found[id(parameter)].add_(gradient)
                del other, slope, of_slope, of_other, of_own
        return None, torch.cat(parts, 1), *found.values()


def _halves(x: Tensor) -> list[Tensor]:
    """Return copies of the halves of the state, to be written on."""
    return [half.clone() for half in x.chunk(2, 1)]


def modes(kicks: Iterable[Kick]) -> dict[Any, bool]:
    """Return the batch normalisations of the branches, each once, and whether they use the statistics of the batch."""
    norms = (module for kick in kicks for module in kick.branch.modules() if isinstance(module, _BatchNorm))
    return {norm: norm.training for norm in norms}


@contextmanager
def evaluated_again(modes: Mapping[Any, bool]) -> Iterator[None]:
    """Evaluate branches again inside this: batch normalisation does what it did, but counts no batch twice."""
    before = [(norm, norm.training, norm.track_running_stats) for norm in modes]
    try:
        for norm, training in modes.items():
            norm.training = training
            norm.track_running_stats = norm.track_running_stats and not training
        yield
    finally:
        for norm, training, tracking in before:
            norm.training, norm.track_running_stats = training, tracking
