"""Recipes: parameter groups and learning rates."""

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from odenas.nets import build
from odenas.nets.coefficients import LearnedWeights
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS, Data, load
from odenas.search.images import Images
from odenas.search.recipe import SCHEDULES, Recipe
from odenas.search.tasks import TASKS
from odenas.search.train import Training
from odenas.space import OdenasError, Scheme, SearchSpace, scheme

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


# Schedules.

AT = np.linspace(0, 1, 401)[:-1]


def rates(**recipe: Any) -> list[float]:
    return [Recipe(learning_rate=0.4, **recipe).rate(at) for at in AT]


def test_every_schedule_has_a_row_and_a_name() -> None:
    assert set(get_args(Recipe.model_fields["schedule"].annotation)) == set(SCHEDULES)


def test_one_cycle_and_trapezoid_are_lines_between_their_corners() -> None:
    assert rates(schedule="one-cycle") == pytest.approx(np.interp(AT, [0, 0.2, 1], [0, 0.4, 0]))
    assert rates(schedule="one-cycle", warmup=0) == pytest.approx(np.interp(AT, [0, 1], [0.4, 0]))
    assert rates(schedule="trapezoid") == pytest.approx(np.interp(AT, [0, 0.05, 0.8, 1], [0, 0.4, 0.4, 0]))
    corners = rates(schedule="trapezoid", warmup=0.25, cooldown=0.75)
    assert corners == pytest.approx(np.interp(AT, [0, 0.25, 1], [0, 0.4, 0]))
    assert corners == pytest.approx(rates(schedule="one-cycle", warmup=0.25))


def test_a_warmup_goes_before_the_other_schedules() -> None:
    cosine = rates(schedule="cosine", warmup=0.1)
    after = (AT - 0.1) / 0.9
    assert cosine == pytest.approx(np.where(AT < 0.1, 4 * AT, 0.2 * (1 + np.cos(np.pi * after))))
    step = rates(schedule="step", warmup=0.1)
    assert step == pytest.approx(np.where(AT < 0.1, 4 * AT, 0.4 / 10.0 ** ((AT >= 0.5) * 1 + (AT >= 0.75))))


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 0.49), st.floats(1e-3, 0.5), st.floats(1e-6, 100))
def test_a_rate_rises_to_the_one_that_was_asked_for_and_falls(
    schedule: Any, warmup: float, cooldown: float, rate: float
) -> None:
    recipe = Recipe(schedule=schedule, warmup=warmup, cooldown=cooldown, learning_rate=rate)
    found = [recipe.rate(at) for at in sorted([*AT, warmup])]
    top = sorted([*AT, warmup]).index(warmup)
    assert found[top] == pytest.approx(rate)
    assert all(0 <= one <= rate * (1 + 1e-12) for one in found)
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(found[: top + 1]))
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(found[top:]))


def test_what_is_not_said_of_the_warmup_follows_from_the_schedule() -> None:
    names: list[Any] = list(SCHEDULES)
    assert {name: Recipe(schedule=name).warmup for name in names} == {
        "cosine": 0,
        "step": 0,
        "one-cycle": 0.2,
        "trapezoid": 0.05,
    }
    assert Recipe(schedule="one-cycle", warmup=0).warmup == 0
    for name in names:
        recipe = Recipe(schedule=name, ema=0.9, label_smoothing=0.1)
        assert Recipe(**recipe.model_dump(mode="json")) == recipe


