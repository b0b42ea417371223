"""A local Ray, started as a search starts it: who listens, what is written where, what is said."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from ray._private import ray_constants

from odenas.search.loopback import loopback, token

# Of every process of the local Ray: its name, where it listens, and what it was told. Agents open servers some seconds
# after the start.
LOOK = """
import json, os, socket, sys, time
from odenas.search.cluster import cluster
import ray

with cluster(None) as resources:
    from ray._private import utils  # puts the psutil that comes with Ray in reach
    import psutil
    time.sleep(8)
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = []
    for process in processes:
        for connection in process.net_connections():
            if connection.status == "LISTEN" or connection.type == socket.SOCK_DGRAM and not connection.raddr:
                listening.append([process.name(), connection.laddr.ip, connection.laddr.port])
    told = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    address = ray.get_runtime_context().gcs_address
    names = [process.name() + " " + " ".join(process.cmdline()) for process in processes]
    server, = (process for process in processes if process.name() == "gcs_server")
    print(json.dumps({
        "names": names, "listening": listening, "worker": told, "server": server.environ(),
        "address": address, "resources": resources,
    }))
"""


@pytest.fixture(scope="module")
def folders() -> Iterator[tuple[Path, Path]]:
    """A home folder, and a short path for Ray's files."""
    base = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    (base / "home").mkdir()
    (base / "ray").mkdir()
    yield base / "home", base / "ray"
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def seen(folders: tuple[Path, Path]) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """What a process saw that started a local Ray."""
    home, place = folders
    named = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = named | {"HOME": str(home), "RAY_TMPDIR": str(place)}
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done


def is_loopback(address: str) -> bool:
    found = ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
     ("::ffff:10.0.0.1", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_the_judge_of_addresses(address: str, loopback: bool) -> None:
    assert is_loopback(address) == loopback


def test_the_switch_is_put_back() -> None:
    before = ray_constants.ENABLE_RAY_CLUSTER
    with loopback():
        assert ray_constants.ENABLE_RAY_CLUSTER is False
    with pytest.raises(KeyError), loopback():
        raise KeyError
    assert before == ray_constants.ENABLE_RAY_CLUSTER


def test_tokens_differ() -> None:
    assert token() != token()


@pytest.mark.slow
def test_nothing_listens_beyond_loopback(
    seen: tuple[dict[str, Any], subprocess.CompletedProcess[str]],
) -> None:
    report, _ = seen
    listening = report["listening"]
    assert [row for row in listening if not is_loopback(row[1])] == []
    # The look reached the servers there are: GCS, raylet with its object manager, agents, two workers, the driver.
    owners = [owner for owner, _, _ in listening]
    assert owners.count("gcs_server") >= 1
    assert owners.count("raylet") >= 2
    assert sum(owner.startswith("ray::") for owner in owners) >= 3
    assert report["address"].startswith("127.0.0.1:")


@pytest.mark.slow
def test_nothing_is_sent_or_shown(seen: tuple[dict[str, Any], subprocess.CompletedProcess[str]]) -> None:
    report, done = seen
    assert report["worker"]["RAY_USAGE_STATS_ENABLED"] == report["server"]["RAY_USAGE_STATS_ENABLED"] == "0"
    (dashboard,) = [name for name in report["names"] if "dashboard.py" in name]
    assert "--minimal" in dashboard  # the API server without the dashboard, which opens no port
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.slow
def test_nothing_is_left_behind(
    seen: tuple[dict[str, Any], subprocess.CompletedProcess[str]], folders: tuple[Path, Path]
) -> None:
    home, place = folders
    assert list(home.rglob("*")) == []  # no token either
    assert list(place.iterdir()) == []
    report, _ = seen
    assert len(report["server"]["RAY_AUTH_TOKEN"]) == 64
    assert report["server"]["RAY_ROTATION_MAX_BYTES"] == "8388608"
    assert report["resources"]["object_store_memory"] == 100 * 2**20


@pytest.mark.slow
def test_a_home_that_cannot_be_written_to_does_not_matter(folders: tuple[Path, Path]) -> None:
    code = "from odenas.search.cluster import cluster\nwith cluster(None) as resources: print(resources['CPU'])"
    environment = os.environ | {"HOME": "/dev/null", "RAY_TMPDIR": str(folders[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) >= 1
