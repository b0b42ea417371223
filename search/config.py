"""What a search is told: data, budget, space, sampler, recipe."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from odenas.nets.backbones import LIBRARIES, check_form, is_given
from odenas.nets.build import BACKBONES
from odenas.search.constraints import constraint
from odenas.search.data import dataset
from odenas.search.image_folder import full_name, is_folder, short_name
from odenas.search.objectives import check_objectives
from odenas.search.presets import BUDGETS, FIRST, TWO_STEP
from odenas.search.recipe import Recipe
from odenas.search.stopping import check_rule
from odenas.search.tasks import task_of
from odenas.space import OdenasError, SearchSpace, scheme
from odenas.space.errors import shown, unknown

Sampler = Literal["tpe", "gp", "cmaes", "nsga2", "nsga3", "qmc", "random", "grid"]
Scheduler = Literal["asha", "hyperband", "median", "none"]


MANY = 10**9
"""What counts may be at most: enough for any, and few enough digits for every table that they are written to."""


class Confirmation(BaseModel):
    """The retraining that a search ends with: the best schemes, their Euler twins and LM-ResNet, over seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    top: int = Field(default=3, ge=1, le=MANY, description="how many of the best schemes")
    seeds: int = Field(default=5, ge=0, le=MANY, description="trainings of each; 0 leaves the confirmation out")


class SearchConfig(BaseModel):
    """A search over schemes. What is not given follows from `data` (BUDGETS); the run folder holds the resolved values.

    Raises:
        OdenasError: a key is unknown or a value out of range, in one line.
    """

    # Strict: no text or boolean passes for a number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    data: str = Field("digits", description="data set; folder:PATH for images in class folders")
    backbone: str = Field(description="network: residual, dense, torchvision:NAME or timm:NAME")
    network: str | None = Field(None, description="published network that is trained; of `odenas train` alone")
    run: str | None = Field(None, description="run folder; runs/DATA if not given")
    trials: int = Field(ge=1, le=MANY, description="schemes to try")
    epochs: int = Field(ge=1, le=MANY, description="budget of a trial")
    train_size: int | None = Field(ge=1, le=MANY, description="training images; all if none is given")
    depth: int | None = Field(
        ge=8, le=10_000, description="layers, 6n + 2, or 9n + 2 with bottlenecks; `per_stage` goes before"
    )
    width: int | None = Field(
        ge=1, le=MANY, description="first stage's channels of the Euler network that sets the budget"
    )
    params: int | None = Field(None, ge=1, le=MANY, description="parameter budget of every network; overrides `width`")
    seed: int = Field(0, ge=0, lt=2**32, description="of everything random")
    objectives: tuple[str, ...] = Field(
        ("validation_error",), strict=False, min_length=1, description="columns of the trials to minimise"
    )
    constraints: tuple[str, ...] = Field(
        (), strict=False, description="what a scheme must keep, such as 'params <= 300k' or 'latency <= 2 ms'"
    )
    sampler: Sampler = Field("tpe", description="Optuna sampler")
    scheduler: Scheduler = Field("asha", description="stops poor trials early, or none")
    grace: int = Field(2, ge=1, le=MANY, description="epochs before the scheduler may stop a trial")
    reduction: int = Field(3, ge=2, le=MANY, description="asha and hyperband keep one trial in so many at each rung")
    lag: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="a draw knows the trials so many before it and no later one; 8, or 4 for each worker",
    )
    timeout: float | None = Field(None, gt=0, description="seconds that a trial may train")
    retries: int = Field(
        3, ge=0, le=MANY, description="how often a trial whose worker or node was lost goes on elsewhere"
    )
    keep: int = Field(10, ge=1, le=MANY, description="finished trials whose weights are kept, the best")
    enqueue: tuple[str, ...] = Field(FIRST, strict=False, description="named schemes to try first, where in the space")
    workers: int | None = Field(None, ge=1, le=MANY, description="trials at a time; as many as the CPUs or GPUs hold")
    cpus: float = Field(1, gt=0, description="CPUs of a trial")
    gpus: float = Field(0, ge=0, description="GPUs of a trial, fractions allowed")
    decoders: int | None = Field(
        None,
        ge=0,
        le=MANY,
        description="processes of a trial that decode a folder's images; as many as its CPUs, at most 4",
    )
    compiled: bool = Field(False, description="whether torch.compile makes the training steps")
    address: str | None = Field(None, description="Ray cluster to join; a local one is started if not given")
    storage: str | None = Field(
        None, description="folder or URL (s3://…) that all nodes reach, for checkpoints; the run folder if not given"
    )
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        (), strict=False, description="what else follows the trials, through Ray's callbacks"
    )
    space: SearchSpace = Field(default_factory=lambda: SearchSpace(**TWO_STEP))
    recipe: Recipe = Field(default_factory=Recipe)
    confirm: Confirmation = Field(default_factory=Confirmation)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _one_line(error) from None

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: Any) -> Any:
        name = full_name(values.get("data", "digits"))
        own = task_of(dataset(name)).backbone
        budget = BUDGETS.get("folder" if is_folder(name) else name, {})
        merged = {"backbone": own, **budget, **values, "data": name}
        if isinstance(merged["backbone"], str) and is_given(merged["backbone"]):
            merged |= _of_given(merged["backbone"], values)
        for table in ("recipe", "confirm"):
            if isinstance(merged.get(table), Mapping):
                merged[table] = {**budget.get(table, {}), **merged[table]}
        return merged

    @field_validator("space", mode="before")
    @classmethod
    def _strict_space(cls, given: Any) -> SearchSpace:
        return _space(given)

    @model_validator(mode="after")
    def _fitting(self) -> SearchConfig:
        own = task_of(dataset(self.data)).backbone
        self.recipe.loss(task_of(dataset(self.data)))  # refuses what does not suit the task
        if is_given(self.backbone):
            check_form(self.backbone)
        elif self.backbone not in BACKBONES:
            raise unknown("backbone", self.backbone, [own, *(f"{library}:NAME" for library in LIBRARIES)])
        # Given networks are classifiers. Of those that `build` makes, one for each task can step by any scheme drawn.
        if self.backbone != own and not (own == "residual" and is_given(self.backbone)):
            raise OdenasError(f"`backbone` is {self.backbone!r}, but the data set {self.data!r} needs {own!r}")
        for name in ("depth", "width"):
            if getattr(self, name) is None and not is_given(self.backbone) and self.network is None:
                raise OdenasError(f"`{name}` is None, but must be an integer for the backbone {self.backbone!r}")
        return self

    @model_validator(mode="after")
    def _names(self) -> SearchConfig:
        for name in self.enqueue:
            scheme(name)
        check_objectives(self.objectives, [constraint(text).name for text in self.constraints])
        check_rule(self.scheduler, self.objectives)
        return self

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.run or f"runs/{short_name(self.data)}")

    @property
    def measured(self) -> set[str]:
        """The columns of the trials that the search needs: of its objectives and constraints."""
        return {*self.objectives, *(constraint(text).name for text in self.constraints)}

    def resolved(self) -> dict[str, Any]:
        """Return all values, JSON-ready: what the run folder keeps."""
        return self.model_dump(mode="json")


