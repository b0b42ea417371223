"""Time the networks against pytorchcv's preresnet20_cifar10: training throughput, latency, peak memory.

All contenders take turns, step by step, in one run; a ratio is that of two steps of the same round, and the table gives
its median and quartiles over the rounds. What is compiled has a compiled Euler twin. Peak memory is the growth of a
process of its own over three training steps.

    make bench ARGS="--rounds 20 --threads 2"
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets import build, parameters
from odenas.search.recipe import Recipe
from odenas.space import scheme

PEER = "pytorchcv preresnet20_cifar10"
BATCH = 128


def peer() -> nn.Module:
    from pytorchcv.model_provider import get_model

    return get_model("preresnet20_cifar10")  # type: ignore[no-any-return]


TWIN, COMPILED = "odenas euler", ", compiled"

# name -> (network, whether it runs channels last, as odenas trains); with COMPILED at its end, torch.compile makes it
CONTENDERS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    PEER: (peer, False),
    f"{PEER}, channels last": (peer, True),
    "odenas euler": (lambda: build(scheme("euler")), True),
    f"odenas euler{COMPILED}": (lambda: build(scheme("euler")), True),
    f"odenas lm{COMPILED}": (lambda: build(scheme("lm")), True),
    "odenas lm": (lambda: build(scheme("lm")), True),
    "odenas lm per channel": (lambda: build(scheme("lm", sharing="channel")), True),
    "odenas momentum": (lambda: build(scheme("momentum")), True),
    "odenas ab2": (lambda: build(scheme("ab2")), True),
}


class Contender:
    """A network with its optimiser and a batch to train on."""

    def __init__(self, name: str, device: torch.device) -> None:
        make, channels_last = CONTENDERS[name]
        layout = torch.channels_last if channels_last else torch.contiguous_format
        torch.manual_seed(0)
        self.network = make().to(device).to(memory_format=layout)
        self.images = torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=layout)
        self.labels = torch.randint(0, 10, (BATCH,), device=device)
        self.optimizer = Recipe().optimizer(self.network)
        self.call = torch.compile(self.network) if name.endswith(COMPILED) else self.network

    def step(self) -> None:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.images.is_cuda):
            loss = functional.cross_entropy(self.call(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def forward(self) -> Tensor:
        self.network.eval()
        with torch.inference_mode():
            return self.call(self.images[:1])  # type: ignore[no-any-return]


def seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(name: str, device: torch.device, threads: int) -> float:
    """Return the growth of peak memory over three training steps, in MiB, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--device", device.type, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def memory_of(name: str, device: torch.device) -> float:
    contender = Contender(name, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present (Linux)
        before = peak_resident()
    for _ in range(3):
        contender.step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20 - before
    return peak_resident() - before


def peak_resident() -> float:
    """Return this process's peak resident memory in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


def spread(values: list[float], digits: int = 3) -> str:
    low, middle, high = quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--memory-of", help=argparse.SUPPRESS)
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    if given.memory_of:
        print(json.dumps(memory_of(given.memory_of, device)))
        return
    contenders = {name: Contender(name, device) for name in CONTENDERS}
    steps: dict[str, list[float]] = {name: [] for name in contenders}
    latencies: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(-2, given.rounds):
        # The order turns from round to round, so that none always follows the same.
        names = list(contenders)
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            contender = contenders[name]
            step = seconds(contender.step, device)
            contender.forward()
            latency = min(seconds(contender.forward, device) for _ in range(5))
            if round_number >= 0:  # the first rounds warm up
                steps[name].append(step)
                latencies[name].append(latency)
    memory = {name: peak_memory(name, device, given.threads) for name in contenders}
    table = Table(box=None, pad_edge=False, title_justify="left", title=f"median (quartiles) of {given.rounds} rounds")
    for column in ("network", "parameters", "training images/s", "× peer", "× Euler twin", "latency ms", "× peer",
                   "peak MiB"):  # fmt: skip
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for name, contender in contenders.items():
        twin_steps = steps[TWIN + COMPILED * name.endswith(COMPILED)]
        table.add_row(
            name.replace(PEER, "pytorchcv"),
            str(parameters(contender.network)),
            spread([BATCH / step for step in steps[name]], 0),
            spread([peer / own for peer, own in zip(steps[PEER], steps[name], strict=True)]),
            spread([twin / own for twin, own in zip(twin_steps, steps[name], strict=True)]),
            spread([1000 * latency for latency in latencies[name]], 2),
            spread([own / peer for peer, own in zip(latencies[PEER], latencies[name], strict=True)]),
            f"{memory[name]:.0f}",
        )
    console = Console(width=180, markup=False, highlight=False)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.processor() or 'CPU'}"
    console.print(f"peer: {PEER}; batch {BATCH}, {where}, {given.threads} threads, torch {torch.__version__}")
    console.print(table)


if __name__ == "__main__":
    main()
