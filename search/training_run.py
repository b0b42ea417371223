"""The training of one named network, and of its Euler twin, with the published recipe: run folder and test error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from odenas.nets.named import look_up, named, twin_of
from odenas.nets.named_networks import NamedNetwork
from odenas.results import Run
from odenas.results.columns import CONFIRMATIONS
from odenas.search.budget import parameter_budget
from odenas.search.compilation import check_compiler
from odenas.search.config import BUDGETS, SearchConfig
from odenas.search.data import dataset, load_test, metric_of
from odenas.search.data import load as load_data
from odenas.search.driver import exclusive
from odenas.search.ledger import first_row, now
from odenas.search.recipe import Recipe
from odenas.search.train import Judgement, evaluate, network_state, to
from odenas.search.training_progress import TrainingProgress
from odenas.search.training_report import has_published_task, show_plan
from odenas.search.trial import device, make_network, read_checkpoint, shape_of, task_for, test_columns, train_trial
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
) -> SearchConfig:
    """Return what the run folder keeps: a configuration whose trials are the network's trainings, one for each seed.

    Args:
        row: the network and its recipe; where `epochs` are fewer, the milestones come earlier in proportion.
        name: of the network.
        data: name of the data set.
        epochs: of each training; those that `recipe_for` gives if not given.
        seed: of the first training, and of the draw of `train_size` images; the others follow it one by one.
        seeds: number of trainings.
        train_size: training images; all of the train split if not given.
        run: folder; runs/NAME-DATA if not given.
        gpu: whether to train on the GPU; if not given, where there is one.
        compiled: whether torch.compile makes the training steps.

    Raises:
        OdenasError: a value is out of range, or there is no GPU.
    """
    dataset(data)
    if gpu and not torch.cuda.is_available():
        raise OdenasError("`--gpu` is given, but torch finds no GPU here; leave it out to train on the CPU")
    usual, recipe = recipe_for(row, data)
    return SearchConfig(
        data=data,
        run=run or f"runs/{name}-{data}",
        trials=integer("seeds", seeds, 1, 1000),
        epochs=usual if epochs is None else epochs,
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
        recipe=recipe,
    )


def recipe_for(row: NamedNetwork, data: str) -> tuple[int, Recipe]:
    """Return epochs and recipe: the published ones, or a search's on data of another task than the published one."""
    if not has_published_task(data):
        return BUDGETS[data]["epochs"], Recipe(**BUDGETS[data].get("recipe", {}))
    published = row.recipe
    return published.epochs, Recipe(
        batch_size=published.batch_size,
        learning_rate=published.learning_rate,
        momentum=published.momentum,
        nesterov=published.nesterov,
        weight_decay=published.weight_decay,
        schedule="step",
        milestones=tuple(milestone / published.epochs for milestone in published.milestones),
    )


def train_named(name: str, config: SearchConfig, twin: bool = False, console: Console | None = None) -> Run:
    """Train the named network, and its Euler twin if asked for, once for each seed; return the run.

    The trials of the run are the network's trainings; its confirmations are the test errors of both, read once, after
    the last epoch. The twin has the network's depth, parameters, recipe and seeds. The same call on the same folder
    goes on after the last epoch that was finished, and trains nothing twice.

    Raises:
        OdenasError: the name is unknown, its depth is impossible, it is its own twin, the folder holds something else,
            the data cannot be had, or no training succeeded.
    """
    console = console or Console(markup=False)
    value, (of_twin, other) = look_up(name).scheme, twin_of(name)
    check_compiler(config)
    budget = parameter_budget(config)
    if twin and (of_twin, other) == (name, value):
        raise OdenasError(f"`--twin` is given, but {name} steps by forward Euler: it is its own twin")
    if twin:
        named(of_twin, scheme=other, params=budget, **shape_of(config))

    def report(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    images = load_data(config.data, train_size=config.train_size, seed=config.seed, report=report)
    with exclusive(config, "another process is at work") as run:
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


def _train(run: Run, config: SearchConfig, budget: int, job: Job, progress: TrainingProgress) -> None:
    """Train one network to the end, or go on with it, and record all of it."""
    task = task_for(config, budget, job.scheme, job.seed, job.checkpoint)
    task |= {"twin": job.backbone} if job.backbone else {}
    row = first_row(run, config, job.number, job.label, job.scheme, job.seed)
    failures: list[dict[str, Any]] = []

    def report(told: dict[str, Any]) -> None:
        if "failure" in told:
            failures.append(told)
            return
        row.update(told["fields"])
        for epoch in told["rows"]:
            row.update({name: epoch[name] for name in ("validation_error", "validation_loss", "train_loss")})
            row.update(epochs=epoch["epoch"], seconds=row.get("seconds", 0.0) + epoch["seconds"])
            if job.number is not None:
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
        raise OdenasError(f"the training of {job.label} with seed {job.seed} stopped: {failures[0]['reason']}")
    confirmation = {name: entry for name, entry in row.items() if name in CONFIRMATIONS}
    run.record_confirmation(confirmation | test | {"number": None, "role": job.role, "twin_of": job.twin_of})
    if not kept:
        job.checkpoint.unlink(missing_ok=True)
    progress.end()


def _judged(config: SearchConfig, task: dict[str, Any], job: Job) -> Judgement:
    """Return what the network that training left is worth on the test images."""
    network = make_network(config, task, job.scheme)
    saved = read_checkpoint(job.checkpoint)
    if saved is None:
        raise OdenasError(f"`--run` holds {job.checkpoint}, which cannot be read")
    network.load_state_dict(network_state(saved[0]))
    place = torch.device(device(config))
    network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return evaluate(network, to(load_test(config.data), place), dataset(config.data))
