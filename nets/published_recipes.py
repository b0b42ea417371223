"""How the published networks were trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PublishedRecipe:
    """How a network was trained: SGD whose learning rate falls tenfold at each milestone.

    Args:
        epochs: of the whole training.
        milestones: epochs done when the learning rate falls.
        learning_rate: at the start.
        weight_decay: of all weights; odenas leaves the scheme's learned coefficients out (`odenas.search.recipe`).
        nesterov: whether the momentum has Nesterov's form.
        source: where this is written.
        momentum, batch_size: of SGD.
        data: on what.
    """

    epochs: int
    milestones: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    nesterov: bool
    source: str
    momentum: float = 0.9
    batch_size: int = 128
    data: str = "CIFAR-10"


LU = PublishedRecipe(160, (80, 120), 0.1, 1e-4, False, "Lu et al. 2018, arXiv 1710.10121")
LU_RESNEXT = replace(LU, weight_decay=5e-4)
LU_STOCHASTIC = replace(LU, epochs=500, milestones=(250, 375))
HUANG = replace(LU_STOCHASTIC, nesterov=True, source="github.com/yueatsprograms/Stochastic_Depth, main.lua")
HE = PublishedRecipe(164, (82, 123), 0.1, 1e-4, False, "He et al. 2016, Deep Residual Learning: 64 000 steps")
IMAGENET = PublishedRecipe(90, (30, 60), 0.1, 1e-4, False, "Lu et al. 2018", batch_size=256, data="ImageNet")
XIE = PublishedRecipe(300, (150, 225), 0.1, 5e-4, True, "Xie et al. 2017, github.com/facebookresearch/ResNeXt")
GOMEZ = PublishedRecipe(
    160, (80, 120), 0.1, 2e-4, False, "github.com/renmengye/revnet-public, 80 000 steps", batch_size=100
)
CHANG = PublishedRecipe(
    180, (100, 140), 0.1, 4e-4, False, "github.com/LiliMeng/hamiltonian-revnet, 90 000 steps", batch_size=100
)
LARSSON = PublishedRecipe(
    400, (200, 300, 350, 375), 0.02, 0.0, False, "Larsson et al. 2017, FractalNet", batch_size=100
)
SANDER = PublishedRecipe(
    220, (180,), 0.01, 5e-4, False, "github.com/michaelsdr/momentumnet, run_CIFAR_10.py and trainer_CIFAR_10.py"
)

ON: Mapping[str, Mapping[PublishedRecipe, PublishedRecipe]] = {
    "cifar100": {
        recipe: replace(recipe, epochs=300, milestones=(150, 225), data="CIFAR-100") for recipe in (LU, LU_RESNEXT)
    }
}
"""Where a recipe is published for further data sets: name of the data set -> recipe -> what it is there.

Lu et al. 2018 train on CIFAR-100 for 300 epochs, with a learning rate that falls after 150 and 225.
"""


def recipe_on(data: str, recipe: PublishedRecipe) -> PublishedRecipe:
    """Return what a recipe is on a data set; the recipe itself where nothing else is published."""
    return ON.get(data, {}).get(recipe, recipe)
