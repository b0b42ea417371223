"""What a network steps by, wherever the network holds it."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch import nn

REWIRING = "rewiring"
"""Attribute of a rewired network that holds its scheme; learned coefficients have it as prefix in the state dict."""


class Stepper(Protocol):
    """The scheme, the module that gives the weights of each stage's steps, and the architecture in plain values.

    "widths" (channels of each stage) and "branches" (evaluations in each of a stage's blocks) are always in the
    architecture; "channels" (of the images) where they are known.
    """

    scheme: Any
    weights: nn.Module
    architecture: dict[str, Any]


def stepper_of(network: nn.Module) -> Stepper:
    """Return the rewiring of a network that `rewire` changed, or else the network, as `build` makes it, itself."""
    return cast(Stepper, getattr(network, REWIRING, network))
