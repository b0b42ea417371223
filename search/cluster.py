"""Ray, started or joined quietly, and left behind clean."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from textwrap import shorten
from typing import Any

import ray
from ray._private import services, worker

from odenas.search.loopback import forget_token, loopback, token
from odenas.search.scratch import scratch, unwritable
from odenas.space import OdenasError

# Nothing is sent anywhere, trials are reported by this project alone, Ctrl-C ends the search at once (the run folder
# needs no farewell), and Tune's own snapshots, which nobody reads, are rare.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "60",
}

# Of the logs that each process of a local Ray writes, so many bytes and files are kept.
ROTATION = {"RAY_ROTATION_MAX_BYTES": str(8 * 2**20), "RAY_ROTATION_BACKUP_COUNT": "1"}

OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for what tasks exchange, here some kB each; Ray wants 75 MiB or more, and takes 30 % of the
memory where nothing is said."""

PATIENCE = 5.0
"""Seconds to wait for the first answer of an address; Ray itself would try for ten minutes."""


def check_address(address: str | None) -> None:
    """Refuse the address of a Ray cluster where nobody listens, and that of a Ray Client.

    Raises:
        OdenasError: it is not "auto" or HOST:PORT, or nobody listens there.
    """
    if address == "auto":
        _no_client("RAY_ADDRESS", os.environ.get("RAY_ADDRESS", ""))
    if address in (None, "auto", "local"):
        return
    _no_client("--address", str(address))
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise OdenasError(f"`--address` is {address!r}, but must be HOST:PORT of a Ray cluster's head, or 'auto'")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise OdenasError(
            f"`--address` is {address!r}, where nobody answers ({error.strerror or error}); "
            "it needs HOST:PORT of a running Ray cluster's head"
        ) from None


def _no_client(name: str, address: str) -> None:
    """Refuse a Ray Client: with it Tune would run the search on the head, away from the run folder."""
    if "://" in address:
        raise OdenasError(
            f"`{name}` is {address!r}, a Ray Client's, through which no search runs; run the command on a node of the "
            "cluster with `--address auto`, or by `ray job submit`"
        )


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Start Ray on this machine, or join the cluster at `address`; yield its resources ("CPU", "GPU").

    A Ray that is started here listens on 127.0.0.1 alone and keeps its files in a folder that goes with it.

    Raises:
        OdenasError: nobody answers at the address, no node of the cluster runs here, its Ray or Python is another
            version, or Ray cannot keep its files.
    """
    check_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    with ExitStack() as stack:
        if not ray.is_initialized():
            (_join if address not in (None, "local") else _start)(stack, address)
        yield dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def _start(stack: ExitStack, _: str | None) -> None:
    """Start a local Ray until the stack is left."""
    folder = stack.enter_context(scratch())
    forget_token()  # of a Ray that this process used before
    stack.callback(forget_token)
    stack.enter_context(_environment(QUIET | ROTATION | token()))
    try:
        with loopback():
            _init(
                stack,
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                _temp_dir=str(folder),
            )
    except OSError as error:
        raise OdenasError(unwritable(folder.parent, error.strerror or error)) from None
    except Exception as error:  # Ray raises RuntimeError, TimeoutError and Exception
        raise OdenasError(f"`--address` is None, but Ray cannot be started here: {_reason(error)}") from error


def _join(stack: ExitStack, address: str | None) -> None:
    """Join a running cluster until the stack is left."""
    stack.enter_context(_environment(QUIET))
    # Where the data lie is told to the nodes, which otherwise would have it each from its own environment.
    data = {name: os.environ[name] for name in ("ODENAS_DATA",) if name in os.environ}
    try:
        found = services.get_ray_address_from_environment("auto", None) if address == "auto" else address
        if found != address:
            check_address(found)
        with loopback() if _on_loopback_alone(found) else ExitStack():
            _init(stack, address=address, runtime_env={"env_vars": data} if data else None)
    except OdenasError:
        raise
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, TimeoutError and its own
        raise OdenasError(f"`--address` is {address!r}, but no Ray cluster can be joined: {_reason(error)}") from error


def _init(stack: ExitStack, **options: Any) -> None:
    """Call `ray.init` so that it says nothing and leaves the handling of SIGTERM as it was."""
    handler = signal.getsignal(signal.SIGTERM)
    # Ray prints to the console what befalls its nodes, whatever `log_to_driver` is; the log is the place for it.
    stack.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
    worker.print_to_stdstream = _to_log
    stack.callback(ray.shutdown)
    with _no_stderr():
        ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    if threading.current_thread() is threading.main_thread():
        # Ray has put its own in place, which prints a stack.
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what is written to standard error, by compiled code too: what Ray's tries again; its end is raised."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _to_log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """Write lines that Ray means for the console to the log."""
    del ignore_prefix
    for line in data["lines"]:
        logging.getLogger("odenas").warning("Ray's %s: %s", data["pid"], line)


def _on_loopback_alone(address: str | None) -> bool:
    """Return whether a cluster's head listens on 127.0.0.1 and not on this machine's own address, which Ray takes."""
    host, _, port = str(address).rpartition(":")
    if host not in ("127.0.0.1", "localhost", "::1"):
        return False
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    try:
        socket.create_connection((own, int(port)), timeout=PATIENCE).close()
    except OSError:
        return True
    return False


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set those variables that the environment has not; afterwards they are as they were, and what Ray sets too."""
    before = {name: os.environ.get(name) for name in (*values, "RAY_AUTH_MODE")}
    for name, value in values.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            os.environ.pop(name, None)
            if old is not None:
                os.environ[name] = old


def _reason(error: BaseException) -> str:
    """Return what an error of Ray's says in one line: the first, or the last where a traceback is in it."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    traceback = any("Traceback (most recent call last)" in line for line in lines)
    return shorten(lines[-1 if traceback else 0], 300) if lines else type(cause).__name__
