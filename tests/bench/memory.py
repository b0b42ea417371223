"""Peak memory of training, against pytorchcv's networks and Euler twins.

On the CPU it is the peak of torch's allocator over the second training step, above what there was before it, read from
the profiler's record of every allocation: the same in each run. On a GPU it is what torch.cuda reports.

    python tests/bench/memory.py --batch 64
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from contenders import MEMORIES, PEER, TWIN, Contender
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile


def peak(contender: Contender, device: torch.device) -> float:
    """Return the growth of allocated memory within a training step, in MiB."""
    contender.step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        contender.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        contender.step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    total = highest = 0
    for _, change in sorted(changes, key=lambda entry: entry[0]):
        total += change
        highest = max(highest, total)
    return highest / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--of", help=argparse.SUPPRESS)
    given, _ = arguments.parse_known_args()  # `make bench` passes all to every benchmark
    device = torch.device(given.device)
    if given.of:
        print(peak(Contender(MEMORIES[given.of], device, given.batch), device))
        return
    found: dict[str, float] = {}
    for name in MEMORIES:  # in processes of their own, so that none finds what another has left
        command = [sys.executable, __file__, "--of", name, "--device", given.device, "--batch", str(given.batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = float(done.stdout.splitlines()[-1])
    table = Table(box=None, pad_edge=False, title_justify="left", title=f"peak memory of training, batch {given.batch}")
    for column in ("network", "MiB", "× pytorchcv's 20", "against", "×", "aim"):
        table.add_column(column, justify="left" if column in ("network", "against") else "right", no_wrap=True)
    for name, row in MEMORIES.items():
        against = TWIN if row.against == PEER and name != TWIN else row.against
        aim = "≤ 1.02" if row.against == TWIN else "" if row.aim is None or name == TWIN else f"≤ {row.aim}"
        cells = (f"{found[name] / found[PEER]:.3f}", against, f"{found[name] / found[against]:.3f}", aim)
        table.add_row(name, f"{found[name]:.1f}", *cells)
    console = Console(width=140, markup=False, highlight=False)
    console.print(table)
    console.print(f"revnet110 over revnet38: {found['revnet110'] / found['revnet38']:.3f}, aim < 1.05")


if __name__ == "__main__":
    main()
