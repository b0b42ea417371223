"""What is asked of a network on noisy images: the same by every trial, apart from training, exact after a break."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import SchemeNetwork, build
from odenas.search.data import DATASETS, Data, load
from odenas.search.dataset import normalise
from odenas.search.gaussian_noise import SIGMAS, fixed_noise
from odenas.search.images import Images
from odenas.search.psnr import psnr
from odenas.search.recipe import Recipe
from odenas.search.tasks import NOISE_LEVELS, TASKS, mean_squared_error, task_of
from odenas.search.train import Training, evaluate
from odenas.space import Stochasticity, scheme

torch.set_num_threads(1)

ROW = DATASETS["denoise"]
RECIPE = Recipe(algorithm="adam", batch_size=8, learning_rate=0.01)
STOCHASTIC = replace(scheme("lm"), stochasticity=Stochasticity("depth", 0.5))
EPOCHS = 2


@pytest.fixture(scope="module")
def data() -> Data:
    full = load("denoise", train_size=30, validation_size=12)
    return Data(full.train, full.validation)


def network(seed: int = 0) -> SchemeNetwork:
    torch.manual_seed(seed)
    return build(STOCHASTIC, 8, channels=1, width=2, backbone="dense")


class Recording(nn.Module):
    """Returns its input and remembers all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.given: dict[bool, list[Tensor]] = {True: [], False: []}

    def forward(self, images: Tensor) -> Tensor:
        """Return the images."""
        self.given[self.training].append(images.detach().clone())
        return images + 0 * self.weight


def run(one: Training) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    one.run(rows.append)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def recorded(data: Data, seed: int) -> tuple[Tensor, Tensor]:
    """Return the inputs of training and of validation, over all epochs, of a training with this seed."""
    one = Recording()
    run(Training(one, data, ROW, RECIPE, EPOCHS, seed))
    return torch.cat(one.given[True]), torch.cat(one.given[False])


def test_all_trials_are_judged_on_the_same_noisy_images_and_trained_on_others(data: Data) -> None:
    (train, judged), (other_train, other_judged) = recorded(data, 1), recorded(data, 2)
    assert torch.equal(judged, other_judged)
    each = len(data.validation) * len(SIGMAS)
    assert len(judged) == EPOCHS * each
    assert torch.equal(judged[:each], judged[each:])
    assert train.shape == other_train.shape == (EPOCHS * len(data.train), 1, 32, 32)
    everything = torch.cat([train, other_train]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything)  # drawn anew for each batch of each training


def test_an_image_is_judged_at_every_level(data: Data) -> None:
    _, judged = recorded(data, 1)
    grey = judged * 255 * ROW.std[0] + 255 * ROW.mean[0]
    count = len(data.validation)
    for place, sigma in enumerate(SIGMAS):
        (noisy,) = fixed_noise(iter([data.validation.images]), sigma)
        assert torch.allclose(grey[place * count : (place + 1) * count], noisy, atol=1e-3)


def test_the_judgement_is_the_mean_psnr_over_images_and_levels(data: Data) -> None:
    """Of a network that returns its input: the PSNR of the noisy images, of which each level has its own."""
    judgement = evaluate(Recording(), data.validation, ROW)
    clean = data.validation.images.float()
    for sigma, error in zip(SIGMAS, judgement.parts.values(), strict=True):
        (noisy,) = fixed_noise(iter([data.validation.images]), sigma)
        assert -error == pytest.approx(psnr(noisy, clean).mean().item(), abs=1e-3)
        assert -error == pytest.approx({15: 24.61, 25: 20.17, 50: 14.15}[sigma], abs=0.15)
    assert list(judgement.parts) == list(NOISE_LEVELS)
    assert judgement.error == pytest.approx(sum(judgement.parts.values()) / len(SIGMAS))
    mean_square = sum(sigma**2 for sigma in SIGMAS) / len(SIGMAS) / (255 * ROW.std[0]) ** 2
    assert judgement.loss == pytest.approx(mean_square, rel=0.05)


@pytest.mark.parametrize("count", [1, 999, 1001])
def test_evaluation_does_not_depend_on_how_images_are_batched(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    split = Images(images, torch.zeros(count, dtype=torch.int64))
    expected = {}
    for part, sigma in NOISE_LEVELS.items():
        (noisy,) = fixed_noise(iter([images]), sigma)
        expected[part] = -psnr(noisy, images.float()).mean().item()
    assert evaluate(Recording(), split, ROW).parts == pytest.approx(expected, abs=1e-3)


def test_better_restoration_is_a_smaller_error() -> None:
    task, generator = TASKS["denoising"], torch.Generator().manual_seed(0)
    targets = torch.randn(4, 1, 8, 8, generator=generator)
    noise = torch.randn(targets.shape, generator=generator)
    errors = [task.judge(targets + size * noise, targets, ROW) for size in (0.01, 0.1, 1.0)]
    assert (errors[0] < errors[1]).all()
    assert torch.allclose(errors[1] - errors[0], torch.full((4,), 20.0), atol=1e-3)  # ten times the noise: 20 dB
    assert task.metric.shown(float(errors[0][0])) > task.metric.shown(float(errors[1][0]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_the_mean_square_of_an_image(reduction: str) -> None:
    outputs, targets = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    each = (outputs - targets).square().mean((1, 2, 3))
    expected = {"mean": each.mean(), "sum": each.sum()}[reduction]
    assert torch.allclose(mean_squared_error(outputs, targets, reduction=reduction), expected)


def test_inputs_and_targets_of_training_have_one_scale(data: Data) -> None:
    task = task_of(ROW)
    inputs, targets = task.training(data.train.images, data.train.labels, ROW, torch.Generator().manual_seed(0))
    assert torch.equal(targets, normalise(data.train.images, ROW))
    deviation = (inputs - targets).flatten(1).std(1) * 255 * ROW.std[0]
    near = torch.stack([abs(deviation / sigma - 1) for sigma in SIGMAS]).min(0).values
    assert near.max() < 0.15


def test_the_same_seed_trains_the_same_and_another_does_not(data: Data) -> None:
    one, again, other = (Training(network(seed), data, ROW, RECIPE, EPOCHS, seed) for seed in (0, 0, 1))
    rows = run(one)
    assert rows == run(again)
    for name, value in one.state().items():
        assert torch.equal(value, again.state()[name]), name
    assert run(other) != rows
    assert -rows[-1]["validation_error"] > 19.7  # better than the noisy images


@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.model_copy(update={"algorithm": "sgd"})])
def test_a_training_that_was_broken_off_ends_as_one_that_was_not(data: Data, recipe: Recipe) -> None:
    whole = Training(network(), data, ROW, recipe, EPOCHS, 3)
    rows = run(whole)

    class Stopped(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        raise Stopped

    first = Training(network(), data, ROW, recipe, EPOCHS, 3)
    with pytest.raises(Stopped):
        first.run(stop)
    second = Training(network(seed=9), data, ROW, recipe, EPOCHS, 99)
    second.restore(first.state())
    assert run(second) == rows[1:]
    assert whole.state().keys() == second.state().keys()
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name
