"""The recipes that `odenas train` knows: the published one of each network, and a fast one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from odenas.nets.named_networks import NamedNetwork
from odenas.nets.published_recipes import recipe_on
from odenas.search.data import dataset
from odenas.search.presets import BUDGETS
from odenas.search.recipe import Recipe
from odenas.search.tasks import task_of
from odenas.space import OdenasError
from odenas.space.errors import unknown

PUBLISHED_ON = "cifar10"
FAST_EPOCHS = 30
FAST_BATCHES = (16, 512)
"""The smallest and the largest batch of the fast recipe; between, the largest power of 2 that leaves FAST_STEPS."""

FAST_STEPS = 32
"""Steps that an epoch of the fast recipe has at least: on few images, batches of 512 would leave too few to learn."""


def published(row: NamedNetwork, data: str, images: int) -> tuple[int, Recipe]:
    """Return epochs and recipe as published, or a search's on data of another task than the published one."""
    del images
    if not has_published_task(data):
        budget = BUDGETS[data]
        return budget["epochs"], Recipe(**budget.get("recipe", {}))
    known = recipe_on(data, row.recipe)
    return known.epochs, Recipe(
        batch_size=known.batch_size,
        learning_rate=known.learning_rate,
        momentum=known.momentum,
        nesterov=known.nesterov,
        weight_decay=known.weight_decay,
        schedule="step",
        milestones=tuple(milestone / known.epochs for milestone in known.milestones),
    )


def fast(row: NamedNetwork, data: str, images: int) -> tuple[int, Recipe]:
    """Return epochs and recipe of a short training of a classifier with large batches; not tuned, near Page's.

    - Batch 512, Nesterov momentum 0.9, weight decay 5e-4, a rate up for a fifth of the training, then down to 0, both
      linearly: Page, "How to train your ResNet" (2018), who takes 24 epochs, up for 5 to 0.4
      (github.com/davidcpage/cifar10-fast, dawn.py). Here 30 epochs.
    - That rate is the published one times as much as the batch is larger, 0.4 where it is 0.1 for 128: the linear
      scaling of Goyal et al., "Accurate, large minibatch SGD" (arXiv 1706.02677, 2017).
    - What is judged is the average of the weights with decay 0.99 at a step: Page, part 8 (2019).
    - Label smoothing 0.1: Szegedy et al., CVPR 2016, §7. (Page in part 8, and Jordan, "94 % on CIFAR-10 in 3.29
      seconds", arXiv 2404.00498, 2024, take 0.2 for wider networks.)

    Raises:
        OdenasError: the data set is not for classifiers.
    """
    if not has_published_task(data):
        output = task_of(dataset(data)).output
        raise OdenasError(
            f"`--recipe` is 'fast', which is for classifiers, but the data set {data!r} needs networks that return "
            f"{output}; leave it out"
        )
    smallest, largest = FAST_BATCHES
    batch = min(max(smallest, 1 << max(images // FAST_STEPS, 1).bit_length() - 1), largest)
    known = recipe_on(data, row.recipe)
    return FAST_EPOCHS, Recipe(
        batch_size=batch,
        learning_rate=known.learning_rate * batch / known.batch_size,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        warmup=0.2,
        label_smoothing=0.1,
        ema=0.99,
    )


RECIPES: dict[str, Callable[[NamedNetwork, str, int], tuple[int, Recipe]]] = {"published": published, "fast": fast}


class Known(NamedTuple):
    """A row of RECIPES on a data set."""

    name: str
    epochs: int
    recipe: Recipe


def recipe_for(row: NamedNetwork, data: str, name: str = "published", train_size: int | None = None) -> Known:
    """Return a recipe of a network on a number of training images of a data set, all of them if none is given.

    Raises:
        OdenasError: there is no such recipe or data set, or the recipe does not suit the data.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return Known(name, *RECIPES[name](row, data, train_size or dataset(data).train))


def recipe_of(row: NamedNetwork, data: str, recipe: Recipe, train_size: int | None = None) -> Known | None:
    """Return which row of RECIPES a recipe comes from, on the same network and images; None if from none."""
    names = RECIPES if has_published_task(data) else ["published"]
    known = (recipe_for(row, data, name, train_size) for name in names)
    return next((one for one in known if one.recipe == recipe), None)


def has_published_task(data: str) -> bool:
    """Return whether the published recipes are for the task of this data set."""
    return dataset(data).task == dataset(PUBLISHED_ON).task


def described(recipe: Recipe) -> str:
    """Return a recipe in a line."""
    nesterov = " (Nesterov)" if recipe.nesterov else ""
    algorithm = f"SGD with momentum {recipe.momentum:g}{nesterov}" if recipe.algorithm == "sgd" else "AdamW"
    parts = [
        algorithm,
        f"weight decay {recipe.weight_decay:g}",
        f"batch {recipe.batch_size}",
        f"learning rate {recipe.learning_rate:g}, {FALLS[recipe.schedule](recipe)}",
    ]
    parts += [f"reached in the first {_percent(recipe.warmup)}"] * bool(recipe.warmup)
    parts += [f"label smoothing {recipe.label_smoothing:g}"] * bool(recipe.label_smoothing)
    parts += [f"the average of the weights with decay {recipe.ema:g} judged and kept"] * bool(recipe.ema)
    return ", ".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


FALLS: dict[str, Callable[[Recipe], str]] = {
    "cosine": lambda recipe: "which falls to 0 by a half cosine",
    "step": lambda recipe: f"÷10 after {' and '.join(map(_percent, recipe.milestones)) or 'nothing'}",
    "one-cycle": lambda recipe: "which falls to 0 linearly",
    "trapezoid": lambda recipe: f"which falls to 0 in the last {_percent(recipe.cooldown)}",
}
"""How the learning rate falls by each schedule, in words."""
