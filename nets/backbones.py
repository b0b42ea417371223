"""The networks of torchvision and timm by name, untrained, made to step by a scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from odenas.nets.rewire import rewire
from odenas.nets.stepper import stepper_of
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme

COLOURS = 3


@dataclass(frozen=True)
class Library:
    """Where networks come from.

    Args:
        names: function of the library's module: the names of its classifiers of images.
        builder: function of the module and a name: the function that makes the network.
        make: function of the module, a name, the numbers of classes and of image channels, and what else the network
            takes: the network, with initial weights drawn from torch's global generator; nothing is downloaded.
    """

    names: Callable[[Any], Sequence[str]]
    builder: Callable[[Any, str], Callable[..., nn.Module]]
    make: Callable[..., nn.Module]


def torchvision_network(library: Any, name: str, classes: int, channels: int, **sized: int) -> nn.Module:
    """Return a network of torchvision, which takes images of three channels: a grey one is given to it three times."""
    model: nn.Module = library.models.get_model(name, weights=None, num_classes=classes, **sized)
    if channels == 1:
        model.register_forward_pre_hook(thrice)
    elif channels != COLOURS:
        raise OdenasError(f"`channels` is {channels}, but must be 1 or {COLOURS} for a network of torchvision")
    return model


def timm_network(library: Any, name: str, classes: int, channels: int, **sized: int) -> nn.Module:
    """Return a network of timm."""
    made = library.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **sized)
    return made  # type: ignore[no-any-return]


def thrice(network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a forward with the channel of grey images (batch, 1, height, width) thrice; a hook."""
    images: Tensor = arguments[0]
    return (images.expand(-1, COLOURS, -1, -1), *arguments[1:])


LIBRARIES: dict[str, Library] = {
    "torchvision": Library(
        # Of this one module: detection, segmentation and video have modules of their own.
        lambda library: library.models.list_models(module=library.models),
        lambda library, name: library.models.get_model_builder(name),
        torchvision_network,
    ),
    "timm": Library(
        lambda library: library.list_models(),
        lambda library, name: library.model_entrypoint(name),
        timm_network,
    ),
}

SIZED = {
    "torchvision.models.vision_transformer": "image_size",
    "timm.models.vision_transformer": "img_size",
    "timm.models.deit": "img_size",
}
"""Modules whose networks are made for one size of images, and by which argument."""


def is_given(backbone: str) -> bool:
    """Return whether a backbone is a network of a library, "LIBRARY:NAME", and none that `build` makes."""
    return ":" in backbone


def given_network(backbone: str, scheme: Scheme, classes: int = 10, channels: int = 3, size: int = 32) -> nn.Module:
    """Return a network of torchvision or timm, with new weights, that steps by the scheme as `rewire` makes it.

    Parameters have their names; learned coefficients join them under "rewiring." and are drawn last, so that with one
    seed a scheme and its twin start from the same weights. `stepper_of` of the network has the scheme; its architecture
    has "backbone", "classes" and "channels" too.

    Args:
        backbone: "torchvision:NAME" or "timm:NAME", of those that the library lists as classifiers.
        scheme: how to step; `rewire` says which ones can.
        classes, channels: of the data; channels 1 or 3 for torchvision.
        size: height and width of the images; only vision transformers depend on it.

    Raises:
        OdenasError: the library or the name is unknown, timm is not installed, or `rewire` refuses the network or the
            scheme.
    """
    library, name = _found(backbone)
    argument = SIZED.get(source_of(backbone))
    model = LIBRARIES[library.__name__].make(library, name, classes, channels, **{argument: size} if argument else {})
    rewire(model, scheme)
    stepper_of(model).architecture |= {"backbone": backbone, "classes": classes, "channels": channels}
    return model


def source_of(backbone: str) -> str:
    """Return the module that has the code of a library's network.

    Raises:
        OdenasError: as `given_network`.
    """
    library, name = _found(backbone)
    return LIBRARIES[library.__name__].builder(library, name).__module__


def check_form(backbone: str) -> None:
    """Check that a given network is named "LIBRARY:NAME", of a library that there is; nothing is imported for it.

    Raises:
        OdenasError: it is not.
    """
    library, _, name = backbone.partition(":")
    if library not in LIBRARIES or not name:
        near = get_close_matches(library, LIBRARIES, n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}:{name or 'NAME'}'?" if near else ""
        known = " or ".join(f"{each}:NAME" for each in LIBRARIES)
        raise OdenasError(f"`backbone` is {backbone!r}, but must be {known}{hint}")


def _found(backbone: str) -> tuple[Any, str]:
    """Return the module of the library, and the name, which it lists."""
    check_form(backbone)
    library, _, name = backbone.partition(":")
    try:
        module = import_module(library)
    except ImportError:
        raise OdenasError(
            f"`backbone` is {backbone!r}, but {library} is not installed: pip install 'odenas[{library}]'"
        ) from None
    names = LIBRARIES[library].names(module)
    if name not in names:
        near = get_close_matches(name.partition(".")[0], names, n=1, cutoff=0.5)
        hint = f"; did you mean '{library}:{near[0]}'?" if near else ""
        raise OdenasError(f"`backbone` is {backbone!r}, but {library} lists no classifier of that name{hint}")
    return module, name
