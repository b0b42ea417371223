"""Rooted trees, which the conditions of order are counted by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

Tree = tuple["Tree", ...]  # a rooted tree is the sorted tuple of its children; () is the single vertex


@cache
def trees(vertices: int) -> tuple[Tree, ...]:
    """Return all rooted trees with `vertices` ≥ 1 vertices: 1, 1, 2, 4, 9, 20, 48, 115, 286, 719, … of them."""
    if vertices == 1:
        return ((),)
    return tuple(sorted({grown for tree in trees(vertices - 1) for grown in _grown(tree)}))


@cache
def size(tree: Tree) -> int:
    """Return the number |t| of vertices."""
    return 1 + sum(map(size, tree))


@cache
def density(tree: Tree) -> int:
    """Return γ(t) = |t| Π γ(children) (Hairer, Nørsett, Wanner I, II.2)."""
    return size(tree) * math.prod(map(density, tree))


def _grown(tree: Tree) -> Iterator[Tree]:
    """Yield `tree` with a leaf added, at every vertex in turn."""
    yield tuple(sorted((*tree, ())))
    for i, child in enumerate(tree):
        for grown in _grown(child):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))
