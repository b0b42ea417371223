"""What the nodes of a cluster need before trials run on them, and what is said where they lack it."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from odenas.search import nodes
from odenas.search.cluster import cluster
from odenas.search.config import SearchConfig
from odenas.search.loopback import loopback
from odenas.search.nodes import look, obtain, others, prepare_nodes
from odenas.space import OdenasError

HERE: dict[str, Any] = {
    "versions": {"Python": "3.11", "odenas": "1.2", "torch": "2.15.0"},
    "source": "a",
    "reached": True,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"versions": HERE["versions"] | {"odenas": None}}, "has no odenas, and this machine 1.2; "),
        ({"versions": HERE["versions"] | {"Python": "3.12"}}, "has Python 3.12, and this machine 3.11; "),
        ({"versions": HERE["versions"] | {"torch": "2.14.1"}}, "has torch 2.14.1, and this machine 2.15.0; "),
        ({"source": "b"}, "has other files of odenas than this machine; "),
    ],
)
def test_what_two_machines_have_otherwise(change: dict[str, Any], said: str | None) -> None:
    found = nodes._difference(HERE, HERE | change)
    assert found == (said and said + "install the same on all nodes")


def test_a_look_at_this_machine(tmp_path: Path) -> None:
    import torch

    mark = tmp_path / "mark"
    seen = look(("odenas", "torch", "no-such-package"))(str(mark))
    assert seen["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert seen["versions"]["odenas"]
    assert seen["versions"]["no-such-package"] is None
    assert not seen["reached"]
    mark.touch()
    again = look(("odenas",))(str(mark))
    assert again["reached"]
    assert again["source"] == seen["source"] != look(())(None)["versions"]


@pytest.mark.parametrize(("storage", "left"), [(None, True), ("s3://bucket/x", False)])
def test_a_mark_is_left_where_the_checkpoints_go(tmp_path: Path, storage: str | None, left: bool) -> None:
    config = SearchConfig(run=str(tmp_path / "run"), storage=storage)
    with nodes._mark(config) as mark:
        assert mark is None
    config.folder.mkdir()
    with nodes._mark(config) as mark:
        assert (mark is not None) == left
        assert len(list(config.folder.iterdir())) == left
    assert list(config.folder.iterdir()) == []


def test_data_that_cannot_be_had_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert obtain("digits", 60, 0) == ([], None)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ODENAS_DATA", str(tmp_path / "file"))
    _, failure = obtain("fashion-mnist", 60, 0)
    assert failure is not None
    assert "cannot hold 'fashion-mnist'" in failure


# Of what follows, each node is told from the others by the GPUs that it says it has.
WITHOUT_PACKAGE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "odenas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.metadata
there = importlib.metadata.version
def version(name):
    if name == "odenas":
        raise importlib.metadata.PackageNotFoundError(name)
    return there(name)
importlib.metadata.version = version
"""


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Cluster, Path]]:
    """A cluster of a head, a node without the package, one without room for data, and two that lack nothing."""
    place = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    (place / "sitecustomize.py").write_text(WITHOUT_PACKAGE)
    (place / "file").touch()
    with pytest.MonkeyPatch.context() as patch, loopback():
        patch.setenv("RAY_TMPDIR", str(place))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("ODENAS_DATA", raising=False)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.add_node(num_cpus=1, num_gpus=1, env_vars={"PYTHONPATH": str(place)})
        made.add_node(num_cpus=1, num_gpus=2, env_vars={"ODENAS_DATA": str(place / "file")})
        for _ in range(2):
            made.add_node(num_cpus=1, num_gpus=3)
        with cluster(made.address):
            yield made, place
        made.shutdown()  # type: ignore[no-untyped-call]
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def after(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, function)
    timer.start()
    yield
    timer.join()


@pytest.mark.slow
def test_nodes_are_checked_and_have_the_data(
    running: tuple[Cluster, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = running
    (tmp_path / "run").mkdir()

    def config(**values: Any) -> SearchConfig:
        return SearchConfig(address=made.address, run=str(tmp_path / "run"), train_size=60, **values)

    # Those on which a trial fits, and not this process's own.
    assert [len(others(config(gpus=count))) for count in (0, 1, 2, 3, 4)] == [4, 4, 3, 2, 0]
    said: list[str] = []
    prepare_nodes(config(gpus=4), said.append)
    prepare_nodes(config(gpus=3), said.append)
    assert said == []

    with pytest.raises(OdenasError) as error:
        prepare_nodes(config(gpus=1), said.append)
    assert f"`--address` is '{made.address}', but node " in str(error.value)
    assert "has no odenas, and this machine " in str(error.value)

    with pytest.raises(OdenasError) as error:
        prepare_nodes(config(gpus=2, data="fashion-mnist"), said.append)
    assert str(error.value).startswith("node ")
    assert "cannot hold 'fashion-mnist'" in str(error.value)
    assert "\n" not in str(error.value)

    monkeypatch.setattr(nodes, "_mark", lambda _: after(0, lambda: None))
    monkeypatch.setattr(nodes, "look", lambda _: lambda mark: HERE | {"reached": False})
    with pytest.raises(OdenasError, match=r"^`--run` is '.*run', which node .* does not reach to write to; choose"):
        prepare_nodes(config(gpus=3), said.append)


@pytest.mark.slow
def test_a_node_lost_meanwhile_is_left_out(
    running: tuple[Cluster, Path], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = running
    lost = made.add_node(num_cpus=1, num_gpus=9)
    three = others(SearchConfig(gpus=3))
    assert len(three) == 3
    said: list[str] = []

    def slow(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    with after(3, lambda: made.remove_node(lost, allow_graceful=False)):
        found = list(nodes._on_each(three, slow, (8,), said.append))
    assert [result for _, result in found] == [8, 8]
    assert len(said) == 1
    assert "was lost" in said[0]
    # Ray has something to say of it, in the log.
    end = time.monotonic() + 30
    while "Ray's raylet: " not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_unforeseen_error_names_the_node(running: tuple[Cluster, Path]) -> None:
    def fail() -> None:
        raise OSError("no such device")

    with pytest.raises(OdenasError, match=r"^node .* cannot run trials: OSError: no such device$"):
        list(nodes._on_each(others(SearchConfig(gpus=3)), fail, (), print))
