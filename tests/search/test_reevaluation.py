"""`odenas confirm`: what it refuses, and as the user runs it, killed on the way."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from odenas.results import Run, load
from odenas.search import reevaluation
from odenas.search.config import SearchConfig
from odenas.search.confirm import confirmation_seeds
from odenas.search.reevaluation import reevaluate
from odenas.space import OdenasError, describe, scheme

if sys.platform == "win32":
    pytest.skip("asks for signals", allow_module_level=True)

ODENAS = [sys.executable, "-c", "from odenas.search.app import main; main()"]
SMALL = {"trials": 2, "epochs": 2, "train_size": 100, "depth": 14, "width": 2, "confirm": {"top": 1, "seeds": 0}}


def folder(path: Path, *statuses: str, **changes: Any) -> Run:
    """Return a run of trials with these statuses, that were never trained."""
    config = SearchConfig(**{**SMALL, "run": str(path), **changes})
    run = Run.create(path, config.resolved(), {"odenas": "0"})
    for number, status in enumerate(statuses):
        value = scheme(("ab2", "momentum", "midpoint")[number])
        run.record_trial(
            {
                "number": number, "status": status, "label": describe(value), "scheme": json.dumps(value.to_dict()),
                "validation_error": 50.0 + number, "params": 2940, "epochs": 2, "budget": 2, "train_size": 100,
            }
        )  # fmt: skip
    return run


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[SearchConfig]:
    """Confirm nothing, and remember what was to be confirmed."""
    told: list[SearchConfig] = []

    @contextmanager
    def cluster(address: str | None) -> Iterator[dict[str, float]]:
        yield {"CPU": 4.0, "GPU": 1.0}

    monkeypatch.setattr(reevaluation, "cluster", cluster)
    monkeypatch.setattr(reevaluation, "confirm", lambda run, config, *_: told.append(config))
    return told


def refused(path: Path, **changes: Any) -> str:
    with pytest.raises(OdenasError) as error:
        reevaluate(str(path), **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_confirmed(tmp_path: Path, untrained: list[SearchConfig]) -> None:
    train = folder(tmp_path / "train", "COMPLETE", network="lm_resnet20", data="cifar10")
    assert "a folder of `odenas train`" in refused(train.path)
    assert "has no trial to retrain: none is finished" in refused(folder(tmp_path / "a", "PRUNED", "FAIL").path)
    bound = folder(tmp_path / "b", "COMPLETE", constraints=("params <= 300k",))
    row = bound.trials.iloc[0].to_dict()
    bound.record_trial({"number": 0, "status": "COMPLETE", "feasible": False, "validation_error": 1.0,
                        "scheme": row["scheme"]})  # fmt: skip
    assert "of 1 finished trial none keeps the constraints" in refused(bound.path)
    run = folder(tmp_path / "c", "COMPLETE", "COMPLETE")
    assert "`train_size` is 5" in refused(run.path, train_size=5)
    assert "`epochs` is 0" in refused(run.path, epochs=0)
    assert "`gpus` of a trial is 2" in refused(run.path, gpus=2.0)
    assert "`--address` is 'x'" in refused(run.path, address="x")
    with FileLock(run.path / ".lock"):
        assert f"{run.path}, where another" in refused(run.path)
    assert untrained == []
    assert not (run.path / "confirm.jsonl").exists()


def test_what_is_asked_for_goes_before_what_the_run_says(tmp_path: Path, untrained: list[SearchConfig]) -> None:
    run = folder(tmp_path / "a", "COMPLETE", "COMPLETE")
    reevaluate(str(run.path))
    reevaluate(str(run.path), top=2, seeds=4, epochs=7, train_size=60, gpus=0.5, workers=3)
    first, second = untrained
    assert first == SearchConfig(**{**SMALL, "run": str(run.path), "confirm": {"top": 1, "seeds": 7}})  # 7 for digits
    assert second == first.model_copy(update={
        "epochs": 7, "train_size": 60, "gpus": 0.5, "workers": 3, "confirm": second.confirm})  # fmt: skip
    assert (second.confirm.top, second.confirm.seeds) == (2, 4)
    assert load(run.path).config == run.config


def test_a_search_that_goes_on_is_said_to(tmp_path: Path, untrained: list[SearchConfig]) -> None:
    for name, statuses, said in (
        ("a", ["COMPLETE", "RUNNING"], "The search is not finished: 1 of 2 trials have ended. Those that are best so"),
        ("b", ["COMPLETE", "FAIL"], None),
    ):
        text = io.StringIO()
        reevaluate(str(folder(tmp_path / name, *statuses).path), console=Console(file=text, width=120))
        assert (said or "not finished") in text.getvalue() or said is None
        assert ("not finished" in text.getvalue()) == (said is not None)


# As the user runs it: tens of seconds each.


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("confirm")


def start(shell: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*ODENAS, *arguments], cwd=shell, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (0, ""), out
    return out


def wait_for_epochs(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many files of checkpoints were there."""
    seen: set[tuple[str, int]] = set()
    while len(seen) < count:
        assert process.poll() is None, process.communicate()
        for path in run.glob("checkpoints/confirm-*.safetensors"):
            try:
                seen.add((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue
        time.sleep(0.02)


def family(pid: int) -> dict[int, str]:
    """Return what the processes run that descend from this one."""
    lines = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    table = {int(pid): (int(parent), command) for pid, parent, command in (line.split(None, 2) for line in
             lines.splitlines())}  # fmt: skip
    found = {pid}
    while grown := {child for child, (parent, _) in table.items() if parent in found} - found:
        found |= grown
    return {one: table[one][1] for one in found if one in table}


ARGUMENTS = ["--top", "1", "--seeds", "2", "--epochs", "6", "--train-size", "400", "--workers", "2"]
CLOCKS = ["seconds", "started", "finished", "hostname"]


@pytest.mark.slow
def test_a_confirmation_killed_and_with_a_worker_lost_ends_like_any_other(shell: Path) -> None:
    folder(shell / "whole", "COMPLETE", "COMPLETE")
    out = end(start(shell, "confirm", "whole", *ARGUMENTS))
    assert "Retrained over 2 seeds: 6 epochs, 400 images" in out
    assert re.search("The gain is real|No gain is proved|There is no gain|Nothing can be said", out)
    whole = load(shell / "whole")
    table = whole.confirmations
    assert (table["status"] == "COMPLETE").all()
    assert (table[["budget", "epochs"]] == 6).all(axis=None)
    # ab2, lm and their twins, which are one network.
    assert Counter(table["label"]) == dict.fromkeys(["trial 0: ab2", "lm", "twin of trial 0: ab2", "twin of lm"], 2)
    assert set(table["seed"]) == set(confirmation_seeds(0, 2))
    assert table["test_error"].between(0, 100).all()
    assert list((whole.path / "checkpoints").iterdir()) == []
    before = (whole.path / "confirm.jsonl").read_bytes()
    again = end(start(shell, "confirm", "whole", *ARGUMENTS))
    assert (whole.path / "confirm.jsonl").read_bytes() == before
    assert again[again.index("Retrained") :] == out[out.index("Retrained") :]

    folder(shell / "killed", "COMPLETE", "COMPLETE")
    process = start(shell, "confirm", "killed", *ARGUMENTS)
    wait_for_epochs(shell / "killed", 3, process)
    process.kill()
    process.communicate()
    process = start(shell, "confirm", "killed", *ARGUMENTS)
    while not (busy := [pid for pid, command in family(process.pid).items() if command.startswith("ray::retrain")]):
        assert process.poll() is None, process.communicate()
    os.kill(busy[0], signal.SIGKILL)
    end(process)
    killed = load(shell / "killed").confirmations
    key = ["label", "seed"]
    for found in (table, killed):
        found.sort_values(key, inplace=True, ignore_index=True)
    assert killed.drop(columns=CLOCKS).equals(table.drop(columns=CLOCKS))
    lines = [json.loads(line) for line in (shell / "killed" / "confirm.jsonl").open()]
    assert len(lines) == len(killed)  # none was recorded twice
    assert list((shell / "killed" / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_a_signal_ends_it_with_one_line(shell: Path) -> None:
    folder(shell / "signal", "COMPLETE", "COMPLETE")
    process = start(shell, "confirm", "signal", *ARGUMENTS)
    wait_for_epochs(shell / "signal", 2, process)
    begun = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == "\nStopped. The same command goes on: the run is in signal\n"
    assert time.monotonic() - begun < 20
    assert list((shell / "signal" / "checkpoints").iterdir())
