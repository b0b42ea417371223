"""Addresses of Ray clusters, refused before Ray starts."""

import socket
import time

import pytest

from odenas.search.cluster import check_address
from odenas.space import OdenasError


@pytest.mark.parametrize("address", [None, "auto", "local"])
def test_these_are_left_to_ray(address: str | None) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "head:port", "head:0", "head:65536", "ray://head"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(OdenasError, match=f"^`--address` is {address!r}, but must be HOST:PORT"):
        check_address(address)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_somebody_must_listen(prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{prefix}127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
    begun = time.monotonic()
    with pytest.raises(OdenasError, match=r"where nobody answers \(.*refused\)") as error:
        check_address(address)
    assert time.monotonic() - begun < 3
    assert "\n" not in str(error.value)
