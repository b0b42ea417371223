"""The weights that a scheme's coefficients become: fixed, following a schedule, or learned under a constraint."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from odenas.nets.combine import Weight
from odenas.nets.stepper import stepper_of
from odenas.nets.weights import Step, TableWeights, unroll, varying
from odenas.space.errors import OdenasError
from odenas.space.feasible import reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau


class LearnedWeights(nn.Module):
    """The weights of the steps of each stage, learned from the scheme's tableau on.

    The coordinates that learn are, under the constraint "none", the weights V_1, V_2, … of the earlier states
    (V_0 = 1 − ΣV_j; the slopes' weights stay); under "order", these and the free slopes that are not zero, from which
    the others follow; under "zero-stable", the reflection coefficients, as bound × tanh(θ), in place of V_1, V_2, ….
    The map is evaluated in float64 whatever the type of the parameters, so that an exported network has the very same
    weights. The scale "absorbed" divides by ρ'(1), the sum of the slopes, which only zero-stability keeps from 0.

    Args:
        scheme: a scheme that learns.
        steps: number of steps in each stage.
        channels: channels of each stage.
    """

    def __init__(self, scheme: Scheme, steps: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.scheme, self.steps, self.channels = scheme, list(steps), list(channels)
        self.table = plain_table(scheme)
        slopes, order = tableau_of(scheme).slopes, scheme.coefficients.order
        self.free = [weight != 0 for weight in slopes[order:]]
        self.bound = scheme.coefficients.bound
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
        constraint, steps = self.scheme.coefficients.constraint, len(self.table["V"])
        if constraint == "zero-stable":
            states = states_from_reflections((self.bound * coordinates[: steps - 1].tanh()).unbind())
        else:
            earlier = coordinates[: steps - 1].unbind()
            states = [1 - sum(earlier), *earlier]
        if constraint == "none":
            return {"V": states, "R": self.table["R"], "B": self.table["B"]}
        learned = iter(coordinates[steps - 1 :].unbind())
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
        tableau, coefficients = tableau_of(self.scheme), self.scheme.coefficients
        stable = coefficients.constraint == "zero-stable"
        states = reflections_from_states([Fraction(weight) for weight in tableau.V]) if stable else tableau.V[1:]
        follows = len(tableau.slopes) if coefficients.constraint == "none" else coefficients.order
        free = [weight for weight in tableau.slopes[follows:] if weight != 0]
        return [*map(float, states), *map(float, free)]

    def _unbounded(self, value: Tensor) -> Tensor:
        """Return θ with bound × tanh(θ) = κ for the reflection coefficients κ, each brought inside the bound."""
        if self.scheme.coefficients.constraint != "zero-stable":
            return value
        reflections = len(self.table["V"]) - 1
        inside = (value[:reflections] / self.bound).clamp(-0.999, 0.999)
        return torch.cat([inside.atanh(), value[reflections:]])


def constant_weights(scheme: Scheme, steps: Sequence[int]) -> TableWeights:
    """Return the weights of a scheme that is fixed or follows a schedule, for these numbers of steps in each stage.

    On a schedule the slopes that the order leaves free stay as they are, and the others follow. All is computed in
    rational numbers and rounded once.
    """
    table = plain_table(scheme)
    if scheme.coefficients.learning != "scheduled":
        return TableWeights(table, steps)
    tableau, order = tableau_of(scheme), scheme.coefficients.order
    reflections = reflections_from_states([Fraction(weight) for weight in tableau.V])
    free = [Fraction(weight) for weight in tableau.slopes[order:]]
    rows: list[list[list[Fraction]]] = []
    for count in steps:
        rows.append([])
        for kappas in scheme.coefficients.scheduled(tuple(reflections), count):
            states = states_from_reflections(kappas)
            slopes = slopes_of_order(states, free, order)
            total = sum(slopes) if scheme.scale == "absorbed" else Fraction(1)
            rows[-1].append([*states, *(slope / total for slope in slopes)])
    k = len(table["V"])
    places = [*(("V", j) for j in range(k)), ("B", 0), *(("R", j) for j in range(k - 1))]
    same = [len({row[place] for stage in rows for row in stage}) <= 1 for place in range(2 * k)]
    for (name, j), constant in zip(places, same, strict=True):
        if not constant:
            table[name][j] = None
    weights = TableWeights(table, steps)
    for place, (name, j) in enumerate(places):
        if table[name][j] is None:
            for stage, own in enumerate(rows):
                values = [float(row[place]) for row in own]
                getattr(weights, f"{name}{j}_{stage}").copy_(torch.tensor(values, dtype=torch.float64))
    return weights


def coefficients(network: nn.Module, varying_only: bool = False) -> list[dict[str, Any]]:
    """Return the weights of every step: stage, block, symbol, index, channel (or None) and value, in a flat list.

    Blocks are counted from 0 in each stage; those before the first step of the scheme have none. In a rewired network
    the stages are those that step by the scheme, and a block of two branches counts as two. With `varying_only`,
    weights that are the same fixed number for all steps are left out.
    """
    rows: list[dict[str, Any]] = []
    stepper = stepper_of(network)
    if not hasattr(stepper, "weights"):
        return []  # the network does not step by a tableau
    for stage, blocks in enumerate(stepper.architecture["branches"]):
        steps = stepper.weights(stage, torch.float64)
        for block, step in enumerate(steps, start=len(blocks) - len(steps)):
            for symbol in ("V", "R", "B"):
                for index, entry in enumerate(getattr(step, symbol)):
                    if varying_only and not isinstance(entry, Tensor):
                        continue
                    values = entry.detach().flatten().tolist() if isinstance(entry, Tensor) else [entry]
                    rows += [
                        {
                            "stage": stage,
                            "block": block,
                            "channel": channel if len(values) > 1 else None,
                            "symbol": symbol,
                            "index": index,
                            "value": value,
                        }
                        for channel, value in enumerate(values)
                    ]
    return rows


def tableau_of(scheme: Scheme) -> Tableau:
    """Return the tableau of a scheme.

    Raises:
        OdenasError: the scheme is a method of another kind.
    """
    if not isinstance(scheme.tableau, Tableau):
        kind = type(scheme.tableau).__name__
        raise OdenasError(f"`tableau` is a {kind}, but this network can step by a Tableau alone")
    return scheme.tableau


def plain_table(scheme: Scheme) -> dict[str, Any]:
    """Return the applied tableau of a scheme in plain numbers, JSON-ready."""
    applied = scheme.applied
    rows = {name: [float(weight) for weight in getattr(applied, name)] for name in ("V", "R", "B")}
    matrices = {name: [[float(weight) for weight in row] for row in getattr(applied, name)] for name in ("A", "U", "W")}
    return rows | matrices
