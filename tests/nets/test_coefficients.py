"""Learned coefficients: what they keep whatever training does, what they start from, and that all of them learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from odenas.nets import build
from odenas.nets.coefficients import LearnedWeights, constant_weights, tableau_of
from odenas.nets.weights import TableWeights, reach
from odenas.space import Coefficients, Scheme, Tableau, scheme
from odenas.space.feasible import reflections_from_states, slopes_of_order, states_from_reflections
from odenas.space.order import order
from odenas.space.zero_stability import zero_stable

SHARINGS = ("shared", "step", "channel")
STEPS, CHANNELS = (5, 6, 4), (2, 3, 4)


def learned(
    reflections: Sequence[str],
    p: int,
    free: Sequence[str] = (),
    sharing: str = "step",
    scale: str = "consistent",
    constraint: str = "zero-stable",
    spread: float = 0.1,
    bound: float = 0.999,
) -> Scheme:
    """Return a learned scheme of len(reflections) + 1 steps and order p."""
    states = states_from_reflections([Fraction(kappa) for kappa in reflections])
    slopes = [Fraction(weight) for weight in free] or [Fraction(0)] * (len(states) - p)
    return Scheme(
        Tableau.multistep(states, slopes_of_order(states, slopes, p)),
        Coefficients("learned", sharing, constraint, p, spread, bound),
        scale,
    )


# Number of steps, order, free slopes: every combination for two and three steps, one for five.
SHAPES: dict[str, tuple[list[str], int, list[str]]] = {
    "k=2, p=1": (["-1/20"], 1, []),
    "k=2, p=1, free": (["1/4"], 1, ["1/3"]),
    "k=2, p=2": (["0"], 2, []),
    "k=3, p=1": (["1/5", "-1/4"], 1, []),
    "k=3, p=1, free": (["1/5", "-1/4"], 1, ["1/7", "-1/9"]),
    "k=3, p=1, one free": (["1/5", "-1/4"], 1, ["0", "-1/9"]),
    "k=3, p=2": (["0", "1/2"], 2, []),
    "k=3, p=2, free": (["0", "1/2"], 2, ["1/4"]),
    "k=3, p=3": (["0", "0"], 3, []),
    "k=5, p=4, free": (["0", "1/2", "-1/3", "0"], 4, ["1/4"]),
}


def weights_of(value: Scheme) -> LearnedWeights:
    torch.manual_seed(0)
    return LearnedWeights(value, STEPS, CHANNELS)


def rows(weights: LearnedWeights | TableWeights) -> list[tuple[list[float], list[float]]]:
    """Return (V, β) of every step and channel."""
    result = []
    for stage in range(len(STEPS)):
        for step in weights(stage, torch.float64):
            entries = [torch.as_tensor(entry, dtype=torch.float64).flatten() for entry in (*step.V, *step.B, *step.R)]
            table = torch.stack([entry.expand(max(map(len, entries))) for entry in entries]).T.tolist()
            result += [(row[: len(step.V)], row[len(step.V) :]) for row in table]
    return result


def storm(weights: LearnedWeights, rounds: int = 300) -> None:
    """Make optimiser steps with large random gradients of all sizes, as a training that goes wrong would."""
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.SGD(weights.parameters(), lr=0.1, momentum=0.9)
    for _ in range(rounds):
        for coordinate in weights.coordinates:
            size = 10 ** (4 * torch.rand((), generator=generator) - 2)
            coordinate.grad = size * torch.randn(coordinate.shape, generator=generator)
        optimiser.step()


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_training_breaks_zero_stability_or_the_order(shape: str, sharing: str, scale: str) -> None:
    reflections, p, free = SHAPES[shape]
    weights = weights_of(learned(reflections, p, free, sharing, scale))
    before = [entry.detach().clone() for entry in weights.coordinates]
    storm(weights)
    after = torch.cat([entry.detach().flatten() for entry in weights.coordinates])
    assert (after - torch.cat([entry.flatten() for entry in before])).abs().min() > 0.1  # it was a storm
    with torch.no_grad():
        table = rows(weights)
    assert len(table) == sum(STEPS) if sharing != "channel" else sum(np.multiply(STEPS, CHANNELS))
    for V, beta in table[:: 1 + len(table) // 12]:
        assert_zero_stable(V)
        if scale == "consistent":
            assert_order(V, beta, p)
        else:
            # Roundoff of V is all that is known of a ρ'(1), what consistent slopes sum to, that is nearly 0.
            total = 1 + sum(j * v for j, v in enumerate(V))
            assert_order(V, [b * total for b in beta], p, unit=1e-15 * max(map(abs, V)) / total)
            assert sum(beta) == pytest.approx(1, abs=1e-14 * max(map(abs, beta)))


def assert_zero_stable(V: list[float]) -> None:
    """Prove that ρ satisfies the root condition, in rational numbers; ΣV = 1 but for roundoff."""
    assert sum(V) == pytest.approx(1, abs=1e-13)
    earlier = [Fraction(v) for v in V[1:]]
    exact = [1 - sum(earlier, Fraction(0)), *earlier]
    assert zero_stable(Tableau.multistep(exact, (1,)))
    # And all roots but 1 are inside the circle, with a margin.
    quotient = np.cumsum([1.0, *(-v for v in V)])[:-1]
    assert np.abs(np.roots(quotient)).max() < 1


def assert_order(V: list[float], beta: list[float], p: int, unit: float = 0.0) -> None:
    """Check the order conditions Σ_j β_j q (−j)^{q−1} = 1 − Σ_j V_j (−j)^q (Hairer, Nørsett & Wanner I, III.2.4)."""
    for q in range(1, p + 1):
        terms = [b * q * float((-j) ** (q - 1)) for j, b in enumerate(beta)] + [v * (-j) ** q for j, v in enumerate(V)]
        assert sum(terms) == pytest.approx(1, abs=(1e-14 + 10 * unit) * max(map(abs, terms)))


@pytest.mark.parametrize("shape", ["k=2, p=2", "k=3, p=2, free", "k=3, p=3"])
def test_trained_weights_rounded_to_float32_still_have_their_order(shape: str) -> None:
    """As the rest of the project sees them: floats, with an order to the precision of floats."""
    reflections, p, free = SHAPES[shape]
    weights = weights_of(learned(reflections, p, free))
    for coordinate in weights.coordinates:
        torch.nn.init.uniform_(coordinate, -1.0, 1.0)
    with torch.no_grad():
        for V, beta in rows(weights):
            single = [np.array(row, np.float32).astype(float).tolist() for row in (V, beta)]
            tableau = Tableau.multistep(*single)
            assert order(tableau) >= p
            assert zero_stable(tableau)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_without_a_constraint_the_weights_are_those_of_lm_resnet(sharing: str) -> None:
    """V = (1 − k, k) and a slope of weight 1, wherever k goes: Lu et al. 2018, eq. 4."""
    weights = weights_of(scheme("lm", sharing=sharing))
    storm(weights)
    for stage in range(len(STEPS)):
        k = weights.coordinates[0 if sharing == "shared" else stage].detach().double()[0]
        for index, step in enumerate(weights(stage, torch.float64)):
            expected = k if sharing == "shared" else k[index] if sharing == "step" else k[index, :, None, None]
            assert torch.equal(tensor(step.V[1]), expected)
            assert torch.equal(tensor(step.V[0]), 1 - expected)
            assert (*step.B, *step.R) == (1.0, 0.0)


def tensor(weight: Any) -> Tensor:
    assert isinstance(weight, Tensor)
    return weight.detach()


def test_three_free_states_sum_to_one_without_a_constraint() -> None:
    value = learned(["1/5", "-1/4"], 1, ["1/7", "-1/9"], "channel", constraint="none")
    weights = weights_of(value)
    storm(weights)
    with torch.no_grad():
        table = rows(weights)
    assert any(not stable(V) for V, _ in table)  # nothing holds them back
    for V, beta in table:
        assert sum(V) == pytest.approx(1, abs=1e-12 * max(map(abs, V)))
        assert beta == [float(weight) for weight in tableau_of(value).slopes]


def stable(V: list[float]) -> bool:
    return bool(np.abs(np.roots(np.cumsum([1.0, *(-v for v in V)])[:-1])).max() < 1)


def test_lm_resnet_starts_as_in_the_paper() -> None:
    """k uniform in [−0.1, 0], one for each step."""
    torch.manual_seed(0)
    k = torch.cat([entry.detach()[0] for entry in LearnedWeights(scheme("lm"), [300] * 3, [2] * 3).coordinates])
    assert k.shape == (900,)
    assert (k > -0.1 - 1e-8).all()
    assert (k < 1e-8).all()
    assert len(set(k.tolist())) > 890
    quartiles = torch.tensor([-0.075, -0.05, -0.025])
    assert (k.quantile(torch.tensor([0.25, 0.5, 0.75])) - quartiles).abs().max() < 0.01


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("constraint", ["none", "order", "zero-stable"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_without_spread_learning_starts_from_the_tableau(shape: str, sharing: str, constraint: str, scale: str) -> None:
    value = learned(*SHAPES[shape], sharing, scale, constraint, spread=0.0)
    applied = value.applied
    assert isinstance(applied, Tableau)
    with torch.no_grad():
        for V, beta in rows(weights_of(value)):
            expected = [[float(weight) for weight in row] for row in (applied.V, applied.slopes)]
            np.testing.assert_allclose([V, beta], expected, rtol=0, atol=1e-6)


def test_a_tableau_on_the_circle_starts_just_inside_it() -> None:
    """Learned leapfrog, κ = 1: inside the bound, where it still has a gradient."""
    midpoint = Scheme(scheme("midpoint").tableau, Coefficients("learned", order=2))
    for V, beta in rows(weights_of(midpoint).requires_grad_(False)):
        assert 0.99 < V[1] < midpoint.coefficients.bound
        assert beta == pytest.approx([2, 0], abs=0.01)


def test_the_spread_is_that_of_the_coordinates() -> None:
    """Reflection coefficients uniform within the spread, under the constraint too."""
    value = Scheme(scheme("lm").tableau, Coefficients("learned", spread=0.05), scale="absorbed")
    torch.manual_seed(0)
    table = LearnedWeights(value, [500], [2]).requires_grad_(False)(0, torch.float64)
    k = torch.stack([tensor(step.V[1]) for step in table])
    assert -0.1 - 1e-6 < k.min() < -0.098
    assert -0.002 < k.max() < 1e-6


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("constraint", ["none", "order", "zero-stable"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_coordinate_learns(shape: str, sharing: str, constraint: str, scale: str) -> None:
    """A sum of the weights with random factors has a gradient for every coordinate: none is dead."""
    weights = weights_of(learned(*SHAPES[shape], sharing, scale, constraint))
    total = torch.zeros((), dtype=torch.float64)
    for stage in range(len(STEPS)):
        for step in weights(stage, torch.float64):
            for entry in (*step.V, *step.R, *step.B):
                if isinstance(entry, Tensor):
                    total = total + (torch.randn_like(entry) * entry).sum()
    torch.autograd.backward(total)
    for coordinate in weights.coordinates:
        assert coordinate.grad is not None
        assert coordinate.grad.isfinite().all()
        assert coordinate.grad.abs().min() > 1e-7


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("constraint", ["none", "order", "zero-stable"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", ["k=2, p=1", "k=3, p=2, free"])
def test_gradients_of_the_weights_are_those_of_finite_differences(
    shape: str, sharing: str, constraint: str, scale: str
) -> None:
    """V_0 = 1 − ΣV_j and the slopes of the order depend on the coordinates too."""
    weights = weights_of(learned(*SHAPES[shape], sharing, scale, constraint)).double()

    def first_two_steps(coordinate: Tensor) -> Tensor:
        steps = torch.func.functional_call(weights, {"coordinates.0": coordinate}, (0, torch.float64))
        entries = [entry for step in steps[:2] for entry in (*step.V, *step.R, *step.B)]
        return torch.cat([entry.flatten() for entry in entries if isinstance(entry, Tensor)])

    assert torch.autograd.gradcheck(first_two_steps, weights.coordinates[0])


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", ["k=2, p=1", "k=3, p=2, free"])
def test_every_coordinate_learns_inside_a_network(shape: str, sharing: str) -> None:
    """From the logits down, every step's coordinate is in reach; three are not in the code of LM-ResNet's authors."""
    torch.manual_seed(0)
    network = build(learned(*SHAPES[shape], sharing), depth=26, width=4)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    for coordinate in network.weights.parameters():
        assert coordinate.grad is not None
        assert coordinate.grad.abs().min() > 0


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("constraint", ["none", "order", "zero-stable"])
@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_frozen_weights_are_the_learned_ones(shape: str, sharing: str, constraint: str, scale: str) -> None:
    weights = weights_of(learned(*SHAPES[shape], sharing, scale, constraint))
    frozen = weights.frozen()
    assert not list(frozen.parameters())
    assert not any(buffer.requires_grad for buffer in frozen.buffers())
    for stage in range(len(STEPS)):
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            pairs = zip(weights(stage, dtype), frozen(stage, dtype), strict=True)
            for step, constant in pairs:
                assert len(step.V) == len(constant.V)
                for entry, other in zip(
                    (*step.V, *step.R, *step.B), (*constant.V, *constant.R, *constant.B), strict=True
                ):
                    assert type(entry) is type(other) or isinstance(entry, torch.nn.Parameter)
                    assert torch.equal(torch.as_tensor(entry), torch.as_tensor(other))


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize(
    ("shape", "expected"), [("k=3, p=2", (3, 1)), ("k=2, p=1", (2, 0)), ("k=3, p=1", (3, 0)), ("k=3, p=3", (3, 2))]
)
def test_slopes_that_are_not_there_cost_nothing(shape: str, expected: tuple[int, int], scale: str) -> None:
    """A slope of weight 0 that is not learned is not kept in memory, nor added."""
    steps = weights_of(learned(*SHAPES[shape], scale=scale))(0, torch.float32)
    assert reach(steps) == expected


def test_coefficients_keep_float32_digits_in_a_network_of_bfloat16() -> None:
    weights = weights_of(learned(["-1/20"], 1))
    half, single = weights(0, torch.bfloat16), weights(0, torch.float32)
    for step, other in zip(half, single, strict=True):
        assert torch.equal(tensor(step.V[1]), tensor(other.V[1]))


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_under_the_constraint_of_order_the_states_learn_freely_and_the_order_stays(shape: str, sharing: str) -> None:
    """V_1, V_2, … are the coordinates themselves, wherever training takes them; zero-stability is not kept."""
    reflections, p, free = SHAPES[shape]
    weights = weights_of(learned(reflections, p, free, sharing, constraint="order"))
    storm(weights)
    with torch.no_grad():
        table = rows(weights)
        for stage in range(len(STEPS)):
            coordinates = weights.coordinates[0 if sharing == "shared" else stage].double()
            for index, step in enumerate(weights(stage, torch.float64)):
                for j, weight in enumerate(step.V[1:]):
                    own = {"shared": (j,), "step": (j, index), "channel": (j, index, slice(None), None, None)}[sharing]
                    assert torch.equal(tensor(weight), coordinates[own])
    assert any(not stable(V) for V, _ in table)
    for V, beta in table:
        assert sum(V) == pytest.approx(1, abs=1e-12 * max(map(abs, V)))
        assert_order(V, beta, p, unit=1e-14)


@pytest.mark.parametrize("constraint", ["none", "order"])
def test_lm_resnet_absorbed_is_the_same_under_either_constraint(constraint: str) -> None:
    """With one slope, whose weight the field absorbs, the order asks for nothing."""
    weights = weights_of(learned(["-1/20"], 1, scale="absorbed", constraint=constraint))
    storm(weights)
    for step in weights(0, torch.float32):
        assert (*step.B, *step.R) == (1.0, 0.0)


@pytest.mark.parametrize("bound", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("shape", ["k=2, p=1", "k=3, p=1", "k=5, p=4, free"])
def test_no_training_takes_a_reflection_coefficient_to_its_bound(shape: str, bound: float) -> None:
    reflections, p, free = SHAPES[shape]
    weights = weights_of(learned(reflections, p, free, bound=bound))
    storm(weights)
    largest = 0.0
    for coordinate in weights.coordinates:
        kappas = bound * coordinate.detach().double()[: len(reflections)].tanh()
        assert float(kappas.abs().max()) <= bound
        largest = max(largest, float(kappas.abs().max()))
    assert largest > 0.9 * bound
    with torch.no_grad():
        for V, _ in rows(weights)[::4]:
            found = reflections_from_states([Fraction(v) for v in V])
            assert max(map(abs, found)) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("bound", [0.999, 0.6])
def test_what_lies_beyond_the_bound_starts_just_inside_it(bound: float) -> None:
    for V, _ in rows(weights_of(learned(["9/10"], 1, spread=0.0, bound=bound)).requires_grad_(False)):
        assert V[1] == pytest.approx(min(0.9, 0.999 * bound), rel=1e-5)


# One source of the maps for three kinds of numbers.


@pytest.mark.parametrize("order_kept", [1, 2, 3])
def test_the_maps_agree_in_rational_numbers_numpy_and_torch(order_kept: int) -> None:
    """`space.feasible` is one source for all: exact, vectorised, and with gradients."""
    generator = np.random.default_rng(0)
    kappas = generator.uniform(-0.9, 0.9, (3, 20))
    free = generator.uniform(-1, 1, (4 - order_kept, 20))
    in_numpy = states_from_reflections(list(kappas))
    in_torch = states_from_reflections(list(torch.tensor(kappas, requires_grad=True)))
    slopes_numpy = slopes_of_order(in_numpy, list(free), order_kept)
    slopes_torch = slopes_of_order(in_torch, list(torch.tensor(free)), order_kept)
    for i in range(20):
        exact = states_from_reflections([Fraction(kappa) for kappa in kappas[:, i]])
        slopes = slopes_of_order(exact, [Fraction(weight) for weight in free[:, i]], order_kept)
        for fractions, arrays, tensors in ((exact, in_numpy, in_torch), (slopes, slopes_numpy, slopes_torch)):
            for fraction, array, entry in zip(fractions, arrays, tensors, strict=True):
                value = float(array[i]) if isinstance(array, np.ndarray) else float(array)
                assert value == pytest.approx(float(fraction), rel=1e-12, abs=1e-12)
                assert float(entry[i].detach()) == pytest.approx(float(fraction), rel=1e-12, abs=1e-12)
        assert reflections_from_states(exact) == [Fraction(kappa) for kappa in kappas[:, i]]


# A schedule.


def scheduled(
    reflections: Sequence[str], target: Sequence[str], p: int, free: Sequence[str] = (), scale: str = "consistent"
) -> Scheme:
    value = learned(reflections, p, free, scale=scale)
    return replace(value, coefficients=Coefficients("scheduled", order=p, target=tuple(map(Fraction, target))))


SCHEDULES = {
    "k=2, p=1": (["1/3"], ["-9/10"], 1, []),
    "k=2, p=2": (["0"], ["4/5"], 2, []),
    "k=3, p=1, free": (["1/5", "-1/4"], ["-1/5", "1/2"], 1, ["1/7", "0"]),
    "k=3, p=3": (["0", "0"], ["1/2", "0"], 3, []),
    "leapfrog to damped": (["1"], ["1/2"], 1, []),
}


@pytest.mark.parametrize("scale", ["consistent", "absorbed"])
@pytest.mark.parametrize("shape", SCHEDULES)
def test_a_schedule_goes_evenly_from_the_tableau_to_the_target(shape: str, scale: str) -> None:
    """In every stage anew; each step is zero-stable and of its order, in rational numbers, rounded once."""
    reflections, target, p, free = SCHEDULES[shape]
    value = scheduled(reflections, target, p, free, scale)
    weights = constant_weights(value, STEPS)
    assert not list(weights.parameters())
    for stage, count in enumerate(STEPS):
        for index, step in enumerate(weights(stage, torch.float64)):
            share = Fraction(index, count - 1)
            pairs = [(Fraction(a), Fraction(b)) for a, b in zip(reflections, target, strict=True)]
            states = states_from_reflections([a + share * (b - a) for a, b in pairs])
            rest = [Fraction(weight) for weight in free] or [Fraction(0)] * (len(states) - p)
            slopes = slopes_of_order(states, rest, p)
            tableau = Tableau.multistep(states, slopes)
            assert zero_stable(tableau)
            assert order(tableau) >= p
            total = sum(slopes, Fraction(0)) if scale == "absorbed" else Fraction(1)
            assert [float(v) for v in step.V] == [float(v) for v in states]
            assert [float(b) for b in (*step.B, *step.R)] == [float(b / total) for b in slopes]


def test_what_a_schedule_leaves_alone_costs_nothing() -> None:
    """A weight that is the same at every step is a number: none is kept in the state, and slopes of weight 0 are not
    kept in memory."""
    weights = constant_weights(scheduled(["1/3"], ["-9/10"], 1, scale="absorbed"), STEPS)
    assert weights.table["V"] == [None, None]
    assert (weights.table["B"], weights.table["R"]) == ([1.0], [0.0])
    assert set(weights.state_dict()) == {f"V{j}_{stage}" for j in range(2) for stage in range(3)}
    assert reach(weights(0, torch.float32)) == (2, 0)


def test_a_schedule_of_one_step_is_the_tableau() -> None:
    (step,) = constant_weights(scheduled(["1/3"], ["-9/10"], 1), [1])(0, torch.float64)
    assert [float(v) for v in step.V] == [float(Fraction(2, 3)), float(Fraction(1, 3))]
