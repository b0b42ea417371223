"""The script for Slurm, run with stand-ins for Slurm's own commands: one node, on the loopback interface."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from odenas.results import load

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "slurm" / "search.sbatch"

# Slurm's commands as far as the script uses them: srun runs the command here and hands on its signals, scontrol says
# which nodes there are and notes what it is asked.
SHIMS = {
    "srun": '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\n[ "$1" = show ] && hostname || echo "$@" >>"$NOTES"\n',
}


@pytest.fixture
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    yield place
    shutil.rmtree(place)


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the script as Slurm would, in a process group of its own."""
    shims = folder / "bin"
    shims.mkdir(exist_ok=True)
    for name, text in SHIMS.items():
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{shims}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_CPUS_PER_TASK": "2",
        "NOTES": str(folder / "notes"),
        # On one machine for a test: everything stays on the loopback interface.
        "ODENAS_HEAD_IP": "127.0.0.1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(script: subprocess.Popen[str], seconds: float = 150) -> str:
    try:
        return script.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)
        raise


def write_config(folder: Path, epochs: int) -> str:
    path = folder / "search.toml"
    path.write_text(
        f'data = "digits"\nrun = "run"\ntrials = 2\nepochs = {epochs}\ndepth = 14\nwidth = 2\ntrain_size = 200\n'
        "[confirm]\nseeds = 0\n"
    )
    return str(path)


def processes(text: str) -> list[str]:
    """Return the command lines that contain a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_it_is_a_script_for_bash() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    lines = SCRIPT.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    # sbatch stops reading options at the first command.
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert len(options) >= 8
    assert max(options) < first
    commands = [line for line in lines if not line.lstrip().startswith("#")]
    assert not any("ray stop" in line for line in commands)


@pytest.mark.slow
def test_a_job_ends_and_leaves_nothing_running(folder: Path) -> None:
    script = begin(folder, write_config(folder, epochs=2))
    said = finish(script)
    assert script.returncode == 0, said
    assert load(folder / "run").trials["status"].tolist() == ["COMPLETE", "COMPLETE"]
    assert not (folder / "notes").exists()
    files = f"/tmp/odenas-{os.getpid()}"
    assert processes(files) == []
    assert not Path(files).exists()


@pytest.mark.slow
def test_when_the_time_is_up_the_job_goes_back_and_goes_on(folder: Path) -> None:
    config = write_config(folder, epochs=15)
    script = begin(folder, config)
    journal = folder / "run" / "epochs.jsonl"
    end = time.monotonic() + 100
    while not journal.exists() or len(journal.read_text().splitlines()) < 3:
        assert script.poll() is None, finish(script)
        assert time.monotonic() < end
        time.sleep(0.1)
    begun = time.monotonic()
    script.send_signal(signal.SIGUSR1)  # to the script alone: --signal=B:USR1@120
    said = finish(script)
    assert script.returncode == 143, said
    assert time.monotonic() - begun < 60
    assert (folder / "notes").read_text() == f"requeue {os.getpid()}\n"
    before = journal.read_text()
    assert processes(f"/tmp/odenas-{os.getpid()}") == []

    # What Slurm starts again is the same command.
    script = begin(folder, config)
    said = finish(script)
    assert script.returncode == 0, said
    found = load(folder / "run")
    assert found.trials["status"].isin(["COMPLETE", "PRUNED"]).all()
    assert journal.read_text().startswith(before)
    assert not found.epochs.duplicated(["number", "epoch"]).any()


@pytest.mark.slow
def test_what_the_search_refuses_ends_the_job_with_its_exit_code(folder: Path) -> None:
    script = begin(folder, "--trials", "0")
    said = finish(script)
    assert script.returncode == 2
    assert "`trials` is 0" in said
    assert not (folder / "notes").exists()
