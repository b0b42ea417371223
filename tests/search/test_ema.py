"""The average of the weights: its numbers, what it leaves alone, how it is saved, and that constraints survive it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial
from torch import Tensor, nn

from odenas.nets import build
from odenas.nets.coefficients import LearnedWeights
from odenas.search.data import DATASETS, Data, load
from odenas.search.ema import WeightAverage
from odenas.search.images import Images
from odenas.search.recipe import Recipe
from odenas.search.train import Training, evaluate, network_state
from odenas.space import Scheme, SearchSpace, Stochasticity, scheme

torch.set_num_threads(1)  # as in a worker; more only wait for one another with so small networks

EPOCHS = 3
PLAIN = Recipe(batch_size=16)
AVERAGED = Recipe(batch_size=16, ema=0.8)


def averages(weights: list[np.ndarray], decay: float) -> np.ndarray:
    """Return the average of weights[0], the first, and those after each step: the sum that the recursion unrolls to."""
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(len(weights) - 1)]
    shares = [np.prod(decays)] + [(1 - decays[i]) * np.prod(decays[i + 1 :]) for i in range(len(decays))]
    assert sum(shares) == pytest.approx(1)
    return np.sum([share * weight for share, weight in zip(shares, weights, strict=True)], axis=0)  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Two uses of one layer, batch norm, and a constant as a scheme's table has them."""

    constant: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("constant", torch.tensor(1 / 3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return something of all."""
        y: Tensor = self.norm(self.again(self.first(x)))
        return y * self.constant.to(x.dtype)


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("steps", [0, 1, 30])
def test_the_average_is_the_sum_that_its_definition_unrolls_to(decay: float, steps: int) -> None:
    torch.manual_seed(0)
    network = Tied().double()
    average = WeightAverage(network, decay)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in network.state_dict()}

    def note() -> None:
        for name, value in network.state_dict().items():
            seen[name].append(value.numpy().copy())

    with average.raw():
        note()
        for _ in range(steps):
            with torch.no_grad():
                for value in network.parameters():
                    value.add_(torch.randn_like(value))
                network.train()(torch.randn(8, 3, dtype=torch.float64))
            average.update()
            note()
    for name, value in network.state_dict().items():
        if name == "norm.num_batches_tracked":
            assert int(value) == steps
        elif name == "constant":
            assert float(value) == 1 / 3  # to the bit
        else:
            assert np.allclose(value.numpy(), averages(seen[name], decay), rtol=1e-12, atol=1e-12), name
    with average.raw():
        assert all(np.array_equal(value.numpy(), seen[name][-1]) for name, value in network.state_dict().items())


def test_tensors_stay_where_and_as_they_are() -> None:
    network = build(scheme("lm"), 14, width=2).to(memory_format=torch.channels_last)
    before = [(value.data_ptr(), value.stride()) for value in network.state_dict().values()]
    average = WeightAverage(network, 0.9)
    with average.raw():
        average.update()
    assert [(value.data_ptr(), value.stride()) for value in network.state_dict().values()] == before
    assert all(value.requires_grad for value in network.parameters())


def four_steps() -> LearnedWeights:
    """Return the weights of a scheme of four steps, learned for each step and zero-stable."""
    space = SearchSpace(
        family=("multistep",), steps=(4,), order=(1,), free_slopes=("zero",), learning=("learned",), sharing=("step",),
        constraint=("zero-stable",), scale=("consistent",), start=("euler",), transition=("restart",), tying=("none",),
        stochasticity=("none",),
    )  # fmt: skip
    value = space.suggest(FixedTrial({"reflection_1": 0.3, "reflection_2": -0.5, "reflection_3": 0.6}))
    return LearnedWeights(value, steps=[2], channels=[1])


def states(weights: LearnedWeights) -> np.ndarray:
    """Return V_0 … V_3 of both steps, shape (2, 4)."""
    return torch.stack([torch.as_tensor(entry) for entry in weights.values(0)["V"]], 1).detach().numpy()


def largest_root(V: np.ndarray) -> float:
    """Return the largest modulus of the roots of ρ(ζ) = ζ⁴ − V_0 ζ³ − … − V_3 but for one root 1."""
    roots = np.roots([1.0, *-V])
    return float(np.abs(np.delete(roots, np.abs(roots - 1).argmin())).max())


def move(weights: LearnedWeights, coordinates: list[float]) -> None:
    """Give both steps these coordinates, the second with signs changed."""
    with torch.no_grad():
        weights.coordinates[0].copy_(torch.tensor([[value, -value] for value in coordinates]))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-2.5, 2.5), min_size=3, max_size=3), min_size=1, max_size=6),
    st.floats(0.05, 0.99),
)
def test_the_average_of_zero_stable_coefficients_is_zero_stable(moves: list[list[float]], decay: float) -> None:
    weights = four_steps()
    average = WeightAverage(weights, decay)
    with average.raw():
        for coordinates in moves:
            move(weights, coordinates)
            average.update()
    for V in states(weights):
        assert V.sum() == pytest.approx(1)
        assert largest_root(V) < 1


def test_the_mean_of_stable_coefficients_themselves_need_not_be_stable() -> None:
    """Why the coordinates are averaged: of degree three, the stable polynomials are no convex set."""
    weights, found = four_steps(), []
    for coordinates in ([-2.5, 2.5, -2.5], [2.5, 2.5, 2.5]):
        move(weights, coordinates)
        found.append(states(weights)[0])
        assert largest_root(found[-1]) < 1
    assert largest_root((found[0] + found[1]) / 2) > 1.5


# Trainings.


@pytest.fixture(scope="module")
def data() -> Data:
    full = load("digits", train_size=70)
    return Data(full.train, Images(full.validation.images[:50], full.validation.labels[:50]))


SHAKEN = replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.5))


def training(data: Data, recipe: Recipe, value: Scheme = SHAKEN, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    network = build(value, 14, channels=1, width=2)
    return Training(network, data, DATASETS["digits"], recipe, EPOCHS, seed)


def run(one: Training, after: Any = None) -> list[dict[str, Any]]:
    """Return the rows of the epochs, without the seconds."""
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> None:
        rows.append({name: value for name, value in row.items() if name != "seconds"})
        if after:
            after(row)

    one.run(note)
    return rows


def test_what_the_optimiser_moves_knows_nothing_of_the_average(data: Data) -> None:
    plain, averaged = training(data, PLAIN), training(data, AVERAGED)
    rows = [run(plain), run(averaged)]
    for column in ("train_loss", "train_error", "learning_rate"):
        assert [row[column] for row in rows[0]] == [row[column] for row in rows[1]]
    assert [row["validation_loss"] for row in rows[0]] != [row["validation_loss"] for row in rows[1]]
    assert averaged.average is not None
    with averaged.average.raw():
        ends = [one.network.state_dict() for one in (plain, averaged)]
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    states = [one.state() for one in (plain, averaged)]
    kept = {name: value for name, value in states[1].items() if name.startswith("optimizer.")}
    assert kept
    assert all(torch.equal(value, states[0][name]) for name, value in kept.items())


def test_the_network_holds_the_average_over_all_steps_and_is_judged_with_it(data: Data) -> None:
    one = training(data, AVERAGED)
    seen = {name: [value.detach().double().numpy().copy()] for name, value in one.network.named_parameters()}

    def note(*_: Any) -> None:
        for name, value in one.network.named_parameters():
            seen[name].append(value.detach().double().numpy().copy())

    one.optimizer.register_step_post_hook(note)

    def check(row: dict[str, Any]) -> None:
        for name, value in one.network.named_parameters():
            expected = averages(seen[name], AVERAGED.ema)
            assert np.allclose(value.detach().numpy(), expected, rtol=1e-4, atol=1e-6), name
        judged = evaluate(one.network, data.validation, DATASETS["digits"])
        assert (row["validation_loss"], row["validation_error"]) == (judged.loss, judged.error)
        assert all(torch.equal(value, one.network.state_dict()[name].cpu())
                   for name, value in network_state(one.state()).items())  # fmt: skip

    run(one, check)
    assert len(seen["stem.weight"]) == 1 + 5 * EPOCHS  # 70 images in batches of 16


@pytest.mark.parametrize("algorithm", ["sgd", "adam"])
@pytest.mark.parametrize("after", range(EPOCHS + 1))
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(data: Data, after: int, algorithm: Any) -> None:
    recipe = AVERAGED.model_copy(update={"algorithm": algorithm, "learning_rate": 0.01, "label_smoothing": 0.1})
    whole = training(data, recipe)
    saved = [whole.state()]
    rows = run(whole, lambda _: saved.append(whole.state()))
    torch.manual_seed(99)
    second = training(data, recipe, seed=7)
    second.restore(saved[after])
    assert run(second) == rows[after:]
    end = second.state()
    assert end.keys() == saved[-1].keys()
    assert all(torch.equal(end[name], saved[-1][name]) for name in end)


def test_a_training_cut_off_within_an_epoch_leaves_the_average_in_the_network(data: Data) -> None:
    one = training(data, AVERAGED)
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    hook = one.optimizer.register_step_pre_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(one)
    hook.remove()
    # No step was taken, but batch norm has seen a batch: that belongs to the weights that the optimiser moves.
    assert all(torch.equal(value, before[name]) for name, value in one.network.state_dict().items())


def test_no_average_is_made_where_none_is_asked_for(data: Data) -> None:
    one = training(data, PLAIN)
    assert one.average is None
    assert not [name for name in one.state() if name.startswith("average.")]
