"""The published networks by name, and the twins that their gains are measured against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from odenas.nets.build import build
from odenas.nets.named_networks import EULER, NETWORKS, NamedNetwork
from odenas.nets.network import SchemeNetwork
from odenas.space.catalogue import scheme, schemes
from odenas.space.errors import OdenasError
from odenas.space.scheme import Scheme
from odenas.space.stochasticity import Stochasticity

RULE = re.compile(r"(?P<scheme>[a-z0-9_-]+)-(?P<depth>[0-9]{1,5})")
"""Beside the rows of NETWORKS: SCHEME-DEPTH is a scheme of the catalogue with its own blocks, width 16, recipe LU."""

SEPARATORS = re.compile("[-_]")

NUMBER = re.compile("[0-9]+")


def canonical(name: str) -> str:
    """Return a name as NETWORKS has it, or as SCHEME-DEPTH, whatever its capitals and hyphens; else as it is.

    "LM-ResNet-56" and "lm-resnet56" are lm_resnet56, and "Stormer-Verlet-20" is stormer_verlet-20. A row of NETWORKS
    goes before; none reads as a scheme and a depth.
    """
    plain = SEPARATORS.sub("", name.lower())
    found = next((row for row in NETWORKS if SEPARATORS.sub("", row) == plain), None)
    made = RULE.fullmatch(name.lower())
    value = made["scheme"].replace("-", "_") if made else ""
    if found or not made or value not in schemes():
        return found or name
    return f"{value}-{made['depth']}"


def look_up(name: str) -> NamedNetwork:
    """Return the row of NETWORKS, or what SCHEME-DEPTH makes, such as "rk4-38" or "ab2-20"; see `canonical`.

    Raises:
        OdenasError: neither knows the name; the message proposes the nearest.
    """
    given, name = name, canonical(name) if isinstance(name, str) else name
    if isinstance(name, str) and name in NETWORKS:
        return NETWORKS[name]
    made = RULE.fullmatch(name) if isinstance(name, str) else None
    if made and made["scheme"] in schemes():
        about = f"A pre-activation residual network that steps by {made['scheme']}"
        return NamedNetwork(about, scheme(made["scheme"]), int(made["depth"]))
    near = _nearest(str(name).lower(), made["depth"] if made else "20")
    hint = f"; did you mean {near!r}?" if near else ""
    known = ", ".join(NETWORKS)
    raise OdenasError(
        f"`NAME` is {given!r:.60}, but must be one of {known}, or a scheme and a depth such as rk4-38{hint}"
    )


def _nearest(name: str, depth: str) -> str | None:
    """Return the row that differs in its depth alone, and there the least; else the name that is most alike."""
    wanted = NUMBER.search(name)
    same = [row for row in NETWORKS if _without_depth(row) == _without_depth(name)]
    if wanted and same:
        return min(same, key=lambda row: abs(int(NUMBER.findall(row)[0]) - int(wanted[0])))
    near = get_close_matches(name, [*NETWORKS, *(f"{known}-{depth}" for known in schemes())], n=1, cutoff=0.5)
    return near[0] if near else None


def _without_depth(name: str) -> str:
    return SEPARATORS.sub("", NUMBER.sub("", name, count=1))


def named(
    name: str,
    classes: int = 10,
    channels: int = 3,
    scheme: Scheme | None = None,
    params: int | None = None,
    width: Sequence[int] | None = None,
    backbone: str | None = None,
) -> SchemeNetwork:
    """Return the named network, as `build` makes it.

    Args:
        name: as `look_up` takes it.
        classes, channels: of the data.
        scheme: how to step, with its blocks and noise, if not as published; depth, widths and stem stay.
        params: budget, if the widths are not to be the published ones.
        width: of each stage, likewise.
        backbone: for a network that has none of its own, if not "residual".

    Raises:
        OdenasError: the name is unknown, no number of blocks gives its depth, or `build` cannot step by its scheme.
    """
    row = look_up(name)
    options = row.options if backbone is None else {"backbone": backbone, **row.options}
    return build(scheme or row.scheme, row.depth, classes, channels, params, width or row.width, **options)


def twin_of(name: str) -> tuple[str, Scheme]:
    """Return the backbone and the scheme of a network's Euler twin, for `named`; its budget is the network's.

    What steps by forward Euler without noise, whatever its blocks, is its own.

    Raises:
        OdenasError: the name is unknown.
    """
    row, name = look_up(name), canonical(name)
    if row.scheme.tableau == EULER.tableau:
        return name, replace(row.scheme, stochasticity=Stochasticity())
    return (row.twin, look_up(row.twin).scheme) if row.twin else (name, row.scheme.twin())
