"""How a network is trained: optimiser, learning rate, batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from odenas.nets.coefficients import LearnedWeights

Share = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Recipe(BaseModel):
    """SGD with momentum, or AdamW, and a falling learning rate.

    The scheme's learned coefficients are a group of their own, without weight decay: decay would pull LM-ResNet's k to
    forward Euler, or in its authors' parametrisation to leapfrog, whatever the data say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    batch_size: int = Field(default=128, ge=2, description="images in a step")
    algorithm: Literal["sgd", "adam"] = Field(default="sgd", description="SGD with momentum, or AdamW")
    learning_rate: float = Field(default=0.1, gt=0, description="at the start")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD; in AdamW β₁")
    nesterov: bool = Field(default=True, description="Nesterov's form of the momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="of all but the scheme's coefficients")
    coefficient_rate: float = Field(
        default=1.0, ge=0, description="learning rate of the scheme's coefficients over the others'"
    )
    schedule: Literal["cosine", "step"] = Field(
        default="cosine", description="to 0 by a half cosine, or ÷10 at each of the milestones"
    )
    milestones: tuple[Share, ...] = Field(
        default=(0.5, 0.75), strict=False, description="shares of the training after which a step falls, ascending"
    )

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(milestones)):
            raise ValueError("must ascend")
        return milestones

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a network; its second group, if there is one, holds the learned coefficients."""
        learned = [
            parameter
            for module in network.modules()
            if isinstance(module, LearnedWeights)
            for parameter in module.parameters()
        ]
        known = {id(parameter) for parameter in learned}
        others = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups = [{"params": others, "weight_decay": self.weight_decay, "scale": 1.0}]
        if learned:
            groups.append({"params": learned, "weight_decay": 0.0, "scale": self.coefficient_rate})
        return ALGORITHMS[self.algorithm](self, groups)

    def rate(self, progress: float) -> float:
        """Return the learning rate when the share `progress` in [0, 1) of the training is done."""
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate / math.pow(10, sum(progress >= milestone for milestone in self.milestones))


def _sgd(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov, foreach=True)


def _adam(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter, ICLR 2019), with the β₂ and ε of Kingma & Ba, ICLR 2015."""
    return torch.optim.AdamW(groups, recipe.learning_rate, (recipe.momentum, 0.999), 1e-8, foreach=True)


ALGORITHMS: dict[str, Callable[[Recipe, list[dict[str, Any]]], torch.optim.Optimizer]] = {"sgd": _sgd, "adam": _adam}
