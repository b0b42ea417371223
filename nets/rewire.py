"""Make a network of torchvision or timm step by a scheme, as it is: its weights, their names and its hooks stay.

Where a residual branch F_n = f_n(x_n) was added as x_{n+1} = φ(x_n + F_n), with φ the activation after the addition
where the block has one and the identity where not, it becomes

    x_{n+1} = φ(Σ_j V_j x_{n−j} + Σ_{j≥1} R_j F_{n−j} + Σ_i B_i F^i),

stages as in `residual.py`. The states of a network with activations after the additions (ResNet, RegNet) are thus
those after φ, which the blocks hand on; with V = (1) and B = (1), or V = (1, 0), that is the network's own formula.
A block of two branches (a transformer's attention and its perceptron) makes two steps.

The blocks that follow one another in one container are a stage, and so is what follows a block whose shortcut changes
the shape, from that block on: it makes a plain step, with its shortcut's output as the state before.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from odenas.nets.backbone_blocks import RESIDUALS, kind
from odenas.nets.backbone_stages import Place, stages_of
from odenas.nets.coefficients import LearnedWeights, constant_weights, tableau_of
from odenas.nets.rewired_stage import Forward, Rewiring, Stage, enter, leave
from odenas.nets.stepper import REWIRING
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

Network = TypeVar("Network", bound=nn.Module)


def rewire(model: Network, scheme: Scheme) -> Network:
    """Return the network, changed in place: each of its stages of residual blocks steps by the scheme.

    Parameters and their names stay; learned coefficients (float32) join them under "rewiring.". Blocks keep their own
    dropout and stochastic depth, which are a part of f; the scheme's noise comes on top. `scheme.blocks` is not read:
    the blocks are the network's. A scheme of several stages must tie them: a block's one branch is evaluated for each.
    With forward Euler, or learned coefficients that start from it without spread, no output changes by a bit in
    float32. The network can be hooked, copied, pickled, compiled and trained as before, but not by `nn.DataParallel`;
    with two steps or more a block can be neither called alone nor recomputed alone (gradient checkpointing by blocks).
    The blocks that can be rewired are the rows of `backbone_blocks.RESIDUALS`.

    Args:
        model: a network that holds blocks of these rows, such as ResNet, ResNeXt, RegNet, ConvNeXt or a vision
            transformer.
        scheme: how to step; with transition "restart".

    Raises:
        OdenasError: no block can be rewired, the network is rewired already, or a field of the scheme does not fit.
    """
    if hasattr(model, REWIRING):
        raise OdenasError(f"`model` is a {type(model).__name__} that has a `{REWIRING}` already; rewire it once only")
    if not isinstance(model, nn.Module):
        raise OdenasError(f"`model` is {model!r:.60}, but must be a network of torch")
    if not isinstance(scheme, Scheme):
        raise OdenasError(f"`scheme` is {scheme!r:.60}, but must be a Scheme, such as scheme('euler')")
    tableau, needed = check_scheme(scheme), plain_branches(scheme)
    stages, reasons = stages_of(model)
    wired: list[list[Place]] = []
    for stage in stages:
        count = sum(len(RESIDUALS[kind(place.block)].branches) for place in stage)
        if count > needed or tableau.steps == tableau.stages == 1:
            wired.append(stage)
        else:
            lack = f"its stage has {count} of the {needed + 1} residual branches that the scheme needs"
            reasons += [(place.path, lack) for place in stage]
    order = {path: i for i, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    blocks = [*reasons, *((place.path, "rewired") for stage in wired for place in stage)]
    blocks.sort(key=lambda block: order[block[0]])
    if not wired:
        shown = "; ".join(f"{path}: {reason}" for path, reason in blocks[:3])
        more = f"; and {len(blocks) - 3} more" if len(blocks) > 3 else ""
        raise OdenasError(f"`model` is a {type(model).__name__} with no block to rewire ({shown or 'no block'}{more})")
    rows = [RESIDUALS[kind(stage[0].block)] for stage in wired]
    counts = [sum(len(RESIDUALS[kind(place.block)].branches) for place in stage) for stage in wired]
    own = [max(0, count - needed) for count in counts]
    widths = [row.channels(stage[0].block) for row, stage in zip(rows, wired, strict=True)]
    if scheme.coefficients.learning == "learned":
        weights: nn.Module = LearnedWeights(scheme, own, widths)
    else:
        weights = constant_weights(scheme, own)
    first = next(model.parameters(), None)
    architecture = {"widths": widths, "branches": [[1] * count for count in counts]}
    weights = weights if first is None else weights.to(first.device)
    rewiring = Rewiring(scheme, weights, blocks, architecture).train(model.training)
    model.add_module(REWIRING, rewiring)
    rates = iter(scheme.stochasticity.rates(sum(counts)))
    for number, (places, row) in enumerate(zip(wired, rows, strict=True)):
        of_stage = [next(rates) for _ in range(counts[number])]
        stepping = Stage(number, counts[number], own[number], of_stage, rewiring, row.channels_last)
        index = 0
        for path, block in places:
            # On the instance alone, and past `nn.Module.__setattr__`: this is no submodule.
            vars(block)["forward"] = Forward(path, block, stepping, index)
            index += len(RESIDUALS[kind(block)].branches)
    model.register_forward_pre_hook(enter, prepend=True)
    model.register_forward_hook(leave, always_call=True)
    return model


def rewired(model: nn.Module) -> list[tuple[str, str]]:
    """Return the path of each block of a rewired network, and "rewired" or why it is not, in the network's order.

    Blocks that have no row in `backbone_blocks.RESIDUALS` are told by being there twice or more in one container.

    Raises:
        OdenasError: the network is not rewired.
    """
    rewiring = getattr(model, REWIRING, None)
    if not isinstance(rewiring, Rewiring):
        raise OdenasError(f"`model` is a {type(model).__name__} that is not rewired; call `rewire` first")
    return list(rewiring.blocks)


def plain_branches(scheme: Scheme) -> int:
    """Return how many branches at the beginning of a stage make a plain step: a stage needs more than these.

    Stages with fewer stay as they are, but by forward Euler every step is a plain one.
    """
    return 1 + (max(0, scheme.tableau.steps - 2) if scheme.start == "euler" else 0)


def check_scheme(scheme: Scheme) -> Tableau:
    """Return the tableau of a scheme that residual blocks with one branch each can step by.

    Raises:
        OdenasError: it is no tableau, or `transition`, `start`, `tying` or `stochasticity` ask for what such blocks
            do not have.
    """
    tableau, noise = tableau_of(scheme), scheme.stochasticity.kind
    for name, given, needed in (("transition", scheme.transition, "restart"), ("start", scheme.start, "euler")):
        if given != needed and (name == "transition" or any(tableau.W[0])):
            raise OdenasError(f"`{name}` is {given!r}, but must be {needed!r} to rewire a network by this tableau")
    if scheme.tying == "steps" or (tableau.stages > 1 and scheme.tying != "stages"):
        raise OdenasError(
            f"`tying` is {scheme.tying!r} with {tableau.stages} stage(s), but a given network's blocks have weights of "
            f"their own and one branch: use {'stages' if tableau.stages > 1 else 'none'!r}"
        )
    if noise == "shake":
        raise OdenasError("`stochasticity` is 'shake', but a given network's blocks have no second branch to shake")
    return tableau
