"""Ray, started or joined quietly, and left behind clean."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Read when ray is imported: nothing is sent anywhere, trials are reported by this project alone, and the first
# workers start side by side (custom searchers are else held to one pending trial).
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_THRESHOLD_S": "60",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

from odenas.space import OdenasError  # noqa: E402


@contextmanager
def cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Start Ray on this machine, or join the cluster at `address`; yield its resources ("CPU", "GPU").

    Raises:
        OdenasError: nobody answers at the address.
    """
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
        yield dict(ray.cluster_resources())
    finally:
        if started:
            ray.shutdown()
