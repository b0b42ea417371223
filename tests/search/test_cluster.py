"""Addresses of Ray clusters, refused before Ray starts, and what is joined."""

import os
import signal
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest
import ray
from ray._private import services, worker

from odenas.search import cluster as module
from odenas.search.cluster import QUIET, check_address, cluster
from odenas.space import OdenasError


@pytest.mark.parametrize("address", [None, "auto", "local"])
def test_these_are_left_to_ray(address: str | None) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "head:port", "head:0", "head:65536"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(OdenasError, match=f"^`--address` is {address!r}, but must be HOST:PORT"):
        check_address(address)


def test_somebody_must_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
    begun = time.monotonic()
    with pytest.raises(OdenasError, match=r"where nobody answers \(.*refused\)") as error:
        check_address(address)
    assert time.monotonic() - begun < 3
    assert "\n" not in str(error.value)


def test_a_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OdenasError, match=r"^`--address` is 'ray://127.0.0.1:10001', a Ray Client's"):
        check_address("ray://127.0.0.1:10001")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    check_address(None)
    with pytest.raises(OdenasError, match=r"^`RAY_ADDRESS` is 'ray://head:10001', a Ray Client's"):
        check_address("auto")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `ray.init` is given, and the environment that it is called in; nothing starts."""
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray puts its own handler in place
        os.write(2, b"[W] gcs_client.cc: again")  # as its compiled code does
        calls.append({"options": options, "environment": dict(os.environ)})
        os.environ["RAY_AUTH_MODE"] = "token"

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append({"shutdown": True}))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(services, "get_ray_address_from_environment", lambda *_: "auto")
    return calls


@pytest.mark.parametrize("address", [None, "auto"])
def test_the_process_is_left_as_it_was(
    given: list[dict[str, Any]], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_WARN_THRESHOLD_S", "3")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    with cluster(address) as resources:
        assert resources == {"CPU": 2.0}
        assert {name: os.environ[name] for name in QUIET} == QUIET | {"TUNE_WARN_THRESHOLD_S": "3"}
        assert signal.getsignal(signal.SIGTERM) == handler
    assert dict(os.environ) == before
    assert given[-1] == {"shutdown": True}
    # A token is for the Ray that is started here; a cluster has its own, or none.
    assert ("RAY_AUTH_TOKEN" in given[0]["environment"]) == (address is None)


def test_nothing_is_said_but_what_is_logged(
    given: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = worker.print_to_stdstream
    with cluster("auto"):
        # What Ray's thread for errors calls, whatever `log_to_driver` is.
        worker.print_to_stdstream({"lines": ["one", "two"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        os.write(2, b"ours")
    assert worker.print_to_stdstream is before
    assert caplog.messages == ["Ray's raylet: one", "Ray's raylet: two"]
    assert capfd.readouterr() == ("", "ours")


def test_each_local_ray_has_a_token_of_its_own(given: list[dict[str, Any]]) -> None:
    for _ in range(2):
        with cluster(None):
            pass
    tokens = {call["environment"]["RAY_AUTH_TOKEN"] for call in given if "environment" in call}
    assert len(tokens) == 2
    assert all(len(token) == 64 for token in tokens)


def test_where_the_data_lie_is_told_to_the_nodes(given: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODENAS_DATA", "/scratch/data")
    with cluster("auto"):
        assert given[0]["options"]["runtime_env"] == {"env_vars": {"ODENAS_DATA": "/scratch/data"}}


def test_a_ray_that_runs_already_is_taken_and_left(
    given: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with cluster(None) as resources:
        assert resources == {"CPU": 2.0}
    assert given == []


def test_a_cluster_that_is_found_but_gone_is_refused(
    given: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(services, "get_ray_address_from_environment", lambda *_: address)
    with pytest.raises(OdenasError, match=f"`--address` is '{address}', where nobody answers"), cluster("auto"):
        pass
    assert given == []


@pytest.mark.parametrize(
    ("address", "raised", "line"),
    [
        ("auto", ConnectionError("Could not find any running Ray instance."),
         "`--address` is 'auto', but no Ray cluster can be joined: Could not find any running Ray instance."),
        ("auto", RuntimeError("Failed.\nTraceback (most recent call last):\n  File x\nE: no token " + "x " * 400),
         "no Ray cluster can be joined: E: no token x x"),
        (None, RuntimeError("\n\nFailed to start GCS.\nmore"),
         "Ray cannot be started here: Failed to start GCS."),
        (None, OSError(28, "No space left on device"), "where Ray cannot keep its files (No space left on device)"),
    ],
)  # fmt: skip
def test_what_ray_raises_is_one_line(
    given: list[dict[str, Any]],
    address: str | None,
    raised: Exception,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: Any) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    before = dict(os.environ)
    with pytest.raises(OdenasError) as error, cluster(address):
        pass
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert dict(os.environ) == before


def test_a_head_on_loopback_alone_is_told_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.2")
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = server.getsockname()[1]
        assert module._on_loopback_alone(f"127.0.0.1:{port}")
        assert not module._on_loopback_alone(f"127.0.0.2:{port}")
        assert not module._on_loopback_alone("auto")
        stack.enter_context(socket.create_server(("127.0.0.2", port)))
        assert not module._on_loopback_alone(f"127.0.0.1:{port}")
