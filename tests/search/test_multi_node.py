"""A search on a Ray of several nodes, of which one is lost: real nodes, on one machine and its loopback interface."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from odenas.results import load
from odenas.search.loopback import loopback
from odenas.search.trial import read_checkpoint

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 5, 8

SEARCH = f"""
import sys
from odenas.search import SearchConfig, search
from odenas.space import OdenasError

try:
    search(SearchConfig(
        data="digits", train_size=400, depth=14, width=2, trials={TRIALS}, epochs={EPOCHS}, scheduler="none",
        sampler="random", confirm={{"seeds": 0}}, address=sys.argv[1], run=sys.argv[2],
    ))
except OdenasError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a short path, for sockets, where the cluster keeps its files."""
    place = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """A head, on which no trial fits, and two nodes that hold one trial each."""
    with loopback():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()  # type: ignore[no-untyped-call]


def begin(cluster: Cluster, run: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a search in a process of its own."""
    command = [sys.executable, "-c", SEARCH, cluster.address, str(run)]
    named = os.environ | environment
    return subprocess.Popen(command, env=named, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(condition: Callable[[], object], driver: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if driver.poll() is not None or time.monotonic() > end:
            driver.kill()
            pytest.fail(f"not reached: {driver.communicate()[0]}")
        time.sleep(0.05)


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    """Return the whole lines of a journal, which may be growing."""
    path = run / name
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def both_at_work(run: Path) -> bool:
    """Return whether two trials are in the middle of their training."""
    last: dict[int, int] = {row["number"]: row["epoch"] for row in lines(run, "epochs.jsonl")}
    return sum(epoch <= EPOCHS - 3 for epoch in last.values()) == 2


def test_a_node_lost_in_the_middle_loses_nothing(cluster: Cluster, folder: Path) -> None:
    run = folder / "run"
    driver = begin(cluster, run)
    try:
        wait_until(lambda: both_at_work(run), driver)
        before = [(row["number"], row["epoch"]) for row in lines(run, "epochs.jsonl")]
        cluster.remove_node(min(cluster.worker_nodes, key=id), allow_graceful=False)
        said, _ = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    assert "raylet" not in said  # Ray's own words of it are for the log

    found = load(run)
    assert found.trials["number"].tolist() == list(range(TRIALS))
    assert found.trials["status"].tolist() == ["COMPLETE"] * TRIALS
    assert found.trials["epochs"].tolist() == [EPOCHS] * TRIALS
    # Each epoch is noted once, and what was noted before was not trained again.
    noted = [(row["number"], row["epoch"]) for row in lines(run, "epochs.jsonl")]
    assert sorted(noted) == [(number, epoch) for number in range(TRIALS) for epoch in range(1, EPOCHS + 1)]
    assert noted[: len(before)] == before
    # The weights are those of the whole training.
    for path in found.trials["checkpoint"]:
        saved = read_checkpoint(run / path)
        assert saved is not None
        assert [row["epoch"] for row in saved[1]] == list(range(1, EPOCHS + 1))