def test_what_was_there_before_is_the_same_to_the_last_bit() -> None:
    """The formulas of the first version of this file, on shares of a training as the training loop forms them."""
    for epochs, batches in ((5, 19), (30, 352), (160, 352)):
        for at in [(epoch + batch / batches) / epochs for epoch in range(epochs) for batch in range(batches)]:
            assert Recipe().rate(at) == 0.1 * (1 + math.cos(math.pi * at)) / 2
            assert Recipe(schedule="step").rate(at) == 0.1 / math.pow(10, (at >= 0.5) + (at >= 0.75))
    task = TASKS["classification"]
    assert Recipe().loss(task) is task.loss


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "onecycle"}, "`recipe.schedule` is 'onecycle', but must be 'cosine', 'step', 'one-cycle' or 'trapez"),
    ({"schedule": ["step"]}, "`recipe.schedule` is"),
    ({"warmup": 1}, "`recipe.warmup` is 1, but must be less than 1"),
    ({"warmup": -0.1}, "`recipe.warmup` is -0.1, but must be greater than or equal to 0"),
    ({"warmup": None, "schedule": "one-cycle"}, "`recipe.warmup` is None"),
    ({"cooldown": 0}, "`recipe.cooldown` is 0, but must be greater than 0"),
    ({"schedule": "trapezoid", "warmup": 0.5, "cooldown": 0.6}, "`recipe.cooldown` is 0.6, but must be at most 0.5: "),
    ({"schedule": "trapezoid", "warmup": 0.9}, "`recipe.cooldown` is 0.2, but must be at most 0.1: "),
    ({"label_smoothing": 1}, "`recipe.label_smoothing` is 1, but must be less than 1"),
    ({"label_smoothing": "0.1"}, "`recipe.label_smoothing` is '0.1', but must be a valid number"),
    ({"label_smoothing": math.nan}, "`recipe.label_smoothing` is nan"),
    ({"ema": 1.0}, "`recipe.ema` is 1.0, but must be less than 1"),
    ({"ema": True}, "`recipe.ema` is True, but must be a valid number"),
    ({"smoothing": 0.1}, "`key of recipe` is 'smoothing', .*; did you mean 'label_smoothing'"),
]


@pytest.mark.parametrize(("recipe", "match"), WRONG, ids=[str(recipe) for recipe, _ in WRONG])
def test_what_is_wrong_is_one_line(recipe: dict[str, Any], match: str) -> None:
    with pytest.raises(OdenasError, match=f"^{match}") as error:
        SearchConfig(recipe=recipe)
    assert "\n" not in str(error.value)


# Label smoothing.


@pytest.mark.parametrize("smoothing", [0.01, 0.1, 0.9])
def test_smoothed_cross_entropy_is_that_of_szegedy_et_al(smoothing: float) -> None:
    """H(q', p) of §7 with q' = (1 − ε)δ + ε/K."""
    torch.manual_seed(0)
    logits, labels = torch.randn(12, 7, dtype=torch.float64), torch.randint(7, (12,))
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    q = (1 - smoothing) * np.eye(7)[labels.numpy()] + smoothing / 7
    each = -(q * np.log(p)).sum(1)
    loss = Recipe(label_smoothing=smoothing).loss(TASKS["classification"])
    assert float(loss(logits, labels)) == pytest.approx(each.mean())
    assert float(loss(logits, labels, reduction="sum")) == pytest.approx(each.sum())


def test_the_smoothed_loss_is_minimised_and_the_plain_one_judges() -> None:
    full = load("digits", train_size=64)
    data = Data(full.train, Images(full.validation.images[:50], full.validation.labels[:50]))
    rows: list[dict[str, Any]] = []
    seen: list[float] = []
    for smoothing in (0.0, 0.3):
        torch.manual_seed(0)
        # So low a rate that the weights stay what they are.
        recipe = Recipe(batch_size=64, learning_rate=1e-30, label_smoothing=smoothing)
        one = Training(build(scheme("euler"), 14, channels=1, width=2), data, DATASETS["digits"], recipe, 1, seed=0)
        with torch.no_grad():
            one.network.train()
            logits = one.network(next(one.batches.epoch(64, torch.Generator().manual_seed(0)))[0])
            seen.append(float(-logits.log_softmax(1).mean()))
        one.run(rows.append)
    plain, smooth = rows
    # (1 − ε) H(δ, p) + ε H(u, p); the digits are not augmented, so that a batch of all of them is known.
    assert smooth["train_loss"] == pytest.approx(0.7 * plain["train_loss"] + 0.3 * seen[0], rel=1e-5)
    assert smooth["validation_loss"] == plain["validation_loss"]
    assert smooth["train_loss"] != pytest.approx(plain["train_loss"], rel=1e-5)


def test_no_labels_are_smoothed_where_there_are_none() -> None:
    with pytest.raises(OdenasError, match=r"^`recipe.label_smoothing` is 0.1, but networks that return images .* no"):
        SearchConfig(data="denoise", recipe={"label_smoothing": 0.1})
    assert SearchConfig(data="denoise", recipe={"ema": 0.9, "schedule": "trapezoid"}).recipe.ema == 0.9
    task = TASKS["denoising"]
    assert Recipe().loss(task) is task.loss