# What may differ between the command that began a run and the one that goes on with it.
MAY_CHANGE = ("run", "trials", "keep", "workers", "cpus", "gpus", "decoders", "address", "confirm")


LARGEST = 256 * 1024
"""Bytes of a configuration file."""


def read_config(path: str | Path | None, overrides: Mapping[str, Any]) -> SearchConfig:
    """Return the configuration of a TOML file, or of none, overridden by those of `overrides` that are not None.

    Raises:
        OdenasError: no such file, not TOML, an unknown key or a value out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            with Path(path).open("rb") as file:
                text = file.read(LARGEST + 1)
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            raise OdenasError(
                f"`CONFIG` is {path}, which cannot be read: {getattr(error, 'strerror', error)}"
            ) from None
        if len(text) > LARGEST:
            raise OdenasError(f"`CONFIG` is {path}, but must be a TOML file of at most {LARGEST // 1024} KiB")
        try:
            values = tomllib.loads(text.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, an integer of too many digits; too deep
            raise OdenasError(f"`CONFIG` is {path}, which is no TOML: {error}") from None
    if "network" in values:
        raise OdenasError("`network` is of `odenas train` alone: leave it out of CONFIG; see `backbone`")
    return SearchConfig(**values | {name: value for name, value in overrides.items() if value is not None})


def _of_given(backbone: str, values: Mapping[str, Any]) -> dict[str, None]:
    """Return depth, width and parameters for a network that brings its own: none.

    Raises:
        OdenasError: one of them is given.
    """
    sizes = ("depth", "width", "params")
    for name in sizes:
        if values.get(name) is not None:
            raise OdenasError(f"`{name}` is {values[name]!r}, but {backbone} has its own size; leave it out")
    return dict.fromkeys(sizes)


def _one_line(error: ValidationError) -> OdenasError:
    """Return the first thing that is wrong, with the nearest valid key if it is an unknown one."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, OdenasError):
        return cause
    place = [part for part in first["loc"] if isinstance(part, str)]
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        owner: Any = SearchConfig
        for part in place[:-1]:
            owner = owner.model_fields[part].annotation
        names = [name for name in owner.model_fields if name != "network"]  # no key of a search
        return unknown("key" if len(place) == 1 else f"key of {'.'.join(place[:-1])}", place[-1], names)
    if first["type"] == "missing":
        return OdenasError(f"`{'.'.join(place)}` is {shown(first['input'])}, but needs more numbers")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    message = re.sub("a valid tuple$", "a list", re.sub("a valid dictionary.*$", "a table", message))
    return OdenasError(f"`{'.'.join(place)}` is {shown(first['input'])}, but {message}")


def _space(given: Any) -> SearchSpace:
    """Return the space of a table; the space itself checks its values, and takes no text or boolean for a number.

    Raises:
        OdenasError: a key is unknown, or the space refuses a value.
    """
    if isinstance(given, SearchSpace):
        return given
    if not isinstance(given, Mapping):
        raise OdenasError(f"`space` is {shown(given)}, but must be a table")
    names = [field.name for field in fields(SearchSpace)]
    for name in given:
        if name not in names:
            raise unknown("key of space", name, names)
    try:
        return SearchSpace(**given)
    except OdenasError as error:
        message = str(error)
    for start in ("`key of ", "`"):
        if message.startswith(start):
            raise OdenasError(f"{start}space.{message.removeprefix(start)}")
    raise OdenasError(message)
