"""The networks that are timed and weighed: odenas', pytorchcv's of the same depth, and what they are compared with."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets import build, export
from odenas.nets.named import named
from odenas.search.recipe import Recipe
from odenas.space import scheme

PEER, TWIN = "pytorchcv preresnet20", "euler"


class Row(NamedTuple):
    """A contender: what makes it, what its step is compared with, whether it runs channels last and compiled."""

    make: Callable[[], nn.Module]
    against: str
    aim: float | None = None
    channels_last: bool = True
    compiled: bool = False


def of_pytorchcv(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from pytorchcv.model_provider import get_model

        return get_model(name)  # type: ignore[no-any-return]

    return make


def of_scheme(name: str, depth: int = 20, **parameters: Any) -> Callable[[], nn.Module]:
    return lambda: build(scheme(name, **parameters), depth)


class BranchesAlone(nn.Module):
    """The branches of a network of forward Euler steps, each fed with the one before: no step, no sum within a stage.

    Where the shape changes the projection is added, so that all convolutions and norms of the network are here.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        x = self.network.stem(images)
        for stage in self.network.stages:
            same = isinstance(stage.shortcut, nn.Identity)
            x = stage.first(x) if same else stage.first(x) + stage.shortcut(x)
            for (branch,) in stage.blocks:
                x = branch(x)
        x = self.network.activation(self.network.norm(x))
        return self.network.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def exported(name: str) -> Callable[[], nn.Module]:
    """Return what loads the exported network of a scheme from its folder, by its own source."""

    def make() -> nn.Module:
        folder = Path(tempfile.mkdtemp()) / name
        export(build(scheme(name)), folder)
        specification = importlib.util.spec_from_file_location(f"exported_{name}", folder / "net.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        specification.loader.exec_module(module)
        return module.load()  # type: ignore[no-any-return]

    return make


# Four stages with weights of their own after one plain block: five residual evaluations, as five plain blocks have.
RUNGE_KUTTA_DEPTH, AS_MANY_EVALUATIONS = 14, 32

CONTENDERS: dict[str, Row] = {
    PEER: Row(of_pytorchcv("preresnet20_cifar10"), PEER, channels_last=False),
    f"{PEER}, channels last": Row(of_pytorchcv("preresnet20_cifar10"), PEER),
    TWIN: Row(of_scheme("euler"), PEER, 1.2),
    "lm": Row(of_scheme("lm"), TWIN, 0.97),
    "lm per channel": Row(of_scheme("lm", sharing="channel"), TWIN),
    "momentum": Row(of_scheme("momentum"), TWIN),
    "ab2": Row(of_scheme("ab2"), TWIN),
    "ab3": Row(of_scheme("ab3"), TWIN, 0.92),
    "euler of depth 32": Row(of_scheme("euler", AS_MANY_EVALUATIONS), PEER),
    "rk4 of depth 14": Row(of_scheme("rk4", RUNGE_KUTTA_DEPTH), "euler of depth 32", 0.95),
    "branches alone": Row(lambda: BranchesAlone(build(scheme("euler"), 20)), TWIN),
    "euler, compiled": Row(of_scheme("euler"), PEER, compiled=True),
    "branches alone, compiled": Row(
        lambda: BranchesAlone(build(scheme("euler"), 20)), "euler, compiled", compiled=True
    ),
    "lm, compiled": Row(of_scheme("lm"), "euler, compiled", 0.97, compiled=True),
    "ab3, compiled": Row(of_scheme("ab3"), "euler, compiled", 0.92, compiled=True),
}

LATENCIES: dict[str, Row] = {
    PEER: CONTENDERS[PEER],
    "euler, exported": Row(exported("euler"), PEER, 1.0),
    "lm, exported": Row(exported("lm"), PEER, 1.0),
    "ab3, exported": Row(exported("ab3"), PEER, 1.0),
}

MEMORIES: dict[str, Row] = {
    PEER: CONTENDERS[PEER],
    TWIN: CONTENDERS[TWIN],
    **{name: CONTENDERS[name] for name in ("lm", "momentum", "ab2", "ab3")},
    "euler of depth 56": Row(of_scheme("euler", 56), PEER),
    "lm of depth 56": Row(of_scheme("lm", 56), "euler of depth 56", 1.02),
    "pytorchcv preresnet110": Row(of_pytorchcv("preresnet110_cifar10"), PEER, channels_last=False),
    "resnet110": Row(lambda: named("resnet110"), "pytorchcv preresnet110"),
    "preact_resnet110": Row(lambda: named("preact_resnet110"), "pytorchcv preresnet110"),
    "revnet38": Row(lambda: named("revnet38"), "preact_resnet110"),
    "revnet110": Row(lambda: named("revnet110"), "preact_resnet110", 0.35),
}


class Contender:
    """A network with its optimiser and a batch to train on."""

    def __init__(self, row: Row, device: torch.device, batch: int) -> None:
        layout = torch.channels_last if row.channels_last else torch.contiguous_format
        torch.manual_seed(0)
        self.network = row.make().to(device).to(memory_format=layout)
        self.images = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=layout)
        self.labels = torch.randint(0, 10, (batch,), device=device)
        self.optimizer = Recipe().optimizer(self.network)
        self.call = torch.compile(self.network) if row.compiled else self.network

    def step(self) -> None:
        """Train on the batch once."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.images.is_cuda):
            loss = functional.cross_entropy(self.call(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def forward(self) -> Tensor:
        """Return the logits of one image."""
        self.network.eval()
        with torch.inference_mode():
            return self.call(self.images[:1])  # type: ignore[no-any-return]
