"""Ray, started or joined quietly, and left behind clean."""

from __future__ import annotations

import logging
import os
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


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Start Ray on this machine, or join the cluster at `address`; yield its resources ("CPU", "GPU").

    Raises:
        OdenasError: nobody answers at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="ray")
    started = not ray.is_initialized()
    if started:
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
    try:
        yield dict(ray.cluster_resources())  # type: ignore[no-untyped-call]
    finally:
        if started:
            ray.shutdown()
