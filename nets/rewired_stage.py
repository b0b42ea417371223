"""The steps of a rewired network's stage: what a forward remembers, and what stands in for a block's own forward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from odenas.nets.backbone_blocks import RESIDUALS, kind
from odenas.nets.coefficients import tableau_of
from odenas.nets.combine import Weight
from odenas.nets.integrator import advance
from odenas.nets.noise import NOISES, QUIET
from odenas.nets.weights import EULER, Step, reach
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme


class Rewiring(nn.Module):
    """What a rewired network steps by: the scheme, the weights of its steps by stage, and what was done to each block.

    Args:
        scheme: the scheme.
        weights: module that gives the weights of a stage's steps.
        blocks: the path of each block, and "rewired" or why it is not.
        architecture: "widths" and "branches" of the stages, as `odenas.nets.stepper.Stepper` says.
    """

    def __init__(
        self, scheme: Scheme, weights: nn.Module, blocks: list[tuple[str, str]], architecture: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.scheme, self.weights, self.blocks = scheme, weights, blocks
        self.architecture = dict(architecture)

    def forward(self, x: Tensor) -> Tensor:
        """Return x: where the network is an `nn.Sequential`, it runs through this as its last module."""
        return x


class Frame:
    """What a stage remembers within one forward: the weights of its steps, earlier states and slopes, newest first."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps, self.kept, self.done = steps, reach(steps), 0
        self.states: list[Tensor] = []
        self.slopes: list[Tensor | None] = []


class Frames(threading.local):
    """The frames of each forward that is under way in this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[dict[Stage, Frame]] = [{}]


FRAMES = Frames()


def enter(network: nn.Module, arguments: Any) -> None:
    """Begin a forward with no history; a hook."""
    FRAMES.stack.append({})


def leave(network: nn.Module, arguments: Any, output: Any) -> None:
    """End a forward, however it ends; a hook."""
    # Another's hook that failed before `enter` leaves nothing to take away.
    if len(FRAMES.stack) > 1:
        FRAMES.stack.pop()


class Stage:
    """The steps of consecutive blocks of one shape.

    Args:
        number: which of the network's stages this is.
        count, own: number of branches, and of those at the end that step by the scheme; the others make Euler steps.
        rates: rate of each branch's noise.
        rewiring: the network's scheme and weights.
        channels_last: whether a state is (…, channels).
    """

    def __init__(
        self, number: int, count: int, own: int, rates: Sequence[float], rewiring: Rewiring, channels_last: bool
    ) -> None:
        self.number, self.count, self.own = number, count, own
        self.rewiring, self.channels_last = rewiring, channels_last
        self.remembers = tableau_of(rewiring.scheme).steps > 1
        make = NOISES[rewiring.scheme.stochasticity.variant]
        self.noises = [make(rate) if rate else QUIET for rate in rates]

    def step(
        self, path: str, index: int, x: Tensor, branch: Callable[[Tensor], Tensor], block: Any, shortcut: str | None
    ) -> Tensor:
        """Return the state after branch `index` of the stage, from the state x before it; φ is the caller's.

        Raises:
            OdenasError: the stage's branches are not evaluated one after the other, or the shape has changed.
        """
        frame = self._frame(path, index, x)
        noise = self.noises[index] if block.training else QUIET
        step, slopes, earlier = frame.steps[index], frame.slopes, frame.states
        if earlier and earlier[0].shape != x.shape:
            before, now = tuple(earlier[0].shape), tuple(x.shape)
            raise OdenasError(f"`{path}` is given a state of shape {now}, but the one before in its stage had {before}")
        carry = getattr(block, shortcut) if shortcut else None
        states = [x if carry is None else carry(x), *earlier]
        state, slopes = advance(step, states, slopes, [branch] * len(step.B), noise, [x, *earlier])
        # The newest state comes back as the next x: hooks may have changed it.
        frame.states, frame.slopes = states[: frame.kept[0] - 1], slopes[: frame.kept[1]]
        # What was dropped left nothing but the state itself, which an activation in place must not overwrite.
        return state.clone() if any(state is each for each in states) else state

    def _frame(self, path: str, index: int, x: Tensor) -> Frame:
        """Return the frame for branch `index`; the first begins it, and with the last it is let go."""
        frames = FRAMES.stack[-1]
        frame = frames.get(self)
        if index == 0 or not self.remembers:
            frame = frames[self] = Frame(self._steps(x))
        elif frame is None or frame.done != index:
            raise OdenasError(
                f"`{path}` is called alone or out of turn, but steps with the history of its stage: call the whole "
                "stage in order, without recomputing single blocks"
            )
        elif index == 1 and self.rewiring.scheme.start == "copy":
            # History begins here; the earlier slopes are the first one of this step.
            frame.states, frame.slopes = [x] * (frame.kept[0] - 1), []
        frame.done = index + 1
        if frame.done == self.count:
            del frames[self]
        return frame

    def _steps(self, x: Tensor) -> list[Step]:
        steps = self.rewiring.weights(self.number, x.dtype)
        if self.channels_last:
            steps = [step._replace(V=flat(step.V), R=flat(step.R), B=flat(step.B)) for step in steps]
        return [EULER] * (self.count - self.own) + list(steps)


def flat(weights: Sequence[Weight]) -> list[Weight]:
    """Return weights (C, 1, 1) as (C,), to multiply (…, C)."""
    return [w.flatten() if isinstance(w, Tensor) and w.dim() == 3 else w for w in weights]


class Forward:
    """The forward of one rewired block, in place of its class's; `index` is the place of its first branch."""

    def __init__(self, path: str, block: nn.Module, stage: Stage, index: int) -> None:
        self.path, self.block, self.stage, self.index = path, block, stage, index
        # Taken now: a parametrisation of one of its parameters changes a module's class.
        self.kind = kind(block)

    def __call__(self, x: Tensor, *given: Any, **named: Any) -> Tensor:
        """Return the block's output; all but x goes to its branches."""
        row = RESIDUALS[self.kind]
        for i, branch in enumerate(row.branches):

            def evaluated(y: Tensor, branch: Callable[..., Tensor] = branch) -> Tensor:
                return branch(self.block, y, *given, **named)

            x = self.stage.step(self.path, self.index + i, x, evaluated, self.block, row.shortcut)
            if row.activation:
                x = getattr(self.block, row.activation)(x)
        return x
