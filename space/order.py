"""Order and error constant of a tableau, by B-series over rooted trees in rational arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

from odenas.space.precision import rationals, unit_roundoff
from odenas.space.tableau import Tableau

Tree = tuple["Tree", ...]  # a rooted tree is the sorted tuple of its children; () is the single vertex


def order(tableau: Tableau, highest: int | None = None) -> int:
    """Return the largest p ≤ `highest` such that the defects of all trees with up to p vertices vanish.

    `highest` is max(10, 2k) if not given; no explicit linear k-step method exceeds 2k − 1. A float entry is known to
    its unit roundoff only: defects that so small a change of the entries can cause count as zero. The order is 0
    where a stage does not reproduce a constant solution (ΣU_i ≠ 1), for its f is then evaluated in the wrong place.
    (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., II.2, III.2 and III.8.)
    """
    highest = max(10, 2 * tableau.steps) if highest is None else highest
    unit = unit_roundoff(tableau)
    if not _preconsistent(tableau):
        return 0
    weights, majorant = _Weights(tableau), _Weights(tableau, absolute=True)
    for p in range(1, highest + 1):
        for tree in _witnesses(tableau, p):
            # A weight is a sum of products of at most 2p entries; the 8 allows for entries that were computed.
            allowed = 16 * p * unit * majorant.step(tree) if unit else Fraction(0)
            if abs(weights.defect(tree)) > allowed:
                return p - 1
    return highest


def error_constant(tableau: Tableau) -> float:
    """Return the principal defect, over all trees with p + 1 vertices, normalised by the total slope weight.

    For a linear multistep method this is C_{p+1}/σ(1), with α_k = 1 (Hairer, Nørsett, Wanner I, III.2);
    1/2 for forward Euler. In general it is the value of largest magnitude of defect(t)·γ(t)/(p + 1)!, divided by
    σ(1) = Σ of all slope weights; the two agree. It is infinite where σ(1) = 0 or a stage has ΣU_i ≠ 1.
    """
    p = order(tableau)
    total = sum(rationals(tableau.slopes), Fraction(0))
    if total == 0 or not _preconsistent(tableau):
        return math.inf
    weights = _Weights(tableau)
    scaled = (weights.defect(tree) * density(tree) for tree in _witnesses(tableau, p + 1))
    return float(max(scaled, key=abs) / math.factorial(p + 1) / total)


def defects(tableau: Tableau, vertices: int) -> dict[Tree, Fraction]:
    """Return, for each tree with `vertices` vertices, exact minus numerical weight of one step from exact history.

    The weight a(t) is the factor of h^{|t|}/σ(t) times the elementary differential of t, 1/γ(t) for the solution.
    """
    weights = _Weights(tableau)
    return {tree: weights.defect(tree) for tree in trees(vertices)}


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


class _Weights:
    """B-series weights of everything in a step, expanded about x(t_n); `absolute` makes all entries positive.

    x(t_{n−j}) has the weight (−j)^{|t|}/γ(t), and h f of a series with the weights a has at t = [c₁ … c_m] the
    weight Π a(c_i) (Hairer, Nørsett, Wanner I, II.12). Children are smaller, so the recursion ends
    although each slope in the history rests on slopes before it.
    """

    def __init__(self, tableau: Tableau, absolute: bool = False) -> None:
        rows = [rationals(row) for row in (tableau.V, (0, *tableau.R), tableau.B)]
        matrices = [[rationals(row) for row in matrix] for matrix in (tableau.U, tableau.W, tableau.A)]
        self.V, self.R, self.B = [_nonzero(row, absolute) for row in rows]
        self.U, self.W, self.A = [[_nonzero(row, absolute) for row in matrix] for matrix in matrices]
        self.sign = 1 if absolute else -1
        self.known: dict[tuple[int, int, Tree], Fraction] = {}

    def defect(self, tree: Tree) -> Fraction:
        return Fraction(1, density(tree)) - self.step(tree)

    def step(self, tree: Tree) -> Fraction:
        total = sum((v * self.state(j, tree) for j, v in self.V if j), Fraction(0))
        total += sum(r * self.slope(0, j, tree) for j, r in self.R)
        return total + sum(b * self.slope(i, 0, tree) for i, b in self.B)

    def state(self, back: int, tree: Tree) -> Fraction:
        return Fraction((self.sign * back) ** size(tree), density(tree))

    def slope(self, stage: int, back: int, tree: Tree) -> Fraction:
        return math.prod((self.stage(stage, back, child) for child in tree), start=Fraction(1))

    def stage(self, i: int, back: int, tree: Tree) -> Fraction:
        key = i, back, tree
        if key not in self.known:
            total = sum((u * self.state(back + j, tree) for j, u in self.U[i] if back + j), Fraction(0))
            total += sum(w * self.slope(0, back + j + 1, tree) for j, w in self.W[i])
            self.known[key] = total + sum(a * self.slope(stage, back, tree) for stage, a in self.A[i])
        return self.known[key]


def _preconsistent(tableau: Tableau) -> bool:
    """Return whether ΣU_i = 1 for every stage, as far as the entries are known."""
    allowed = 8 * unit_roundoff(tableau)
    rows = map(rationals, tableau.U)
    return all(abs(sum(row, Fraction(-1))) <= allowed * sum(map(abs, row), Fraction(0)) for row in rows)


def _witnesses(tableau: Tableau, vertices: int) -> tuple[Tree, ...]:
    """Return the trees that decide; for a linear multistep method one is enough.

    There F_{n−j} = h f(x_{n−j}) has at t the weight Π (−j)^{|c|}/γ(c) = (−j)^{|t|−1} |t|/γ(t), so γ(t) times the
    defect depends on |t| alone, and the bushy tree speaks for all.
    """
    return (((),) * (vertices - 1),) if tableau.is_multistep else trees(vertices)


def _nonzero(row: tuple[Fraction, ...], absolute: bool) -> list[tuple[int, Fraction]]:
    return [(i, abs(entry) if absolute else entry) for i, entry in enumerate(row) if entry]


def _grown(tree: Tree) -> Iterator[Tree]:
    """Yield `tree` with a leaf added, at every vertex in turn."""
    yield tuple(sorted((*tree, ())))
    for i, child in enumerate(tree):
        for grown in _grown(child):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))
