"""What runs in a worker: one training of one scheme, by the run's configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from odenas.nets import build, coefficients, parameters
from odenas.nets.backbones import given_network, is_given
from odenas.nets.blocks import BLOCKS
from odenas.nets.named import named
from odenas.nets.stepper import stepper_of
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.data import Data, dataset, load
from odenas.search.failures import Failure, failure_of
from odenas.search.latency import latency
from odenas.search.train import Judgement, NonFiniteLoss, Training
from odenas.search.watchdog import watchdog
from odenas.space import Scheme

Report = Callable[[dict[str, Any]], None]


class NotSaved(OSError):
    """The state of a training could not be saved."""


def train_trial(task: Mapping[str, Any], report: Report) -> None:
    """Train one scheme and report after every epoch; what goes wrong is reported, not raised.

    `task` holds the run's resolved configuration ("config"), the budget of parameters ("params"), and of the trial
    "scheme", "seed" and "checkpoint" (the place and the name of `Checkpoints`). If it exists, the training goes on from
    it. The first report comes before the training. A report has "rows" (the epochs since the last report, in the first
    all of an earlier attempt), "fields" (columns of the trial), "coefficients" (rows, if they learn) and "epoch"; or
    "kind", "reason" and "failure" (the text) of a `Failure`, of an unforeseen one "errno", and "unsaved", what keeps
    the training's state from being saved: that says nothing of the trial.
    """
    config, (place, name) = SearchConfig(**task["config"]), task["checkpoint"]
    rows: list[dict[str, Any]] = []
    try:
        network = make_network(config, task, Scheme.from_dict(task["scheme"]))
        training = _training(network, config, task["seed"])
        fields = _fields(training, config)
        checkpoints = Checkpoints(place)
        saved = checkpoints.read(name)
        if saved:
            training.restore(saved[0])
            rows = saved[1]
        report(_report(training, rows, rows, fields))
        left = config.timeout and config.timeout - sum(row["seconds"] for row in rows)

        def after_epoch(row: dict[str, Any]) -> None:
            rows.append(row)
            try:
                checkpoints.write(name, training.state(), rows)
            except OSError as error:
                raise NotSaved(error.errno, error.strerror or str(error)) from error
            report(_report(training, rows, rows[-1:], fields))

        with watchdog(left):
            training.run(after_epoch)
    except NonFiniteLoss as error:
        report(_failure(len(rows), Failure("non-finite", str(error), str(error))))
    except Exception as error:  # any failure of a trial is a result of the search
        unsaved = {"unsaved": error.strerror} if isinstance(error, NotSaved) else {}
        report(_failure(len(rows), failure_of(error)) | {"errno": getattr(error, "errno", None), **unsaved})


def task_for(
    config: SearchConfig, params: int, scheme: Scheme, seed: int, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Return what `train_trial` needs, JSON-ready; who gives no checkpoint adds the place and the name of one."""
    task = {"config": config.resolved(), "params": params, "scheme": scheme.to_dict(), "seed": seed}
    return task if checkpoint is None else task | {"checkpoint": [str(checkpoint.absolute().parent), checkpoint.stem]}


def test_columns(judgement: Judgement) -> dict[str, Any]:
    """Return the columns of a confirmation that say what a network is worth on the test images."""
    parts = {} if len(judgement.parts) == 1 else {"test_parts": json.dumps(judgement.parts, ensure_ascii=False)}
    return {"test_error": judgement.error, **parts}


def make_network(config: SearchConfig, task: Mapping[str, Any], scheme: Scheme) -> nn.Module:
    """Return the network of a scheme within the run's budget, with initial weights drawn from the trial's seed.

    A given backbone has a number of parameters of its own, whatever the budget, and so has the network of
    `odenas train`. A task may say "twin": the named network whose place a twin takes within the budget.
    """
    torch.manual_seed(task["seed"])
    if is_given(config.backbone):
        data_set = dataset(config.data)
        return given_network(config.backbone, scheme, data_set.classes, data_set.channels, data_set.size)
    if "twin" in task:
        return named(task["twin"], scheme=scheme, params=task["params"], **shape_of(config))
    if config.network:
        return named(config.network, **shape_of(config))
    return build(scheme, depth_of(config.depth, scheme), params=task["params"], **shape_of(config))


