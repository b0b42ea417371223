"""Training on small digits: the same twice, the same after a break, and honest about what is not finite."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import SchemeNetwork, build
from odenas.search.data import DATASETS, Data, load
from odenas.search.dataset import DataSet, normalise
from odenas.search.images import Images
from odenas.search.recipe import Recipe
from odenas.search.train import NonFiniteLoss, Training, evaluate, network_state
from odenas.space import Scheme, Stochasticity, scheme

torch.set_num_threads(1)  # as in a worker; more only wait for one another with so small networks

# Digits, as if shifts and mirrors suited them.
SHIFTED = replace(DATASETS["digits"], pad=2, flip=True)
STOCHASTIC = replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.5))
EPOCHS = 3


@pytest.fixture(scope="module")
def data() -> Data:
    full = load("digits", train_size=70)
    return Data(full.train, Images(full.validation.images[:50], full.validation.labels[:50]))


def network(value: Scheme, seed: int = 0) -> SchemeNetwork:
    torch.manual_seed(seed)
    return build(value, 14, channels=1, width=2)


def training(
    data: Data, value: Scheme = STOCHASTIC, seed: int = 0, recipe: Recipe | None = None, data_set: DataSet = SHIFTED
) -> Training:
    recipe = recipe or Recipe(batch_size=16)
    return Training(network(value, seed), data, data_set, recipe, EPOCHS, seed)


def run(one: Training) -> list[dict[str, Any]]:
    """Return the rows of the epochs, without the seconds."""
    rows: list[dict[str, Any]] = []
    one.run(lambda row: rows.append({name: value for name, value in row.items() if name != "seconds"}))
    return rows


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    """Ends a training from within, as a kill would."""


@pytest.mark.parametrize("value", [scheme("euler"), STOCHASTIC, scheme("lm", sharing="channel")])
@pytest.mark.parametrize("after", range(EPOCHS + 1))
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(data: Data, value: Scheme, after: int) -> None:
    whole = training(data, value)
    rows = run(whole)
    assert [row["epoch"] for row in rows] == [1, 2, 3]

    saved = {}
    first = training(data, value)
    if after == 0:
        saved = first.state()

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == after:
            saved.update(first.state())
            raise Stop

    if after:
        with pytest.raises(Stop):
            first.run(stop)
    torch.manual_seed(99)  # nothing hangs on the global generator
    second = Training(network(value, 7), data, SHIFTED, Recipe(batch_size=16), EPOCHS, 55)
    second.restore(saved)
    assert run(second) == rows[after:]
    assert equal(second.state(), whole.state())


def test_the_state_is_a_snapshot_of_plain_tensors(data: Data) -> None:
    one = training(data)
    before = one.state()
    kept = {name: value.clone() for name, value in before.items()}
    run(one)
    assert equal(before, kept)
    after = one.state()
    assert not equal(after, before)
    assert all(value.device.type == "cpu" and value.is_contiguous() and not value.requires_grad
               for value in after.values())  # fmt: skip
    assert network_state(after).keys() == one.network.state_dict().keys()
    assert int(after["epoch"]) == EPOCHS


def test_the_seed_decides_and_nothing_else(data: Data) -> None:
    one, again, other = training(data, seed=3), training(data, seed=3), training(data, seed=4)
    rows = run(one)
    torch.manual_seed(1234)
    assert run(again) == rows
    assert equal(one.state(), again.state())
    assert run(other) != rows


def test_training_leaves_the_global_generator_alone(data: Data) -> None:
    one = training(data)
    before = torch.random.get_rng_state()
    run(one)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_rows_say_what_was_measured(data: Data) -> None:
    one = training(data, scheme("euler"))
    rows = run(one)
    loss, error, _ = evaluate(one.network, data.validation, SHIFTED)
    assert (rows[-1]["validation_loss"], rows[-1]["validation_error"]) == (loss, error)
    batches = 5  # of 70 images
    for index, row in enumerate(rows):
        assert row["learning_rate"] == one.recipe.rate((index + (batches - 1) / batches) / EPOCHS)
        assert 0 <= row["train_error"] <= 100
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_a_huge_learning_rate_is_no_result(data: Data) -> None:
    one = training(data, recipe=Recipe(batch_size=16, learning_rate=1e30))
    with pytest.raises(NonFiniteLoss, match="non-finite loss in epoch 1"):
        run(one)
    assert one.epoch == 0


@pytest.mark.parametrize(
    ("count", "size", "batches"), [(33, 32, 1), (65, 32, 2), (65, 64, 1), (34, 32, 2), (20, 64, 1)]
)
def test_a_single_image_left_over_is_left_out(data: Data, count: int, size: int, batches: int) -> None:
    few = Data(Images(data.train.images[:count], data.train.labels[:count]), data.validation)
    one = training(few, scheme("euler"), recipe=Recipe(batch_size=size))
    seen: list[int] = []
    one.network.register_forward_pre_hook(
        lambda module, arguments: seen.append(len(arguments[0])) if module.training else None
    )
    run(one)
    assert len(seen) == batches * EPOCHS
    assert min(seen) > 1
    assert sum(seen) == EPOCHS * (count - (count % size == 1))


class Constant(nn.Module):
    """Knows the label of an image from its first pixel, or always says 0."""

    def __init__(self, perfect: bool) -> None:
        super().__init__()
        self.perfect = perfect

    def forward(self, images: Tensor) -> Tensor:
        """Return logits that leave no doubt."""
        assert not self.training
        labels = (images[:, 0, 0, 0] * 255 * SHIFTED.std[0] + 255 * SHIFTED.mean[0]).round().long()
        return 50 * nn.functional.one_hot(labels if self.perfect else 0 * labels, 10).float()


@pytest.mark.parametrize("count", [10, 1000, 2030])
def test_evaluation_counts_what_is_wrong(count: int) -> None:
    labels = torch.arange(count) % 10
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = labels.to(torch.uint8)
    split = Images(images, labels)
    assert evaluate(Constant(True), split, SHIFTED)[:2] == pytest.approx((0, 0), abs=1e-12)
    loss, error, _ = evaluate(Constant(False), split, SHIFTED)
    assert error == pytest.approx(90)
    assert loss == pytest.approx(0.9 * 50)


def test_normalised_images_have_mean_0_and_deviation_1() -> None:
    images = load("digits").train.images
    made = normalise(images, DATASETS["digits"])
    assert made.dtype == torch.float32
    assert made.mean().item() == pytest.approx(0, abs=0.02)
    assert made.std().item() == pytest.approx(1, abs=0.02)
    row = DATASETS["digits"]
    assert torch.allclose(made, (images.float() / 255 - row.mean[0]) / row.std[0], atol=1e-5)


def test_learned_coefficients_have_a_rate_of_their_own(data: Data) -> None:
    still = training(data, recipe=Recipe(batch_size=16, coefficient_rate=0))
    before = [value.detach().clone() for value in still.network.weights.parameters()]
    run(still)
    assert all(torch.equal(a, b) for a, b in zip(before, still.network.weights.parameters(), strict=True))
    moving = training(data)
    run(moving)
    assert not any(torch.equal(a, b) for a, b in zip(before, moving.network.weights.parameters(), strict=True))
