"""The published networks: how each steps, how it is built, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from odenas.nets.published_recipes import (
    CHANG,
    GOMEZ,
    HE,
    HUANG,
    IMAGENET,
    LARSSON,
    LU,
    LU_RESNEXT,
    LU_STOCHASTIC,
    SANDER,
    XIE,
    PublishedRecipe,
)
from odenas.space.blocks import Blocks
from odenas.space.catalogue import scheme
from odenas.space.scheme import Scheme
from odenas.space.stochasticity import Stochasticity


@dataclass(frozen=True)
class NamedNetwork:
    """A row of NETWORKS.

    Args:
        about: what it is and where it was published, in a line.
        scheme: how it steps, its blocks and its noise.
        depth: number of layers, as `build` counts them; None where the blocks of each stage say it.
        width: channels of the first stage, or of all.
        recipe: how it is trained.
        published: its `network` in the table `odenas.results.published`, where that has its error.
        options: what `build` is told beside.
        twin: name of the network that is its Euler twin with the same number of parameters, where another scheme cannot
            step on its own backbone.
    """

    about: str
    scheme: Scheme
    depth: int | None = None
    width: int | tuple[int, ...] = 16
    recipe: PublishedRecipe = LU
    published: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    twin: str | None = None


EULER, LM = scheme("euler"), scheme("lm")
BOTTLENECK = Blocks("bottleneck")
BOTTLENECK_WIDTH = 64
"""Four times the 16 channels after the first convolution (He et al. 2016, Identity Mappings)."""
NARROW_STEM = {"stem_width": 16}
POST_STEM: dict[str, Any] = {"stem": "normalised"}
IMAGENET_STEM: dict[str, Any] = {"stem": "imagenet", "stem_width": 64}
IMAGENET_STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def _dropping(value: Scheme, rate: float, growth: str = "linear") -> Scheme:
    """Return the scheme with stochastic depth that drops the last block with probability `rate` = 1 − p_L."""
    return replace(value, stochasticity=Stochasticity("depth", rate, growth))


def _blocks(value: Scheme, kind: str, per_stage: tuple[int, ...] = (), **options: Any) -> Scheme:
    """Return the scheme with these blocks."""
    return replace(value, blocks=Blocks(kind, per_stage=per_stage, **options))


PREACT = "Pre-activation ResNet, forward Euler (He et al. 2016, Identity Mappings)"
RESNET = "ResNet, forward Euler, activations after the steps (He et al. 2016, Deep Residual Learning)"
RESNEXT = "ResNeXt with {} groups of {} channels (Xie et al. 2017)"
LM_RESNET = "LM-ResNet, two steps with one learned k for each block (Lu et al. 2018)"
REVNET = "RevNet, symplectic Euler of two halves, states computed again (Gomez et al. 2017)"

RESNETS = {
    **{
        f"resnet{depth}": NamedNetwork(
            f"{RESNET}, option A",
            _blocks(EULER, "post-basic", shortcut="pad"),
            depth,
            recipe=HE,
            published=f"ResNet-{depth}",
            options=POST_STEM,
        )
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    **{
        f"resnet{depth}": NamedNetwork(
            f"{RESNET}, for 224×224",
            _blocks(EULER, "post-bottleneck", stages),
            width=256,
            recipe=IMAGENET,
            published=f"ResNet-{depth}",
            options=IMAGENET_STEM,
        )
        for depth, stages in IMAGENET_STAGES.items()
    },
    **{
        f"resnext{depth}_{groups}x{size}d": NamedNetwork(
            f"{RESNEXT.format(groups, size)}, for 224×224",
            _blocks(EULER, "post-bottleneck", IMAGENET_STAGES[depth], groups=groups, inner=groups * size / 256),
            width=256,
            recipe=IMAGENET,
            published=f"ResNeXt-{depth} {groups}x{size}d",
            options=IMAGENET_STEM,
        )
        for depth, groups, size in ((50, 32, 4), (101, 32, 4), (101, 64, 4))
    },
    **{
        f"resnext29_{groups}x64d": NamedNetwork(
            RESNEXT.format(groups, 64),
            _blocks(EULER, "post-bottleneck", groups=groups, inner=groups * 64 / 256),
            29,
            256,
            recipe=XIE,
            published=f"ResNeXt-29 {groups}x64d",
            options={**POST_STEM, "stem_width": 64},
        )
        for groups in (8, 16)
    },
}

PREACTIVATED = {
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
            options=NARROW_STEM,
        )
        for depth in (164, 1001)
    },
    "preact_resnet110_sd": NamedNetwork(
        f"{PREACT}, stochastic depth with p_L = 0.5 (Huang et al. 2016)",
        _dropping(EULER, 0.5, "proportional"),
        110,
        recipe=HUANG,
    ),
}

MULTISTEP = {
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
        options=NARROW_STEM,
    ),
    "lm_resnet56_sd": NamedNetwork(
        f"{LM_RESNET}, stochastic depth with p_L = 0.8", _dropping(LM, 0.2), 56, recipe=LU_STOCHASTIC
    ),
    "lm_resnet110_sd": NamedNetwork(
        f"{LM_RESNET}, stochastic depth with p_L = 0.5", _dropping(LM, 0.5), 110, recipe=LU_STOCHASTIC
    ),
    **{
        f"lm_resnet{depth}": NamedNetwork(
            f"{LM_RESNET}, for 224×224",
            _blocks(LM, "bottleneck", IMAGENET_STAGES[depth]),
            width=256,
            recipe=IMAGENET,
            options=IMAGENET_STEM,
        )
        for depth in (50, 101)
    },
    **{
        f"lm_resnext29_{groups}x64d": NamedNetwork(
            f"LM-ResNeXt: {RESNEXT.format(groups, 64)}, two steps with one learned k for each block (Lu et al. 2018)",
            _blocks(LM, "bottleneck", groups=groups, inner=groups * 64 / 256),
            29,
            256,
            recipe=LU_RESNEXT,
            options={"stem_width": 64},
        )
        for groups in (8, 16)
    },
    "momentum_resnet18": NamedNetwork(
        "Momentum ResNet with γ = 0.9, four stages of two blocks as in ResNet-18, pre-activation (Sander et al. 2021)",
        replace(scheme("momentum", gamma="9/10"), blocks=Blocks(per_stage=(2, 2, 2, 2))),
        width=64,
        recipe=SANDER,
    ),
    "midpoint_resnet26": NamedNetwork(
        "Midpoint network of antisymmetric blocks (after Chang et al. 2018)",
        _blocks(scheme("midpoint"), "antisymmetric"),
        26,
        recipe=CHANG,
    ),
    "leapfrog_resnet26": NamedNetwork(
        "Leapfrog network of symmetric blocks (after Chang et al. 2018)",
        replace(scheme("verlet"), blocks=Blocks("symmetric", "tanh")),
        26,
        recipe=CHANG,
    ),
}

REVERSIBLE = {
    **{
        f"{name}{depth}": NamedNetwork(
            about,
            _blocks(scheme("symplectic_euler"), kind, (n, n, n), shortcut="pool"),
            width=widths,
            recipe=recipe,
            options={"reversible": True},
            twin=f"euler-{depth}" if kind == "basic" else "preact_resnet164",
        )
        for name, depth, about, kind, n, widths, recipe in (
            ("revnet", 38, REVNET, "basic", 3, (32, 64, 112), GOMEZ),
            ("revnet", 110, REVNET, "basic", 9, (32, 64, 128), GOMEZ),
            ("revnet", 164, f"{REVNET}, bottlenecks", "bottleneck", 9, (128, 256, 512), GOMEZ),
        )
    },
    **{
        f"hamiltonian_resnet{depth}": NamedNetwork(
            "Hamiltonian network, symplectic Euler of ±KᵀΦ(Kx + b), states computed again (Chang et al. 2018)",
            replace(scheme("symplectic_euler"), blocks=Blocks("hamiltonian", "relu", (n, n, n), shortcut="pool")),
            width=widths,
            recipe=CHANG,
            options={"reversible": True},
            twin=f"euler-{depth}",
        )
        for depth, n, widths in ((38, 3, (32, 64, 112)), (110, 9, (32, 64, 128)))
    },
}

FRACTAL = {
    f"fractalnet{5 * 2 ** (columns - 1)}": NamedNetwork(
        f"FractalNet of {columns} columns with drop-path and dropout (Larsson et al. 2017)",
        replace(scheme("fractal", columns=columns), stochasticity=Stochasticity("depth", 0.15, "constant")),
        width=64,
        recipe=LARSSON,
        options={"backbone": "fractal"},
        twin=f"euler-{twin}",
    )
    for columns, twin in ((3, 20), (4, 38))
}

DIFFUSION = {
    f"{name}_resnet20": NamedNetwork(
        f"{about}: blocks −τKᵀΦ(Kx) with Charbonnier's flux (Alt et al. 2022)",
        replace(value, blocks=Blocks("symmetric", "charbonnier")),
        20,
    )
    for name, about, value in (
        ("diffusion", "Explicit diffusion", EULER),
        ("du_fort_frankel", "Du Fort–Frankel network", scheme("du_fort_frankel")),
        ("fsi", "FSI network in cycles of three", scheme("fsi")),
        ("fixed_point", "Implicit diffusion by two fixed-point iterations", scheme("implicit_diffusion")),
        ("implicit", "Implicit diffusion, each step of backward Euler solved", scheme("backward_euler")),
    )
}

MULTIGRID = {
    f"{name}22": NamedNetwork(about, value, 22, options={"backbone": "multigrid"})
    for name, about, value in (
        ("multigrid", "MgNet for denoising, a V-cycle of three levels (He & Xu 2019)", EULER),
        ("lm_multigrid", "MgNet for denoising whose smoother has two steps, one learned k for each", LM),
        (
            "multigrid_diffusion",
            "Implicit diffusion by a full approximation scheme of three levels, for denoising (Alt et al. 2022)",
            replace(EULER, blocks=Blocks("symmetric", "charbonnier")),
        ),
    )
}

NETWORKS: dict[str, NamedNetwork] = RESNETS | PREACTIVATED | MULTISTEP | REVERSIBLE | FRACTAL | DIFFUSION | MULTIGRID
