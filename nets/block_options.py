"""What branches take beside shape and activation: channels inside, groups, and how far they may step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from odenas.space.errors import OdenasError
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.scheme import Scheme
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.tableau import Tableau


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
