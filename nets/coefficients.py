"""Learned coefficients: free numbers that training moves, mapped to weights that keep the scheme's constraint."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from odenas.nets.combine import Weight
from odenas.nets.weights import Step, TableWeights, unroll, varying
from odenas.space.feasible import reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.scheme import Scheme

BOUND = 0.999
"""Learned reflection coefficients stay in (−BOUND, BOUND): zero-stable, with a margin from the circle."""


class LearnedWeights(nn.Module):
    """The weights of the steps of each stage, learned from the scheme's tableau on.

    The coordinates that learn are, under the constraint "none", the weights V_1, V_2, … of the earlier states
    (V_0 = 1 − ΣV_j; the slopes' weights stay); under "zero-stable", the reflection coefficients, as BOUND × tanh(θ),
    and the free slopes that are not zero. The map is evaluated in float64 whatever the type of the parameters, so that
    an exported network has the very same weights.

    Args:
        scheme: a scheme that learns.
        steps: number of steps in each stage.
        channels: channels of each stage.
    """

    def __init__(self, scheme: Scheme, steps: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.scheme, self.steps, self.channels = scheme, list(steps), list(channels)
        self.table = plain_table(scheme)
        slopes, order = scheme.tableau.slopes, scheme.coefficients.order
        self.free = [weight != 0 for weight in slopes[order:]]
        self.alone = order == 1 and not any(slopes[1:])
        sharing, spread = scheme.coefficients.sharing, scheme.coefficients.spread
        initial = torch.tensor(self._initial(), dtype=torch.float64)
        shapes: dict[str, list[tuple[int, ...]]] = {
            "shared": [()],
            "step": [(count,) for count in steps],
            "channel": list(zip(steps, channels, strict=True)),
        }
        self.coordinates = nn.ParameterList()
        for shape in shapes[sharing]:
            value = initial.view(-1, *(1,) * len(shape)) + spread * (2 * torch.rand(len(initial), *shape) - 1)
            self.coordinates.append(nn.Parameter(self._unbounded(value).float()))

    def forward(self, stage: int, dtype: torch.dtype) -> list[Step]:
        """Return the weights of the steps of one stage, for states of this type."""
        return unroll(self.table, self.values(stage), self.steps[stage], dtype)

    @torch.no_grad()
    def frozen(self) -> TableWeights:
        """Return the present weights as constants."""
        stages = [self.values(stage) for stage in range(len(self.steps))]
        table = dict(self.table)
        for name in ("V", "R", "B"):
            table[name] = [None if isinstance(entry, Tensor) else entry for entry in stages[0][name]]
        channels = self.channels if self.scheme.coefficients.sharing == "channel" else None
        weights = TableWeights(table, self.steps, channels)
        for stage, values in enumerate(stages):
            for name, j in varying(table):
                getattr(weights, f"{name}{j}_{stage}").copy_(values[name][j])
        return weights

    def values(self, stage: int) -> dict[str, list[Weight]]:
        """Return the weights V, R and B of a stage: a number, or a float64 tensor (steps,) or (steps, channels)."""
        coordinates = self.coordinates[0 if len(self.coordinates) == 1 else stage].double()
        if coordinates.dim() == 1:
            coordinates = coordinates[:, None].expand(-1, self.steps[stage])
        # Nothing here asks the scheme for what it computes in rational numbers: `torch.compile` follows every line.
        if self.scheme.coefficients.constraint == "none":
            earlier = list(coordinates.unbind())
            return {"V": [1 - sum(earlier), *earlier], "R": self.table["R"], "B": self.table["B"]}
        reflections = len(self.table["V"]) - 1
        states = states_from_reflections((BOUND * coordinates[:reflections].tanh()).unbind())
        learned = iter(coordinates[reflections:].unbind())
        free: list[Any] = [next(learned) if learns else 0.0 for learns in self.free]
        slopes = slopes_of_order(states, free, self.scheme.coefficients.order)
        if self.scheme.scale == "absorbed":
            # Numbers cost no pass over memory: a single slope's weight 1, and the 0.0 of a slope that is not there.
            total = sum(slopes)
            scaled = [slope / total if isinstance(slope, Tensor) else slope for slope in slopes]
            slopes = [1.0, *free] if self.alone else scaled
        return {"V": states, "R": slopes[1:], "B": slopes[:1]}

    def _initial(self) -> list[float]:
        """Return the coordinates of the scheme's tableau, the reflection coefficients not yet unbounded."""
        tableau, coefficients = self.scheme.tableau, self.scheme.coefficients
        if coefficients.constraint == "none":
            return [float(weight) for weight in tableau.V[1:]]
        reflections = reflections_from_states([Fraction(weight) for weight in tableau.V])
        free = [weight for weight in tableau.slopes[coefficients.order :] if weight != 0]
        return [*map(float, reflections), *map(float, free)]

    def _unbounded(self, value: Tensor) -> Tensor:
        """Return θ with BOUND × tanh(θ) = κ for the reflection coefficients κ, each brought inside the bound."""
        if self.scheme.coefficients.constraint == "none":
            return value
        reflections = self.scheme.tableau.steps - 1
        inside = (value[:reflections] / BOUND).clamp(-0.999, 0.999)
        return torch.cat([inside.atanh(), value[reflections:]])


def plain_table(scheme: Scheme) -> dict[str, Any]:
    """Return the applied tableau of a scheme in plain numbers, JSON-ready."""
    applied = scheme.applied
    rows = {name: [float(weight) for weight in getattr(applied, name)] for name in ("V", "R", "B")}
    matrices = {name: [[float(weight) for weight in row] for row in getattr(applied, name)] for name in ("A", "U", "W")}
    return rows | matrices
