"""The linear test: with f(y) = zy a network is a recurrence whose coefficients are polynomials in z. They are read off.

A state has a channel for each power of z, and f moves every channel to the next one: so the modules of the network
compute with polynomials in z, exactly but for rounding. What they give from a history that is none of theirs (the
blocks before add random multiples of the state) determines the recurrence, which has to be the scheme's stability
polynomial, and to have the root e^z as far as the scheme's order goes. Some published networks that are named after
Runge–Kutta methods fail this test.
"""

from __future__ import annotations

from dataclasses import replace
from math import factorial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from odenas.nets import build, coefficients
from odenas.nets.noise import QUIET
from odenas.space import Coefficients, Scheme, Tableau, scheme, schemes
from odenas.space.partitioned import Partitioned
from odenas.space.stability_polynomial import stability_polynomial

Array = NDArray[np.float64]

STEPPED = [name for name in schemes() if isinstance(scheme(name).tableau, Tableau)]
HALVES = [name for name in schemes() if isinstance(scheme(name).tableau, Partitioned)]
THREE_STEPS = Tableau.multistep(("1/2", "1/4", "1/4"), ("9/4", "-1/2", 0))
LEARNED: dict[str, Scheme] = {
    "lm": replace(scheme("lm"), coefficients=Coefficients("learned", "step", "none", spread=0.5)),
    "zero-stable": Scheme(THREE_STEPS, Coefficients("learned", "step", order=1, spread=0.5), scale="absorbed"),
    "of order 1": Scheme(THREE_STEPS, Coefficients("learned", "step", "order", 1, spread=0.5)),
}


class Times(nn.Module):
    """Multiplies the polynomial whose coefficients are the channels by another; no power may go beyond the last."""

    def __init__(self, *factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        assert not x[:, x.shape[1] - len(self.factor) + 1 :].any()
        return sum((c * x.roll(power, 1) for power, c in enumerate(self.factor)), 0 * x)


Z = Times(0.0, 1.0)
START = 4
"""Degree of the polynomials that a history begins with."""


def network_of(value: Scheme, own: int) -> tuple[Any, int]:
    """Return a network whose one stage has so many steps of the scheme's own, and the number of blocks before them."""
    assert isinstance(value.tableau, Tableau)
    before = 1 + (max(0, value.tableau.steps - 2) if value.start == "euler" else 0)
    torch.manual_seed(0)
    network: Any = build(replace(value, blocks=replace(value.blocks, per_stage=(before + own,))), width=2)
    return network.double().eval(), before


@torch.no_grad()
def states_of(network: Any, own: int, before: int) -> Array:
    """Return the states as polynomials, (own + 1, degree + 1): that before the scheme's own steps, and after each."""
    draw = np.random.default_rng(1).uniform(-1, 1, (before + 1, START + 1)).tolist()
    stage, stages = network.stages[0], len(network.scheme.tableau.B)
    stage.first = Times(*draw[0])
    tied = network.scheme.tying == "steps"
    for index, row in enumerate(stage.blocks, start=1):
        for i in range(len(row)):
            row[i] = Z if tied or index >= before else Times(*draw[index])
    degree = START * (before + 1) + own * stages
    x = torch.zeros(1, degree + 2, 1, 1, dtype=torch.float64)
    x[0, : START + 1, 0, 0] = torch.tensor(draw[-1])
    steps, states = network.weights(0, x.dtype), []
    assert len(steps) == own
    for count in range(own + 1):
        stage.count = before + count  # the last `count` of them by the scheme
        (state, *_) = stage([x], steps[:count], network.start, (8, 8))
        states.append(state.flatten().numpy())
    return np.array(states)


def applied(table: Array, states: Array) -> Array:
    """Return Σ_i table_i(z) x_{n+i} as polynomials, for every n for which all of these are there."""
    count = len(states) - len(table) + 1
    return np.array([sum(np.convolve(row, states[n + i]) for i, row in enumerate(table)) for n in range(count)])


def read_off(states: Array, shape: tuple[int, int]) -> Array:
    """Return the one recurrence of this shape, monic in ζ, that the states obey: [i][j] is the entry of ζⁱ zʲ."""
    order, width = shape[0] - 1, shape[1]
    places = [(i, j) for i in range(order) for j in range(width)]
    columns = []
    for place in [*places, (order, 0)]:
        unit = np.zeros(shape)
        unit[place] = 1
        columns.append(applied(unit, states).ravel())
    *left, right = columns
    scale = np.abs(left).max(axis=1)
    solution, _, rank, _ = np.linalg.lstsq((left / scale[:, None]).T, -right, rcond=1e-10)
    assert rank == len(places)
    table = np.zeros(shape)
    table[order, 0] = 1
    table[tuple(np.transpose(places))] = solution / scale
    return table


def polynomial(value: Scheme) -> Array:
    """Return the scheme's stability polynomial; for x'' = f in powers of z², for f is evaluated once for each."""
    table = np.array(stability_polynomial(value.applied), dtype=float)
    assert table[-1][0] == 1
    assert not table[-1][1:].any()
    return table[:, :: value.tableau.derivative] if isinstance(value.tableau, Tableau) else table


def defect(table: Array, count: int, derivative: int = 1) -> Array:
    """Return the first coefficients in powers of z of Σ_i table_i(z^derivative) e^{iz}."""
    total = np.zeros(count)
    for i, row in enumerate(table):
        exponential = [float(i) ** power / factorial(power) for power in range(count)]
        spread = np.zeros(derivative * len(row))
        spread[::derivative] = row
        total += np.convolve(spread, exponential)[:count]
    return total


@pytest.mark.parametrize("name", STEPPED)
def test_the_network_has_the_stability_polynomial_of_its_scheme(name: str) -> None:
    value = scheme(name)
    if value.coefficients.learning == "learned":
        value = replace(value, coefficients=Coefficients())  # learned ones are below
    expected = polynomial(value)
    own = 2 * len(expected) + 1
    network, before = network_of(value, own)
    states = states_of(network, own, before)
    sizes = applied(np.abs(expected), np.abs(states)).max(axis=1)
    assert (np.abs(applied(expected, states)).max(axis=1) <= 1e-14 * sizes).all()
    table = read_off(states, expected.shape)
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-7)
    tableau: Any = value.tableau
    scale = float(sum(tableau.slopes)) if value.scale == "absorbed" else 1.0
    consistent = table * scale ** np.arange(table.shape[1])
    terms = defect(consistent, value.order + tableau.derivative, tableau.derivative)
    np.testing.assert_allclose(terms, 0, atol=1e-6)


