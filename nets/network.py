"""What every network of odenas is: a module that knows its arguments, and the scheme it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn


class SchemeNetwork(nn.Module):
    """A network with two things beside its parameters.

    `architecture` are its arguments in plain values, JSON-ready: what an export writes down and what makes it again;
    "channels" (of the images) and "widths" (of the stages) are always among them. `scheme` is the `Scheme` that `build`
    made it from, None in an exported network. `output` says what it returns: "logits" (batch, classes), or "images" of
    the shape of its input.
    """

    output: ClassVar = "logits"

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        self.scheme: Any = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return what the class of the network has beside, as `weights` and `stages`."""


def parameters(network: nn.Module) -> int:
    """Return the number of trained parameters, the scheme's learned coefficients included, shared ones once."""
    return sum(parameter.numel() for parameter in network.parameters())
