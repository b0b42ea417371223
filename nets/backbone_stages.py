"""Where in a network its residual blocks are, and which of them form a stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from odenas.nets.backbone_blocks import RESIDUALS, Residual, kind


class Place(NamedTuple):
    """A block and its path in the network."""

    path: str
    block: nn.Module


def stages_of(model: nn.Module) -> tuple[list[list[Place]], list[tuple[str, str]]]:
    """Return the blocks that have a row, by stages, and the path of every other block with what hinders it.

    A stage are blocks that follow one another in one container, from one whose shortcut is no identity to before the
    next such block.
    """
    uses = Counter(id(child) for parent in model.modules() for child in vars(parent)["_modules"].values())
    stages: list[list[Place]] = []
    hindered: list[tuple[str, str]] = []
    for where, parent in model.named_modules():
        following = False
        for name, child in parent.named_children():
            row, path = RESIDUALS.get(kind(child)), f"{where}.{name}" if where else name
            reason = row and hindrance(row, child, uses[id(child)])
            if reason:
                hindered.append((path, reason))
            if row is None or reason:
                following = False
                continue
            if not following or row.projects(child):
                stages.append([])
            stages[-1].append(Place(path, child))
            following = True
    known = [path for path, _ in hindered] + [place.path for stage in stages for place in stage]
    return stages, hindered + unknown_blocks(model, known)


def hindrance(row: Residual, block: nn.Module, uses: int) -> str:
    """Return why a block that has a row cannot be rewired, or nothing."""
    if not row.joined(block):
        return "it has no shortcut"
    if uses > 1:
        return f"it is in the network {uses} times"
    return "its forward is replaced already" if "forward" in vars(block) else ""


def unknown_blocks(model: nn.Module, known: Sequence[str]) -> list[tuple[str, str]]:
    """Return the outermost modules that seem to be blocks but have no row, beside and apart from the known ones.

    They have parameters, are of a class that torch does not have, and are not the only ones of it in their container.
    """
    found: list[tuple[str, str]] = []
    for where, parent in model.named_modules():
        classes = Counter(map(kind, parent.children()))
        for name, child in parent.named_children():
            path, of = f"{where}.{name}" if where else name, kind(child)
            taken = [*known, *(each for each, _ in found)]
            related = any(f"{a}.".startswith(f"{b}.") for each in taken for a, b in ((path, each), (each, path)))
            plain = of.startswith("torch.nn.") or next(child.parameters(), None) is None
            if classes[of] > 1 and not related and not plain:
                found.append((path, f"{of} is not among the blocks that can be rewired"))
    return found
