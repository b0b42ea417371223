"""The number of parameters that all networks of a run come near to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from odenas.nets import build, parameters
from odenas.nets.backbones import is_given
from odenas.nets.block_options import STABLE
from odenas.nets.named import look_up, named
from odenas.search.config import SearchConfig
from odenas.search.data import dataset
from odenas.search.given_backbone import given_parameters
from odenas.search.tasks import task_of
from odenas.search.trial import depth_of, shape_of
from odenas.space import Blocks, OdenasError, Scheme, scheme
from odenas.space.blocks import STAGES
from odenas.space.multistep import adams_bashforth


def parameter_budget(config: SearchConfig) -> int:
    """Return the number of parameters that all networks of a run come near to.

    Raises:
        OdenasError: the depth suits no network, or a scheme of the space, or the budget is below the narrowest network;
            a given backbone does not suit the data or the space; or a named network does not suit the data.
    """
    if config.network:
        return named_parameters(config.network, config)
    if is_given(config.backbone):
        return given_parameters(config)
    shape, space = shape_of(config), config.space
    drawn = [Scheme(adams_bashforth(max(space.steps)))] if "multistep" in space.family else []
    drawn += [scheme(name) for name in space.named] if "named" in space.family else []
    # What needs the longest history needs the deepest network, whatever its blocks.
    longest = max(drawn, key=lambda value: value.tableau.steps, default=scheme("euler"))
    with torch.device("meta"):
        for kind in space.block:
            check_steps(kind, space.named if "named" in space.family else ())
            value = replace(longest, blocks=Blocks(kind, per_stage=space.per_stage[:1] * STAGES))
            build(value, depth_of(config.depth, value), params=config.params, width=2, **shape)
        return config.params or parameters(build(scheme("euler"), config.depth, **shape | {"width": config.width}))


def check_steps(kind: str, names: Iterable[str]) -> None:
    """Check that each of the named schemes has a stable step with blocks of this kind.

    Raises:
        OdenasError: some have none.
    """
    tableaus = [(name, scheme(name).applied) for name in names if kind in STABLE]
    unfit = [name for name, applied in tableaus if not STABLE[kind](applied)]
    if unfit:
        raise OdenasError(
            f"`named` holds {', '.join(unfit)}, which have no stable step with {kind!r} blocks: leave them out"
        )


def named_parameters(name: str, config: SearchConfig) -> int:
    """Return the number of parameters of the named network, those of its scheme left out.

    It is what its twin's widths are to meet.

    Raises:
        OdenasError: the network does not return what the data set needs.
    """
    row = look_up(name)
    if task_of(dataset(config.data)).output == "images" and row.options.get("stem") == "imagenet":
        raise OdenasError(f"`--data` is {config.data!r}, but {name} makes images smaller; lm_resnet20, say, does not")
    with torch.device("meta"):
        network = named(name, **shape_of(config))
    needed = task_of(dataset(config.data)).output
    if network.output != needed:
        raise OdenasError(
            f"`--data` is {config.data!r}, which needs a network that returns {needed}; {name} returns {network.output}"
        )
    weights = getattr(network, "weights", None)
    return parameters(network) - (parameters(weights) if weights else 0)
