"""The widths with which a network meets a budget of parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from odenas.space.errors import OdenasError

TOLERANCE = 0.01
"""A budget of parameters counts as met within this share; among the widths that meet it, the most regular are taken."""


def widths_within(
    budget: int, stages: int, count: Callable[[tuple[int, ...]], int], growth: int = 2, multiple: int = 1
) -> tuple[int, ...]:
    """Return the widths with which a network comes nearest to the budget, near to 1 : g : g² … with g = `growth`.

    Args:
        budget: number of parameters.
        stages: number of widths.
        count: the parameters of the network of given widths; growing with each.
        growth: from stage to stage.
        multiple: what every width is to be a multiple of.

    Raises:
        OdenasError: the narrowest network has more parameters.
    """

    def counted(widths: tuple[int, ...]) -> int:
        return count(tuple(multiple * width for width in widths))

    def regular(last: int) -> tuple[int, ...]:
        return tuple(max(1, round(last / growth**i)) for i in reversed(range(stages)))

    smallest = counted((1,) * stages)
    if budget < smallest * (1 - TOLERANCE):
        raise OdenasError(f"`params` is {budget}, but the narrowest network of this depth has {smallest}")
    low, high = 1, 2
    while counted(regular(high)) < budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if counted(regular(middle)) < budget else (low, middle)
    candidates = []
    for last, *shifts in product((low, high), *[(-1, 0, 1)] * (stages - 1)):
        widths = (*(max(1, near + shift) for near, shift in zip(regular(last), shifts, strict=False)), last)
        miss = abs(counted(widths) / budget - 1)
        irregular = sum(abs(width * growth ** (stages - 1 - i) / last - 1) for i, width in enumerate(widths))
        candidates.append((max(miss, TOLERANCE), irregular, miss, widths))
    return tuple(multiple * width for width in min(candidates)[-1])
