"""Make the network of a scheme on a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

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
            learned coefficients are left out of the account, so that a scheme and its twin have the same widths.
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
    one_of("backbone", backbone, BACKBONES)
    one_of("stem", stem, STEMS)
    numbers = {"classes": classes, "channels": channels, "params": params, "stem_width": stem_width}
    given = [("depth", depth), *numbers.items()]
    for name, value in [*given, *(("width", each) for each in (width if isinstance(width, Sequence) else [width]))]:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise OdenasError(f"`{name}` is {value!r}, but must be an integer")
    for name, value in numbers.items():
        if value is not None and value < 1 and name != "params":
            raise OdenasError(f"`{name}` is {value}, but must be at least 1")
    if not isinstance(reversible, bool):
        raise OdenasError(f"`reversible` is {reversible!r}, but must be true or false")
    widths = width if isinstance(width, int) else tuple(width)
    asked = Request(scheme, depth, classes, channels, params, widths, reversible, backbone, stem, stem_width)
    network = BACKBONES[backbone].make(asked)
    network.scheme = scheme
    return network
