"""Searches as the user runs them, on digits, with a Ray of their own; the slow ones are killed on the way."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import save_file
from shell import PATIENCE, Shell

from odenas.results import Run, load
from odenas.search.confirm import confirmation_seeds
from odenas.search.data import load as load_data

if sys.platform == "win32":
    pytest.skip("asks for signals", allow_module_level=True)

SMALL = """
trials = 5
epochs = 2
train_size = 100
depth = 14
width = 2
keep = 3
workers = 2
enqueue = ["euler", "lm", "ab2"]
[recipe]
learning_rate = 0.05
[confirm]
top = 1
seeds = 2
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("search"))
    (shell.folder / "small.toml").write_text(SMALL)
    yield shell
    shell.close()


@dataclass(frozen=True)
class Searched:
    """A finished search and what it printed."""

    run: Run
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def searched(shell: Shell) -> Searched:
    done = shell("search", "small.toml", "--run", "run")
    assert done.returncode == 0, done.stderr
    return Searched(load(shell.folder / "run"), done)


def check_tables(run: Run, trials: int) -> None:
    """Check that each trial is there once and ended, and each of its epochs once."""
    table = run.trials
    assert table["number"].tolist() == list(range(trials))
    assert set(table["status"]) <= {"COMPLETE", "PRUNED"}
    assert (table["validation_error"].between(0, 100)).all()
    lines = [(line["number"], line["epoch"]) for line in map(json.loads, (run.path / "epochs.jsonl").open())]
    wanted = [(row["number"], epoch) for row in table.to_dict("records") for epoch in range(1, row["epochs"] + 1)]
    assert sorted(lines) == wanted
    last = run.epochs.groupby("number").last()
    for name in ("validation_error", "validation_loss", "train_loss"):
        assert last[name].tolist() == table[name].tolist()
    assert table["seed"].is_unique
    assert table["scheme"].is_unique


def check_coefficients(run: Run) -> None:
    """Check that those that learn, and they alone, have coefficients, of every epoch or the last."""
    found = run.coefficients.groupby("number")["epoch"].unique().map(list).to_dict()
    for row in run.trials.to_dict("records"):
        epochs = list(range(1, row["epochs"] + 1))
        if row["learning"] == "fixed":
            wanted: list[list[int]] = [[]]
        elif row["sharing"] == "channel":
            wanted = [[row["budget"]] if row["status"] == "COMPLETE" else []]
        else:
            wanted = [epochs]
        assert found.get(row["number"], []) in wanted


def test_the_run_folder_is_complete(searched: Searched) -> None:
    run = searched.run
    check_tables(run, 5)
    check_coefficients(run)
    table = run.trials
    assert (table["status"] == "COMPLETE").all()
    assert table["label"].tolist()[:3] == ["euler", "lm", "ab2"]
    unknown = {"failure", "checkpoint", "commit", "latency"}
    assert set(table.columns[table.isna().any()]) <= unknown
    assert not run.epochs.isna().to_numpy().any()
    assert (table["finished"] >= table["started"]).all()
    assert (table["train_size"] == 100).all()
    assert set(table["budget"]) == {2}
    assert run.config["trials"] == 5
    best = table.sort_values(["validation_error", "params", "number"]).head(3)
    assert set(table["number"][table["checkpoint"].notna()]) == set(best["number"])
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == sorted(
        Path(path).name for path in best["checkpoint"]
    )


def test_confirmations_are_paired(searched: Searched) -> None:
    table = searched.run.confirmations
    assert (table["status"] == "COMPLETE").all()
    assert set(table["role"]) <= {"candidate", "baseline", "twin"}
    seeds = sorted(confirmation_seeds(0, 2))
    for label, group in table.groupby("label"):
        assert sorted(group["seed"]) == seeds
        if (group["role"] != "twin").all():
            twin = table[table["twin_of"] == label]
            assert sorted(twin["seed"]) == seeds
            assert set(twin["params"]) == {searched.run.trials["params"][0]}  # forward Euler
    assert "lm" in {label.removeprefix("trial 1: ") for label in table["label"]}
    assert table["test_error"].between(0, 100).all()
    assert not set(table["seed"]) & set(searched.run.trials["seed"])


def test_what_is_printed_is_short(searched: Searched) -> None:
    out, err = searched.done.stdout, searched.done.stderr
    assert err == ""
    lines = out.splitlines()
    assert len(lines) < 60
    assert lines[0].startswith("odenas · digits · ")
    assert re.match(r"trials \d/5 · ", lines[1])
    assert "Retrained over 2 seeds" in out
    assert lines[-1].endswith(" export run --out network")
    for word in ("ray", "optuna", "warning", "info", "token"):
        assert word not in out.lower()


