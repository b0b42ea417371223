"""Ray, started or joined quietly, and left behind clean."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import ray

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


PATIENCE = 5.0
"""Seconds to wait for the first answer of an address; Ray itself would try for ten minutes."""


def check_address(address: str | None) -> None:
    """Refuse the address of a Ray cluster where nobody listens.

    Raises:
        OdenasError: it is not "auto" or HOST:PORT, with or without "ray://" before it, or nobody listens there.
    """
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise OdenasError(f"`--address` is {address!r}, but must be HOST:PORT of a Ray cluster's head, or 'auto'")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise OdenasError(
            f"`--address` is {address!r}, where nobody answers ({error.strerror or error}); "
            "it needs HOST:PORT of a running Ray cluster's head"
        ) from None


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Start Ray on this machine, or join the cluster at `address`; yield its resources ("CPU", "GPU").

    Raises:
        OdenasError: nobody answers at the address.
    """
    check_address(address)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    started = not ray.is_initialized()
    if started:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            if address is None:
                raise
            reason = str(error).splitlines()[0]
            raise OdenasError(f"`--address` is {address!r}, but no Ray cluster answers there: {reason}") from None
        if threading.current_thread() is threading.main_thread():
            # Ray has put its own in place, which prints a stack.
            signal.signal(signal.SIGTERM, handler)
    try:
        yield dict(ray.cluster_resources())  # type: ignore[no-untyped-call]
    finally:
        if started:
            ray.shutdown()