def shape_of(config: SearchConfig) -> dict[str, Any]:
    """Return what `build` is told of the data and the backbone."""
    data_set = dataset(config.data)
    return {"classes": data_set.classes, "channels": data_set.channels, "backbone": config.backbone}


def depth_of(depth: int | None, scheme: Scheme) -> int | None:
    """Return the depth to build a scheme's network with: None where its blocks say how many each stage has."""
    return None if scheme.blocks.per_stage else depth


def layers(depth: int | None, scheme: Scheme) -> int | None:
    """Return the number of layers of a scheme's network: `depth`, or what its blocks make of it; None if not known."""
    blocks = scheme.blocks
    return BLOCKS[blocks.kind].layers * sum(blocks.per_stage) + 2 if blocks.per_stage else depth


def device(config: SearchConfig) -> str:
    """Return the device that a trial of this configuration trains on."""
    return "cuda" if config.gpus > 0 and torch.cuda.is_available() else "cpu"


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """Return a training's state and its epochs, or None if the file is not there or damaged."""
    return Checkpoints(str(path.parent)).read(path.stem)


@lru_cache(maxsize=2)
def _load(name: str, train_size: int | None, seed: int, decoders: int | None) -> Data:
    return load(name, train_size=train_size, seed=seed, decoders=decoders)


def _data(config: SearchConfig) -> Data:
    """Return the data of a run; a worker keeps them from trial to trial."""
    return _load(config.data, config.train_size, config.seed, config.decoders)


def _training(network: nn.Module, config: SearchConfig, seed: int) -> Training:
    data_set = dataset(config.data)
    how = (config.recipe, config.epochs, seed, device(config), config.compiled)
    return Training(network, _data(config), data_set, *how)


def _fields(training: Training, config: SearchConfig) -> dict[str, Any]:
    data, network, size = _data(config), training.network, dataset(config.data).size
    architecture = stepper_of(network).architecture
    timed = {}
    if "latency" in config.measured:
        image = torch.zeros(1, architecture["channels"], size, size, device=training.device)
        timed["latency"] = latency(network, image.contiguous(memory_format=torch.channels_last))
    return {
        "params": parameters(network),
        "macs": macs(network, size),
        "evaluations": sum(map(sum, architecture["branches"])),
        **timed,
        "widths": "-".join(map(str, architecture["widths"])),
        "train_size": len(data.train.labels),
        "validation_size": len(data.validation.labels),
        "device": torch.cuda.get_device_name() if device(config) == "cuda" else "cpu",
    }


def macs(network: nn.Module, size: int) -> int:
    """Return the multiply-accumulates of the convolutions and the linear layer for one image of this side."""
    image = next(network.parameters()).new_zeros(1, stepper_of(network).architecture["channels"], size, size)
    training = network.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    network.train(training)
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-accumulate as two


def _report(
    training: Training, rows: list[dict[str, Any]], new: list[dict[str, Any]], fields: dict[str, Any]
) -> dict[str, Any]:
    learned = stepper_of(training.network).scheme.coefficients
    last = len(rows) == training.epochs
    # Per-channel coefficients are many; they are kept of the last epoch alone.
    listed = rows and learned.learning == "learned" and (last or learned.sharing != "channel")
    return {
        "epoch": len(rows),
        "rows": new,
        "fields": fields,
        "coefficients": coefficients(training.network, varying_only=True) if listed else [],
    }


def _failure(epoch: int, failure: Failure) -> dict[str, Any]:
    return {"epoch": epoch, "rows": [], "kind": failure.kind, "reason": failure.reason, "failure": failure.text}