def test_results_are_printed_and_written(searched: Searched, shell: Shell) -> None:
    done = shell("results", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 trials (5 done)" in done.stdout
    assert "Retrained over 2 seeds" in done.stdout
    assert shell("results", "run", "--out", "trials.parquet").returncode == 0
    table = pd.read_parquet(shell.folder / "trials.parquet")
    board = table.sort_values("number", ignore_index=True).drop(columns="rank")
    pd.testing.assert_frame_equal(board, searched.run.trials)
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table["validation_error"].is_monotonic_increasing


def test_the_exported_network_has_the_error_of_the_table(searched: Searched, shell: Shell) -> None:
    kept = searched.run.trials[searched.run.trials["checkpoint"].notna()]
    validation = load_data("digits").validation
    save_file({"images": validation.images, "labels": validation.labels}, shell.folder / "validation.safetensors")
    for row in kept.tail(1).to_dict("records"):
        done = shell("export", "run", "--trial", str(row["number"]), "--out", "network")
        assert (done.returncode, done.stderr) == (0, "")
        readme = (shell.folder / "network" / "README.md").read_text()
        assert f"| validation error (%) | {round(row['validation_error'], 4)} |" in readme
        (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        code = re.sub(
            r"images = torch.randint.*",
            'data = load_file("../validation.safetensors"); images = data["images"]',
            "import sys; sys.modules['odenas'] = None; torch_load = None\n"
            "from safetensors.torch import load_file\n" + snippet,
        )
        code = re.sub(r"print\((.*)\)", r'print(int((\1 != data["labels"]).sum()), len(images))', code)
        folder = shell.folder / "network"
        ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        wrong, count = map(int, ran.stdout.split())
        assert count == row["validation_size"]
        # An image on the very border of two classes may fall to either side.
        assert 100 * wrong / count == pytest.approx(row["validation_error"], abs=100 / count)


def test_the_same_command_does_nothing_new_and_more_trials_go_on(searched: Searched, shell: Shell) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (shell.folder / "run").glob("*.json*")}

    before = files()
    begun = time.monotonic()
    done = shell("search", "small.toml", "--run", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert files() == before
    assert time.monotonic() - begun < 60
    assert done.stdout.splitlines()[-5:] == searched.done.stdout.splitlines()[-5:]

    old = searched.run.trials
    done = shell("search", "small.toml", "--run", "run", "--trials", "7")
    assert (done.returncode, done.stderr) == (0, "")
    run = load(shell.folder / "run")
    check_coefficients(run)
    assert run.trials["number"].tolist() == list(range(7))
    assert (run.trials["status"] != "RUNNING").all()
    changing = ["checkpoint"]
    pd.testing.assert_frame_equal(run.trials.head(5).drop(columns=changing), old.drop(columns=changing))


# What takes minutes.

LONGER = SMALL.replace("epochs = 2", "epochs = 4").replace("train_size = 100", "train_size = 400")


@pytest.fixture(scope="module")
def longer(shell: Shell) -> Path:
    (shell.folder / "longer.toml").write_text(LONGER)
    return shell.folder


def has_epochs(folder: Path, count: int) -> bool:
    path = folder / "epochs.jsonl"
    return path.exists() and path.read_bytes().count(b"\n") >= count


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Return what the condition becomes, asked often, while the process runs."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def begin(shell: Shell, name: str) -> subprocess.Popen[str]:
    return shell.start("search", "longer.toml", "--run", name)


def finish(shell: Shell, name: str) -> Run:
    done = shell.end(begin(shell, name))
    assert (done.returncode, done.stderr) == (0, "")
    run = load(shell.folder / name)
    check_tables(run, 5)
    assert not run.confirmations["status"].ne("COMPLETE").any()
    return run


def outcome(run: Run) -> list[pd.DataFrame]:
    """Return what a run's tables say but for times and places."""
    clocks = ["seconds", "started", "finished", "hostname", "attempts", "commit"]
    return [
        table.drop(columns=clocks, errors="ignore")
        for table in (run.trials, run.epochs, run.coefficients, run.confirmations)
    ]


@pytest.fixture(scope="module")
def undisturbed(shell: Shell, longer: Path) -> Run:
    """The run of one worker that nothing befell."""
    done = shell("search", "longer.toml", "--run", "undisturbed", "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    return load(longer / "undisturbed")


def check_like(run: Run, undisturbed: Run) -> None:
    """Check that a run holds what an undisturbed one does, to the last digit."""
    for mine, its in zip(outcome(run)[:3], outcome(undisturbed)[:3], strict=True):
        pd.testing.assert_frame_equal(mine, its)
    order = ["label", "seed"]
    mine, its = (outcome(one)[3].sort_values(order, ignore_index=True) for one in (run, undisturbed))
    pd.testing.assert_frame_equal(mine, its)


@pytest.mark.slow
def test_a_search_killed_ten_times_ends_like_one_undisturbed(shell: Shell, longer: Path, undisturbed: Run) -> None:
    rng = random.Random(time.time_ns())
    for _ in range(10):
        epochs = longer / "killed" / "epochs.jsonl"
        before = len(epochs.read_bytes()) if epochs.exists() else 0
        process = begin(shell, "killed")
        # While Ray starts, before and in the midst of trials, and between the phases.
        deadline = time.monotonic() + rng.choice([rng.uniform(0, 12), 60])
        while process.poll() is None and time.monotonic() < deadline:
            if epochs.exists() and len(epochs.read_bytes()) > before + rng.randint(0, 600):
                time.sleep(rng.random())
                break
            time.sleep(0.02)
        shell.kill(process)
    assert load(longer / "killed").trials["status"].isin(["RUNNING", "COMPLETE", "PRUNED"]).all()
    check_like(finish(shell, "killed"), undisturbed)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(shell: Shell, longer: Path, undisturbed: Run) -> None:
    process = begin(shell, "damaged")
    wait_for(partial(has_epochs, longer / "damaged", 3), process)
    shell.kill(process)
    for path in (longer / "damaged" / "checkpoints").glob("?????.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    check_like(finish(shell, "damaged"), undisturbed)


@pytest.mark.slow
def test_a_folder_that_was_moved_goes_on(shell: Shell, longer: Path, undisturbed: Run) -> None:
    process = begin(shell, "before")
    wait_for(partial(has_epochs, longer / "before", 2), process)
    shell.note(process.pid)
    process.terminate()
    process.communicate()
    (longer / "before").rename(longer / "after")
    check_like(finish(shell, "after"), undisturbed)


@pytest.fixture
def small_disk(longer: Path) -> Iterator[Path]:
    """A file system of its own, of 200 kB; `mount` may change it."""
    folder = longer / "disk"
    folder.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", folder], capture_output=True).returncode:
        pytest.skip("asks for the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a file system; what was killed may keep a file of it open for some seconds."""
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["mount", "-o", f"remount,{options}", folder], capture_output=True).returncode:
        assert time.monotonic() < deadline
        time.sleep(1)


def check_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """Check that a command ended with one line that says why."""
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("odenas: ")
    assert words in line


@pytest.mark.slow
def test_a_full_disk_ends_it_with_one_line_and_nothing_lost(shell: Shell, small_disk: Path, undisturbed: Run) -> None:
    check_refused(shell.end(begin(shell, "disk/run")), "No space left on device")
    assert load(small_disk / "run").trials["status"].isin(["RUNNING", "COMPLETE", "PRUNED"]).all()
    remount(small_disk, "size=50m")
    check_like(finish(shell, "disk/run"), undisturbed)


@pytest.mark.slow
def test_a_folder_made_read_only_is_refused_with_one_line_and_nothing_lost(
    shell: Shell, small_disk: Path, undisturbed: Run
) -> None:
    remount(small_disk, "size=50m")
    process = begin(shell, "disk/run")
    wait_for(partial(has_epochs, small_disk / "run", 2), process)
    shell.kill(process)
    remount(small_disk, "ro")
    check_refused(shell("search", "longer.toml", "--run", "disk/run"), "Read-only file system")
    assert shell("results", "disk/run").returncode == 0
    remount(small_disk, "rw")
    check_like(finish(shell, "disk/run"), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_one_line_and_the_same_command_goes_on(
    shell: Shell, longer: Path, number: signal.Signals, status: int
) -> None:
    name = number.name
    process = begin(shell, name)
    wait_for(partial(has_epochs, longer / name, 3), process)
    shell.note(process.pid)
    process.send_signal(number)
    done = shell.end(process)
    assert done.returncode == status
    assert done.stderr == f"\nStopped. The same command goes on: the run is in {name}\n"
    assert "Traceback" not in done.stdout
    assert shell.settled()
    before = load(longer / name).trials
    run = finish(shell, name)
    ended = before["status"] != "RUNNING"
    columns = ["number", "scheme", "seed", "status", "validation_error"]
    pd.testing.assert_frame_equal(run.trials[columns].head(len(before))[ended], before[columns][ended])


@pytest.mark.slow
def test_a_signal_while_ray_starts(shell: Shell, longer: Path) -> None:
    process = begin(shell, "early")
    wait_for(lambda: any("gcs_server" in command for command in shell.note(process.pid).values()), process)
    process.send_signal(signal.SIGTERM)
    done = shell.end(process)
    assert done.returncode == 143
    assert done.stderr == "\nStopped. The same command goes on: the run is in early\n"
    assert shell.settled()


@pytest.mark.slow
def test_a_worker_killed_is_replaced_and_its_trial_goes_on(shell: Shell, longer: Path) -> None:
    process = begin(shell, "worker")
    wait_for(partial(has_epochs, longer / "worker", 2), process)

    def busy() -> list[int]:
        return [pid for pid, command in shell.note(process.pid).items()
                if command.startswith("ray::") and "Agent" not in command and "IDLE" not in command]  # fmt: skip

    victim = wait_for(busy, process)[0]
    os.kill(victim, signal.SIGKILL)
    done = shell.end(process)
    assert (done.returncode, done.stderr) == (0, "")
    check_tables(load(longer / "worker"), 5)


@pytest.mark.slow
def test_one_seed_gives_one_table_whatever_the_number_of_workers(shell: Shell, longer: Path, undisturbed: Run) -> None:
    check_like(finish(shell, "two"), undisturbed)
    shutil.rmtree(longer / "two" / "checkpoints")
