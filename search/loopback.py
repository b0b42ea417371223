"""Servers of a local Ray on this machine's loopback interface alone, closed to its other users."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ray import _raylet
from ray._private import ray_constants


@contextmanager
def loopback() -> Iterator[None]:
    """Give the Ray that is started in here the address 127.0.0.1, whereupon none of its servers listens elsewhere.

    Every server of Ray (GCS, raylet, object manager, agents, workers, driver) listens on all interfaces unless its
    node's address is the loopback's. `ray.init` replaces a loopback address that it is given by the machine's own
    (`resolve_ip_for_localhost` in ray/_private/services.py) except where Ray clusters are switched off, which is what
    Ray does on macOS and Windows (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER). Ray reads that variable when it is imported,
    so this sets the constant; Ray 2.49 and 2.60 have it.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def token() -> dict[str, str]:
    """Return the variable with a new token, which the processes of a local Ray ask of whoever connects.

    The loopback interface is open to all users of a machine. Since 2.59 Ray makes such a token by itself, and leaves
    it in the home folder; in the environment it ends with the processes.
    """
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


def forget_token() -> None:
    """Have Ray read the token anew when it next starts or joins a cluster."""
    loader = getattr(_raylet, "AuthenticationTokenLoader", None)
    if loader is not None:  # Ray knows tokens
        loader.instance().reset_cache()