@pytest.mark.parametrize("name", LEARNED)
def test_each_step_has_the_polynomial_of_its_learned_coefficients(name: str) -> None:
    """ρ(ζ) − zσ(ζ), read off from one step alone, with the coefficients that `coefficients` tells of that step."""
    value, own = LEARNED[name], 6
    tableau: Any = value.tableau
    network, before = network_of(value, own)
    states = states_of(network, own, before)
    rows = {(row["block"], row["symbol"], row["index"]): row["value"] for row in coefficients(network)}
    seen = []
    for n in range(own - tableau.steps + 1):
        block = before + n + tableau.steps - 1
        V = [rows[block, "V", j] for j in range(tableau.steps)]
        beta = [rows[block, "B", 0], *(rows.get((block, "R", j), 0.0) for j in range(tableau.steps - 1))]
        expected = np.array([*zip([-v for v in V[::-1]], [-b for b in beta[::-1]], strict=True), (1.0, 0.0)])
        table = read_off(states[n : n + tableau.steps + 1], (tableau.steps + 1, 2))
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-9)
        seen.append(V)
    assert np.ptp(seen, axis=0).min() > 1e-2


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("name", HALVES)
def test_partitioned_steps_have_theirs(name: str, reversible: bool) -> None:
    """With y' = zz and z' = zy, whose eigenvalues are ±z; read off from each half alone."""
    value = scheme(name)
    if reversible and name == "coupled_euler":
        pytest.skip("its steps cannot be undone")
    expected = polynomial(value)
    method: Any = value.tableau
    own, start, evaluations = 9, 6, 2 * method.stages
    network: Any = build(value, 20, width=2, reversible=reversible).double().eval()
    stage = network.stages[0]
    for row in stage.steps:
        for i in range(len(row)):
            row[i] = Z
    stage.noises = [QUIET]
    degree = start + own * evaluations
    x = torch.zeros(1, 2 * (degree + 2), 1, 1, dtype=torch.float64)
    x.view(2, -1)[:, : start + 1] = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, start + 1)))
    states = [x]
    for _ in range(own):
        states.append(stage.stepped(states[-1]).detach())
    for half in np.stack([state.view(2, -1).numpy() for state in states], axis=1):
        table = read_off(half, expected.shape)
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(defect(table, value.order + 1), 0, atol=1e-7)


def test_what_a_network_gets_wrong_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stage without the first one's slope, and a weight that is wrong in its third digit."""
    value = scheme("ralston2")
    expected, own = polynomial(value), 7
    network, before = network_of(value, own)
    steps = network.weights(0, torch.float64)
    A = ((0.0, 0.0), (0.0, 0.0))
    for wrong in ({"A": A}, {"B": (0.25, 0.749)}):
        changed = [step._replace(**wrong) for step in steps]
        monkeypatch.setattr(network.weights, "forward", lambda stage, dtype, changed=changed: changed)
        table = read_off(states_of(network, own, before), expected.shape)
        assert np.abs(table - expected).max() > 5e-4
        assert np.abs(defect(table, 3)).max() > 5e-4
