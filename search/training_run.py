"""The training of one named network, and of its Euler twin, by a known recipe: run folder and test error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from odenas.nets.named import canonical, look_up, named, twin_of
from odenas.nets.named_networks import NamedNetwork
from odenas.results import Run, load
from odenas.results.columns import CONFIRMATIONS
from odenas.search.budget import parameter_budget
from odenas.search.checkpoint import Checkpoints
from odenas.search.compilation import check_compiler
from odenas.search.config import SearchConfig
from odenas.search.data import dataset, load_test, metric_of
from odenas.search.data import load as load_data
from odenas.search.driver import exclusive
from odenas.search.image_folder import short_name
from odenas.search.log_file import logging_to
from odenas.search.recipe import Recipe
from odenas.search.train import Judgement, evaluate, network_state, to
from odenas.search.training_progress import TrainingProgress
from odenas.search.training_recipes import recipe_for, recipe_of
from odenas.search.training_report import show_plan
from odenas.search.trial import device, make_network, shape_of, task_for, test_columns, train_trial
from odenas.search.trial_row import first_row, now
from odenas.space import OdenasError, Scheme
from odenas.space.errors import integer


@dataclass(frozen=True)
class Job:
    """One training: of the network, which is a trial of the run, or of its twin, which has no number of its own."""

    label: str
    role: str
    scheme: Scheme
    seed: int
    number: int | None
    checkpoint: Path
    backbone: str | None = None
    twin_of: str | None = None


def configuration(
    row: NamedNetwork,
    name: str,
    data: str = "cifar10",
    epochs: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    train_size: int | None = None,
    run: str | None = None,
    gpu: bool | None = None,
    compiled: bool = False,
    recipe: str = "published",
) -> SearchConfig:
    """Return what the run folder keeps: a configuration whose trials are the network's trainings, one for each seed.

    Args:
        row: the network and its recipe; where `epochs` are fewer, the rate falls earlier in proportion.
        name: of the network.
        data: name of the data set.
        epochs: of each training; the recipe's if not given.
        seed: of the first training, and of the draw of `train_size` images; the others follow it one by one.
        seeds: number of trainings.
        train_size: training images; all of the train split if not given.
        run: folder; runs/NAME-DATA if not given, with -fast after it where that is the recipe.
        gpu: whether to train on the GPU; if not given, where there is one.
        compiled: whether torch.compile makes the training steps.
        recipe: a key of RECIPES.

    Raises:
        OdenasError: a value is out of range, or there is no GPU.
    """
    dataset(data)
    if gpu and not torch.cuda.is_available():
        raise OdenasError("`--gpu` is given, but torch finds no GPU here; leave it out to train on the CPU")
    name, known = canonical(name), recipe_for(row, data, recipe, train_size)
    suffix = "" if recipe == "published" else f"-{recipe}"
    return SearchConfig(
        data=data,
        run=run or f"runs/{name}-{short_name(data)}{suffix}",
        trials=integer("seeds", seeds, 1, 1000),
        epochs=known.epochs if epochs is None else epochs,
        train_size=train_size,
        network=name,
        depth=row.depth,
        width=None,
        seed=seed,
        scheduler="none",
        keep=seeds,
        enqueue=(),
        gpus=float(torch.cuda.is_available() if gpu is None else gpu),
        compiled=compiled,
        recipe=known.recipe,
    )


def train_named(name: str, config: SearchConfig, twin: bool = False, console: Console | None = None) -> Run:
    """Train the named network, and its Euler twin if asked for, once for each seed; return the run.

    The trials of the run are the network's trainings; its confirmations are the test errors of both, read once, after
    the last epoch. The twin has the network's depth, parameters, recipe and seeds. The same call on the same folder
    goes on after the last epoch that was finished, and trains nothing twice.

    Raises:
        OdenasError: the name is unknown, its depth is impossible, it is its own twin, the folder holds something else
            or a training by another recipe, the data cannot be had, or no training succeeded.
    """
    console, name = console or Console(markup=False), canonical(name)
    value, (of_twin, other) = look_up(name).scheme, twin_of(name)
    check_compiler(config)
    _check_recipe(look_up(name), config)
    budget = parameter_budget(config)
    if twin and (of_twin, other) == (name, value):
        raise OdenasError(f"`--twin` is given, but {name} steps by forward Euler: it is its own twin")
    if twin:
        named(of_twin, scheme=other, params=budget, **shape_of(config))

    def report(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    images = load_data(config.data, train_size=config.train_size, seed=config.seed, report=report)
    with exclusive(config, "another process is at work") as run, logging_to(run.log):
        show_plan(name, look_up(name), config, images, console)
        jobs = _jobs(run, config, name, twin)
        with TrainingProgress(len(jobs), config.epochs, console, metric_of(config.data)) as progress:
            for job in jobs:
                progress.begin(f"{job.label}, seed {job.seed}")
                _train(run, config, budget, job, progress)
    trials = run.trials
    if not trials["status"].eq("COMPLETE").any():
        raise OdenasError(f"no training of {name} succeeded: {trials['stop_reason'].iloc[-1]}; see {run.path}")
    return run


def _jobs(run: Run, config: SearchConfig, name: str, twin: bool) -> list[Job]:
    """Return the trainings that the run folder does not hold, seed by seed, so that pairs are finished first."""
    jobs, value, (of_twin, other) = [], look_up(name).scheme, twin_of(name)
    for number in range(config.trials):
        seed = config.seed + number
        jobs.append(Job(name, "baseline", value, seed, number, run.checkpoint(number)))
        if twin:
            path = run.checkpoint(number).with_name(f"twin-{number:05d}.safetensors")
            jobs.append(Job(f"twin of {name}", "twin", other, seed, None, path, of_twin, twin_of=name))
    past = run.confirmations
    done = set(zip(past["label"], past["seed"], strict=True))
    return [job for job in jobs if (job.label, job.seed) not in done]


def _check_recipe(row: NamedNetwork, config: SearchConfig) -> None:
    """Check that the folder does not hold the same training by another of the known recipes."""
    if not (config.folder / "run.json").exists():
        return
    there = load(config.folder).config
    if any(there.get(name) != getattr(config, name) for name in ("network", "data", "train_size")):
        return  # another training altogether, which is refused as such
    try:
        begun = Recipe(**there.get("recipe", {}))
    except ValueError:  # of another version
        return
    theirs, mine = (recipe_of(row, config.data, recipe, config.train_size) for recipe in (begun, config.recipe))
    if theirs and mine and theirs.name != mine.name:
        raise OdenasError(
            f"`--recipe` is {mine.name!r}, but {config.folder} holds a training by the recipe {theirs.name!r}: give "
            "that one, or another folder to `--run`"
        )


def _train(run: Run, config: SearchConfig, budget: int, job: Job, progress: TrainingProgress) -> None:
    """Train one network to the end, or go on with it, and record all of it."""
    task = task_for(config, budget, job.scheme, job.seed, job.checkpoint)
    task |= {"twin": job.backbone} if job.backbone else {}
    row = first_row(run, config, job.number, job.label, job.scheme, job.seed)
    checkpoints, name = Checkpoints(str(job.checkpoint.parent.absolute())), job.checkpoint.stem
    past = run.epochs
    past = past[past["number"] == job.number] if job.number is not None else past.head(0)
    # No two trainings of an epoch take the same time to the last digit: a line that has it is this one's already.
    noted: dict[int, float] = dict(zip(past["epoch"], past["seconds"], strict=True))
    expected = max(noted, default=int(name in checkpoints.names()))
    failures: list[dict[str, Any]] = []

    def report(told: dict[str, Any]) -> None:
        nonlocal expected
        if "failure" in told:
            failures.append(told)
            return
        if told["epoch"] < expected:
            onwards = f"goes on after epoch {told['epoch']}" if told["epoch"] else "starts again"
            progress.say(
                f"{job.label}, seed {job.seed}: the last checkpoint is damaged or gone; its training {onwards}"
            )
        expected = 0  # it is the first report that tells
        row.update(told["fields"])
        for epoch in told["rows"]:
            row.update({name: epoch[name] for name in ("validation_error", "validation_loss", "train_loss")})
            row.update(epochs=epoch["epoch"], seconds=row.get("seconds", 0.0) + epoch["seconds"])
            if job.number is not None and noted.get(epoch["epoch"]) != epoch["seconds"]:
                run.record_epoch({"number": job.number, "finished": now(), **epoch})
        if job.number is not None and told["coefficients"]:
            run.record_coefficients(job.number, told["epoch"], told["coefficients"])
        if told["rows"]:
            progress.epoch(told["rows"][-1])

    def record() -> None:
        if job.number is not None:
            run.record_trial(row)

    record()
    try:
        train_trial(task, report)
        test = {} if failures else test_columns(_judged(config, task, job))
    except BaseException:  # Ctrl-C too: the folder tells how far it came
        record()
        raise
    unforeseen = bool(failures) and "errno" in failures[0]
    end = {"status": "COMPLETE", "stop_reason": "budget reached"}
    if failures:
        end = {"status": "FAIL", "stop_reason": failures[0]["reason"], "failure": failures[0]["failure"]}
    row.update(end, finished=now())
    kept = job.number is not None and not failures
    row["checkpoint"] = str(job.checkpoint.relative_to(run.path)) if kept else None
    record()
    if unforeseen:  # no property of the network, so that the same command tries again
        unsaved = failures[0].get("unsaved")
        why = f"its state cannot be saved: {unsaved}" if unsaved else failures[0]["reason"]
        raise OdenasError(f"the training of {job.label} with seed {job.seed} stopped: {why}")
    if kept:
        checkpoints.settle(name)
    confirmation = {name: entry for name, entry in row.items() if name in CONFIRMATIONS}
    run.record_confirmation(confirmation | test | {"number": None, "role": job.role, "twin_of": job.twin_of})
    if not kept:
        checkpoints.delete(name)
    progress.end()


def _judged(config: SearchConfig, task: dict[str, Any], job: Job) -> Judgement:
    """Return what the network that training left is worth on the test images."""
    network = make_network(config, task, job.scheme)
    saved = Checkpoints(str(job.checkpoint.parent.absolute())).read(job.checkpoint.stem)
    if saved is None:
        raise OdenasError(f"`--run` holds {job.checkpoint}, which cannot be read")
    network.load_state_dict(network_state(saved[0]))
    place = torch.device(device(config))
    network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return evaluate(network, to(load_test(config.data), place), dataset(config.data))
