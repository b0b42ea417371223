"""The published residual networks for small images by name, each with the recipe that trains it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches

from odenas.nets.build import build
from odenas.nets.network import SchemeNetwork
from odenas.space.blocks import Blocks
from odenas.space.catalogue import scheme, schemes
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.stochasticity import Stochasticity


@dataclass(frozen=True)
class PublishedRecipe:
    """How a network was trained: SGD whose learning rate falls tenfold at each milestone; CIFAR-10 if nothing is said.

    Args:
        epochs: of the whole training.
        milestones: epochs done when the learning rate falls.
        learning_rate: at the start.
        weight_decay: of all weights; odenas leaves the scheme's learned coefficients out (`odenas.search.recipe`).
        nesterov: whether the momentum has Nesterov's form.
        source: where this is written.
        momentum, batch_size: of SGD.
    """

    epochs: int
    milestones: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    nesterov: bool
    source: str
    momentum: float = 0.9
    batch_size: int = 128


LU = PublishedRecipe(160, (80, 120), 0.1, 1e-4, False, "Lu et al. 2018, arXiv 1710.10121")
LU_STOCHASTIC = replace(LU, epochs=500, milestones=(250, 375))
HUANG = replace(LU_STOCHASTIC, nesterov=True, source="github.com/yueatsprograms/Stochastic_Depth, main.lua")
SANDER = PublishedRecipe(
    220, (180,), 0.01, 5e-4, False, "github.com/michaelsdr/momentumnet, run_CIFAR_10.py and trainer_CIFAR_10.py"
)


@dataclass(frozen=True)
class NamedNetwork:
    """A row of NETWORKS.

    Args:
        about: what it is and where it was published, in a line.
        scheme: how it steps, its blocks and its noise.
        depth: number of layers, as `build` counts them.
        width: channels of the first stage.
        recipe: how it is trained.
        published: its `network` in the table `odenas.results.published`, where that has its error.
    """

    about: str
    scheme: Scheme
    depth: int
    width: int = 16
    recipe: PublishedRecipe = LU
    published: str | None = None


EULER, LM = scheme("euler"), scheme("lm")
BOTTLENECK = Blocks("bottleneck")
BOTTLENECK_WIDTH = 64
"""Four times 16 (He et al. 2016, Identity Mappings). `build`'s first convolution has as many channels, theirs 16."""


def _dropping(value: Scheme, rate: float) -> Scheme:
    """Return the scheme with stochastic depth that drops the last block with probability `rate` = 1 − p_L."""
    return replace(value, stochasticity=Stochasticity("depth", rate))


PREACT = "Pre-activation ResNet, forward Euler (He et al. 2016, Identity Mappings)"
LM_RESNET = "LM-ResNet, two steps with one learned k for each block (Lu et al. 2018)"
CHANG = "{} with ordinary residual branches in place of antisymmetric ones (after Chang et al. 2018)"

NETWORKS: dict[str, NamedNetwork] = {
    **{f"preact_resnet{depth}": NamedNetwork(PREACT, EULER, depth) for depth in (20, 32, 44, 56)},
    "preact_resnet110": NamedNetwork(PREACT, EULER, 110, published="pre-act ResNet-110"),
    "preact_resnet1202": NamedNetwork(PREACT, EULER, 1202),
    **{
        f"preact_resnet{depth}": NamedNetwork(
            f"{PREACT}, bottlenecks",
            replace(EULER, blocks=BOTTLENECK),
            depth,
            BOTTLENECK_WIDTH,
            published=f"pre-act ResNet-{depth}",
        )
        for depth in (164, 1001)
    },
    "preact_resnet110_sd": NamedNetwork(
        f"{PREACT}, stochastic depth with p_L = 0.5 (Huang et al. 2016)", _dropping(EULER, 0.5), 110, recipe=HUANG
    ),
    **{
        f"lm_resnet{depth}": NamedNetwork(LM_RESNET, LM, depth, published=f"LM-ResNet-{depth}")
        for depth in (20, 32, 44, 56, 110)
    },
    "lm_resnet164": NamedNetwork(
        f"{LM_RESNET}, bottlenecks",
        replace(LM, blocks=BOTTLENECK),
        164,
        BOTTLENECK_WIDTH,
        published="LM-ResNet-164",
    ),
    "lm_resnet56_sd": NamedNetwork(
        f"{LM_RESNET}, stochastic depth with p_L = 0.8", _dropping(LM, 0.2), 56, recipe=LU_STOCHASTIC
    ),
    "lm_resnet110_sd": NamedNetwork(
        f"{LM_RESNET}, stochastic depth with p_L = 0.5", _dropping(LM, 0.5), 110, recipe=LU_STOCHASTIC
    ),
    "momentum_resnet18": NamedNetwork(
        "Momentum ResNet with γ = 0.9, four stages of two blocks as in ResNet-18, pre-activation (Sander et al. 2021)",
        replace(scheme("momentum", gamma="9/10"), blocks=Blocks(per_stage=(2, 2, 2, 2))),
        18,
        64,
        recipe=SANDER,
    ),
    "midpoint_resnet26": NamedNetwork(CHANG.format("Midpoint network"), scheme("midpoint"), 26),
    "leapfrog_resnet26": NamedNetwork(CHANG.format("Leapfrog network"), scheme("verlet"), 26),
}

RULE = re.compile(r"(?P<scheme>[a-z0-9_]+)-(?P<depth>[0-9]{1,5})")
"""Beside the rows of NETWORKS: SCHEME-DEPTH is a scheme of the catalogue with its own blocks, width 16, recipe LU."""

NUMBER = re.compile("[0-9]+")


def look_up(name: str) -> NamedNetwork:
    """Return the row of NETWORKS, or what SCHEME-DEPTH makes, such as "rk4-38" or "ab2-20".

    Raises:
        OdenasError: neither knows the name; the message proposes the nearest.
    """
    if isinstance(name, str) and name in NETWORKS:
        return NETWORKS[name]
    made = RULE.fullmatch(name) if isinstance(name, str) else None
    if made and made["scheme"] in schemes():
        about = f"A pre-activation residual network that steps by {made['scheme']}"
        return NamedNetwork(about, scheme(made["scheme"]), int(made["depth"]))
    near = _nearest(str(name), made["depth"] if made else "20")
    hint = f"; did you mean {near!r}?" if near else ""
    raise OdenasError(
        f"`NAME` is {name!r}, but must be one of {', '.join(NETWORKS)}, or a scheme and a depth such as rk4-38{hint}"
    )


def _nearest(name: str, depth: str) -> str | None:
    """Return the row that differs in its depth alone, and there the least; else the name that is most alike."""
    wanted = NUMBER.search(name)
    same = [row for row in NETWORKS if NUMBER.sub("", row, count=1) == NUMBER.sub("", name, count=1)]
    if wanted and same:
        return min(same, key=lambda row: abs(int(NUMBER.findall(row)[0]) - int(wanted[0])))
    near = get_close_matches(name, [*NETWORKS, *(f"{known}-{depth}" for known in schemes())], n=1, cutoff=0.5)
    return near[0] if near else None


def named(name: str, classes: int = 10, channels: int = 3) -> SchemeNetwork:
    """Return the named network, as `build` makes it.

    Raises:
        OdenasError: the name is unknown, no number of blocks gives its depth, or `build` cannot step by its scheme.
    """
    row = look_up(name)
    return build(row.scheme, row.depth, classes, channels, width=row.width)
