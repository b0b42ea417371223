"""Recipes: parameter groups and learning rates."""

import itertools
import math

import pytest
import torch

from odenas.nets import build
from odenas.nets.coefficients import LearnedWeights
from odenas.search.recipe import Recipe
from odenas.space import Scheme, SearchSpace, scheme

RECIPE = Recipe(learning_rate=0.2, momentum=0.8, weight_decay=1e-3, coefficient_rate=0.5)


def learned(sharing: str, constraint: str) -> Scheme:
    from optuna.trial import FixedTrial

    drawn = {"reflection_1": 0.3, "slope_1": 0.25}
    space = SearchSpace(
        family=("multistep",), steps=(2,), order=(1,), free_slopes=("slopes",), learning=("learned",),
        sharing=(sharing,), constraint=(constraint,), scale=("consistent",), start=("euler",), tying=("none",),
        stochasticity=("none",),
    )  # fmt: skip
    return space.suggest(FixedTrial(drawn))


@pytest.mark.parametrize("sharing", ["shared", "step", "channel"])
@pytest.mark.parametrize("constraint", ["none", "zero-stable"])
def test_the_second_group_holds_exactly_the_learned_coordinates(sharing: str, constraint: str) -> None:
    network = build(learned(sharing, constraint), 20, channels=1, width=2)
    first, second = RECIPE.optimizer(network).param_groups
    weights = network.weights
    assert isinstance(weights, LearnedWeights)
    assert [id(value) for value in second["params"]] == [id(value) for value in weights.coordinates]
    assert second["params"]
    assert (first["weight_decay"], second["weight_decay"]) == (1e-3, 0)
    assert (first["scale"], second["scale"]) == (1, 0.5)
    everything = [id(value) for group in (first, second) for value in group["params"]]
    assert sorted(everything) == sorted(id(value) for value in network.parameters())
    assert len(set(everything)) == len(everything)


def test_without_learned_coefficients_there_is_one_group() -> None:
    optimizer = RECIPE.optimizer(build(scheme("ab2"), 14, channels=1, width=2))
    (group,) = optimizer.param_groups
    assert (group["weight_decay"], group["momentum"], group["nesterov"], group["lr"]) == (1e-3, 0.8, True, 0.2)
    assert not Recipe(momentum=0).optimizer(torch.nn.Linear(1, 1)).param_groups[0]["nesterov"]


def test_decay_leaves_the_coefficients_alone() -> None:
    network = build(scheme("lm"), 14, channels=1, width=2)
    optimizer = Recipe(weight_decay=0.5).optimizer(network)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for value in network.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]) == (name.startswith("weights.") or not before[name].any())


def test_cosine_falls_from_the_rate_to_zero() -> None:
    rates = [Recipe(learning_rate=0.4).rate(step / 100) for step in range(101)]
    assert rates[0] == 0.4
    assert rates[50] == pytest.approx(0.2)
    assert rates[100] == pytest.approx(0)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert rates[25] == pytest.approx(0.2 * (1 + math.sqrt(0.5)))


def test_step_falls_tenfold_at_half_and_three_quarters() -> None:
    recipe = Recipe(learning_rate=1, schedule="step")
    assert [recipe.rate(at) for at in (0, 0.499, 0.5, 0.749, 0.75, 0.999)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_adam_is_that_of_loshchilov_and_hutter_in_both_groups() -> None:
    """One step by hand: decay by rate × decay, then the first moment over the root of the second, which is ±1."""
    network = build(scheme("lm"), 14, channels=1, width=2)
    recipe = Recipe(algorithm="adam", learning_rate=0.01, momentum=0.8, weight_decay=0.5)
    optimizer = recipe.optimizer(network)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.999)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for value in network.parameters():
        value.grad = torch.full_like(value, 3.0)
    optimizer.step()
    for name, value in network.named_parameters():
        decay = 0.0 if name.startswith("weights.") else 0.5
        assert torch.allclose(value, before[name] * (1 - 0.01 * decay) - 0.01, atol=1e-6), name


def test_sgd_is_what_a_recipe_means_if_nothing_is_said() -> None:
    assert isinstance(Recipe().optimizer(torch.nn.Linear(1, 1)), torch.optim.SGD)
