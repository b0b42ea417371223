"""How a network is trained: optimiser, learning rate, batch, loss, average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from odenas.nets.coefficients import LearnedWeights
from odenas.search.tasks import Task
from odenas.space.errors import OdenasError

Share = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Recipe(BaseModel):
    """SGD with momentum, or AdamW, and a learning rate that changes in a warm-up and by a row of SCHEDULES.

    The scheme's learned coefficients are a group of their own, without weight decay: decay would pull LM-ResNet's k to
    forward Euler, or in its authors' parametrisation to leapfrog, whatever the data say.

    With label smoothing (Szegedy et al., "Rethinking the Inception architecture", CVPR 2016, §7) an epoch's train_loss
    is what is minimised, the smoothed cross entropy; its validation_loss is the plain one. With `ema` what is judged,
    kept and exported is the average of the weights, `odenas.search.ema`; train_loss and train_error are still those of
    the weights that the optimiser moves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    batch_size: int = Field(default=128, ge=2, description="images in a step")
    algorithm: Literal["sgd", "adam"] = Field(default="sgd", description="SGD with momentum, or AdamW")
    learning_rate: float = Field(default=0.1, gt=0, description="the highest: at the start, or after the warm-up")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD; in AdamW β₁")
    nesterov: bool = Field(default=True, description="Nesterov's form of the momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="of all but the scheme's coefficients")
    coefficient_rate: float = Field(
        default=1.0, ge=0, description="learning rate of the scheme's coefficients over the others'"
    )
    schedule: Literal["cosine", "step", "one-cycle", "trapezoid"] = Field(
        default="cosine",
        description="to 0 by a half cosine; ÷10 at each of the milestones; up and down, linearly; constant, then down",
    )
    milestones: tuple[Share, ...] = Field(
        default=(0.5, 0.75), strict=False, description="shares of the training after which a step falls, ascending"
    )
    warmup: float = Field(
        default=0.0, ge=0, lt=1, description="share of the training in which the rate rises linearly from 0"
    )
    cooldown: float = Field(
        default=0.2, gt=0, le=1, validate_default=True, description="share in which a trapezoid falls linearly to 0"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the target that all classes have in common"
    )
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay at each step of the average of the weights that is judged; 0: none"
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        """Give the warm-up that the schedule has where nothing is said."""
        name = values.get("schedule") if isinstance(values, Mapping) else None
        row = SCHEDULES.get(name) if isinstance(name, str) else None
        return {"warmup": row.warmup, **values} if row else values

    @field_validator("cooldown")
    @classmethod
    def _after_warmup(cls, cooldown: float, info: ValidationInfo) -> float:
        warmup = info.data.get("warmup", 0)
        if info.data.get("schedule") == "trapezoid" and warmup + cooldown > 1:
            raise ValueError(f"must be at most {1 - warmup:g}: what the warmup {warmup:g} leaves")
        return cooldown

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
        if progress < self.warmup:
            return self.learning_rate * (progress / self.warmup)
        return SCHEDULES[self.schedule].after_warmup(self, progress)

    def loss(self, task: Task) -> Callable[..., Tensor]:
        """Return what training minimises, as the task's loss is called.

        Raises:
            OdenasError: labels are to be smoothed, and the task has none.
        """
        if not self.label_smoothing:
            return task.loss
        if task.output != "logits":
            raise OdenasError(
                f"`recipe.label_smoothing` is {self.label_smoothing:g}, but networks that return {task.output} have no "
                "labels to smooth: leave it out"
            )
        return partial(task.loss, label_smoothing=self.label_smoothing)


def _sgd(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, nesterov=nesterov, foreach=True)


def _adam(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter, ICLR 2019), with the β₂ and ε of Kingma & Ba, ICLR 2015."""
    return torch.optim.AdamW(groups, recipe.learning_rate, (recipe.momentum, 0.999), 1e-8, foreach=True)


ALGORITHMS: dict[str, Callable[[Recipe, list[dict[str, Any]]], torch.optim.Optimizer]] = {"sgd": _sgd, "adam": _adam}


def _half_cosine(recipe: Recipe, progress: float) -> float:
    """Return η(1 + cos πt)/2 with t = 0 … 1 after the warm-up (Loshchilov & Hutter, "SGDR", ICLR 2017)."""
    return recipe.learning_rate * (1 + math.cos(math.pi * (progress - recipe.warmup) / (1 - recipe.warmup))) / 2


def _steps(recipe: Recipe, progress: float) -> float:
    return recipe.learning_rate / math.pow(10, sum(progress >= milestone for milestone in recipe.milestones))


def _down(recipe: Recipe, progress: float) -> float:
    """Return a rate that falls linearly to 0 from the end of the warm-up on.

    It is the cycle of Smith & Topin, "Super-convergence" (arXiv 1708.07120, 2017), linear both ways, its last part to 0
    in one line with the fall, as in Page's "How to train your ResNet" (2018). The momentum stays as it is.
    """
    return recipe.learning_rate * ((1 - progress) / (1 - recipe.warmup))


def _constant_then_down(recipe: Recipe, progress: float) -> float:
    """Return a constant rate that falls linearly to 0 over the last part, the cool-down.

    As in Hägele et al., "Scaling laws and compute-optimal training beyond fixed training durations" (arXiv 2405.18392,
    NeurIPS 2024), in their linear form.
    """
    return recipe.learning_rate * min(1.0, (1 - progress) / recipe.cooldown)


class Schedule(NamedTuple):
    """A row of SCHEDULES.

    Args:
        after_warmup: (recipe, progress in [0, 1) of the training) -> the learning rate, once the warm-up is over.
        warmup: share of the training, if the recipe does not say.
    """

    after_warmup: Callable[[Recipe, float], float]
    warmup: float


SCHEDULES: dict[str, Schedule] = {
    "cosine": Schedule(_half_cosine, 0.0),
    "step": Schedule(_steps, 0.0),
    "one-cycle": Schedule(_down, 0.2),
    "trapezoid": Schedule(_constant_then_down, 0.05),
}
