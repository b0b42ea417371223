"""Make the network of a scheme on a backbone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

from odenas.nets.dense import DenseNetwork, PartitionedDenseNetwork
from odenas.nets.implicit import ImplicitDenseNetwork, ImplicitNetwork
from odenas.nets.make_fractal import made_fractal
from odenas.nets.make_multigrid import made_multigrid
from odenas.nets.make_stepped import made_stepped
from odenas.nets.network import SchemeNetwork
from odenas.nets.partitioned import PartitionedNetwork
from odenas.nets.request import Request
from odenas.nets.residual import ResidualNetwork
from odenas.nets.stems import STEMS
from odenas.space.blocks import STAGES
from odenas.space.errors import OdenasError, one_of
from odenas.space.implicit import ImplicitMultistep
from odenas.space.partitioned_tableau import Partitioned
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

MOST = 10**11


class Backbone(NamedTuple):
    """A row of BACKBONES: what the networks are, and what makes one.

    Fields: `about`; `make`, a function of a Request.
    """

    about: str
    make: Callable[[Request], SchemeNetwork]


BACKBONES = {
    "residual": Backbone(
        "a classifier: stages of steps, of which every one but the first halves the image (He et al. 2016)",
        partial(
            made_stepped,
            {Tableau: ResidualNetwork, Partitioned: PartitionedNetwork, ImplicitMultistep: ImplicitNetwork},
            STAGES,
            2,
        ),
    ),
    "dense": Backbone(
        "from images to images of the same size, as for denoising: one stage of steps",
        partial(
            made_stepped,
            {Tableau: DenseNetwork, Partitioned: PartitionedDenseNetwork, ImplicitMultistep: ImplicitDenseNetwork},
            1,
            1,
        ),
    ),
    "fractal": Backbone(
        'FractalNet: the expansion of the scheme "fractal" with convolutions in place of steps (Larsson et al. 2017)',
        made_fractal,
    ),
    "multigrid": Backbone(
        "from images to images of the same size: a multigrid cycle, which is a U-net (He and Xu 2019; Alt et al. 2022)",
        made_multigrid,
    ),
}


def build(
    scheme: Scheme,
    depth: int | None = None,
    classes: int = 10,
    channels: int = 3,
    params: int | None = None,
    width: int | Sequence[int] = 16,
    reversible: bool = False,
    backbone: str = "residual",
    stem: str = "plain",
    stem_width: int | None = None,
) -> SchemeNetwork:
    """Return the network that steps by the scheme.

    A classifier of small images has three stages of n blocks with widths 1 : 2 : 4 (He et al. 2016), and depth 6n + 2,
    or 9n + 2 with bottlenecks; or as many stages and blocks as `scheme.blocks.per_stage` says. The first block of the
    network is a plain residual block; with the transition "restart", so is that of every stage, with a projected
    shortcut where the shape changes. The others step by the scheme, after as many forward Euler steps as its start
    needs (as LM-ResNet does, Lu et al. 2018). Weights are drawn from torch's global generator: convolutions from
    N(0, 2 / (k² outputs)) (He et al. 2015).

    By a partitioned method the two halves of the channels step in turn, each branch on half the channels; a step has as
    many branches as evaluations, one after the other, and counts as one block in the depth.

    Args:
        scheme: how to step.
        depth: number of layers along one branch of each block; if not given, what `per_stage` makes, or 20.
        classes, channels: of the data. A dense network has no classes.
        params: if given, the widths are chosen so that the number of parameters comes nearest to it. The scheme's few
            learned coefficients are left out of the account, so that a scheme and its twin have the same widths. Of one
            stage, as in a dense network, whole channels may miss a small budget by some percent.
        width: channels of the first stage, or of all stages, if `params` is not given.
        reversible: whether training computes the states within a stage again from its last one instead of keeping
            them: its memory then does not grow with depth, and each branch of a step is evaluated once more.
        backbone: a row of BACKBONES.
        stem: a row of `odenas.nets.stems.STEMS`: the first layers.
        stem_width: channels after the stem, if not those of the first stage.

    Raises:
        OdenasError: no n gives the depth, it is not that of `per_stage`, the blocks are too few for the scheme's
            history, no width meets the budget, a number is no integer, the scheme's first stage reads slopes that its
            start does not give, its noise does not fit its tableau, or the backbone cannot step by its method; or for a
            partitioned method a width is odd; or `reversible` is asked of steps that cannot be undone.
    """
    if not isinstance(scheme, Scheme):
        raise OdenasError(f"`scheme` is {scheme!r:.60}, but must be a Scheme, such as scheme('euler')")
    one_of("backbone", backbone, BACKBONES)
    one_of("stem", stem, STEMS)
    numbers = {"depth": depth, "params": params, "stem_width": stem_width}
    checked: dict[str, Any] = {name: value if value is None else _whole(name, value) for name, value in numbers.items()}
    checked |= {name: _whole(name, value, 1) for name, value in (("classes", classes), ("channels", channels))}
    if checked["stem_width"] is not None:
        _whole("stem_width", stem_width, 1)
    widths: int | tuple[int, ...]
    if hasattr(width, "__iter__") and not isinstance(width, str):
        widths = tuple(_whole("width", each, 1) for each in width)
        if not widths:
            raise OdenasError("`width` has no numbers, but needs one, or one for each stage")
    else:
        widths = _whole("width", width, 1)
    if not isinstance(reversible, bool):
        raise OdenasError(f"`reversible` is {reversible!r}, but must be true or false")
    others: dict[str, Any] = {"width": widths, "reversible": reversible, "backbone": backbone, "stem": stem}
    asked = Request(scheme=scheme, **checked, **others)
    network = BACKBONES[backbone].make(asked)
    network.scheme = scheme
    return network


def _whole(name: str, value: object, least: int | None = None) -> int:
    """Return a whole number, numpy's too, not below `least`.

    Raises:
        OdenasError: it is none, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise OdenasError(f"`{name}` is {value!r}, but must be an integer")
    number = operator.index(value)
    if least is not None and number < least:
        raise OdenasError(f"`{name}` is {number}, but must be at least {least}")
    if number > MOST:
        raise OdenasError(f"`{name}` is {number}, but must be at most {MOST}: no network of it would fit anywhere")
    return number
