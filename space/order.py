"""Order and error constant of a tableau, by B-series over rooted trees in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache, singledispatch

from odenas.space.method import Method, no_method
from odenas.space.precision import rationals, unit_roundoff
from odenas.space.rooted_trees import Tree, density, size, trees
from odenas.space.tableau import Tableau


@singledispatch
def order(method: Method, highest: int | None = None) -> int:
    """Return the largest p, at most `highest`, such that one step from exact history misses by O(h^{p+1}) at most.

    Every kind of method registers its own (`functools.singledispatch`).
    """
    raise no_method(method, "an order")


@singledispatch
def error_constant(method: Method) -> float:
    """Return the principal defect, of order p + 1, normalised by the total weight of the slopes.

    Every kind of method registers its own (`functools.singledispatch`).
    """
    raise no_method(method, "an error constant")


@order.register(Tableau)
def _order_of_tableau(tableau: Tableau, highest: int | None = None) -> int:
    """Return the largest p ≤ `highest` such that the defects of all trees with up to p vertices vanish.

    `highest` is max(10, 2k) if not given; no explicit linear k-step method exceeds 2k − 1. A float entry is known to
    its unit roundoff only: defects that so small a change of the entries can cause count as zero. The order is 0
    where a stage does not reproduce a constant solution (ΣU_i ≠ 1), for its f is then evaluated in the wrong place.
    A stage whose row of U is 0 reads slopes alone, as the second F of PolyNet's x + F(x) + F(F(x)): it stands at the
    origin, and where f vanishes there, as a network's does, f(t, 0) = 0, its h f is of second order in h and the wrong
    one. With such a stage the order is 1 if the rest is consistent, and never more.
    For x'' = f the conditions are C_q = 0 for q = 0 … p + 1, with C_q as below.
    (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed., II.2, III.2, III.8 and III.10.)
    """
    highest = max(10, 2 * tableau.steps) if highest is None else highest
    return _proved_order(tableau, highest, unit_roundoff(tableau))


@lru_cache(maxsize=4096)
def _proved_order(tableau: Tableau, highest: int, unit: Fraction) -> int:
    """Return the order; tableaus that are equal but for Fractions given as floats differ in `unit`."""
    if not _preconsistent(tableau):
        return 0
    highest = min(highest, 1) if any(_at_origin(tableau)) else highest
    weights, majorant = _weights(tableau), _weights(tableau, absolute=True)
    for p in range(1, highest + 1):
        for tree in weights.trees(p):
            # A weight is a sum of products of at most 2p entries; the 8 allows for entries that were computed.
            allowed = 16 * p * unit * majorant.step(tree) if unit else Fraction(0)
            if abs(weights.defect(tree)) > allowed:
                return p - 1
    return highest


@error_constant.register(Tableau)
def _error_constant_of_tableau(tableau: Tableau) -> float:
    """Return the principal defect, over all trees with p + 1 vertices, normalised by the total slope weight.

    For a linear multistep method this is C_{p+1}/σ(1), with α_k = 1 (Hairer, Nørsett, Wanner I, III.2);
    1/2 for forward Euler. In general it is the value of largest magnitude of defect(t)·γ(t)/(p + 1)!, divided by
    σ(1) = Σ of all slope weights; the two agree. It is infinite where σ(1) = 0 or a stage has ΣU_i ≠ 1.
    For x'' = f it is C_{p+2}/σ(1), with q! C_q = 1 − Σ_j V_j (−j)^q − q (q − 1) Σ_j β_j (−j)^{q−2} (same book,
    III.10); 1/12 for Verlet.
    """
    p = order(tableau)
    total = sum(rationals(tableau.slopes), Fraction(0))
    if total == 0 or not _preconsistent(tableau) or any(_at_origin(tableau)):
        return math.inf
    weights = _weights(tableau)
    scaled = (weights.defect(tree) * density(tree) for tree in weights.trees(p + 1))
    return float(max(scaled, key=abs) / math.factorial(p + 1) / total)


def defects(tableau: Tableau, vertices: int) -> dict[Tree, Fraction]:
    """Return, for each tree with `vertices` vertices, exact minus numerical weight of one step from exact history.

    The weight a(t) is the factor of h^{|t|}/σ(t) times the elementary differential of t, 1/γ(t) for the solution.
    For x'' = f, where all trees pose a multistep method one condition, it is given under the bushy tree.
    """
    weights = _Powers(tableau) if tableau.derivative == 2 else _Weights(tableau)
    return {tree: weights.defect(tree) for tree in weights.trees(vertices)}


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
        self.at_origin = _at_origin(tableau)
        self.known: dict[tuple[int, int, Tree], Fraction] = {}

    def trees(self, vertices: int) -> tuple[Tree, ...]:
        return trees(vertices)

    def defect(self, tree: Tree) -> Fraction:
        return Fraction(1, density(tree)) - self.step(tree)

    def step(self, tree: Tree) -> Fraction:
        total = sum((v * self.state(j, tree) for j, v in self.V if j), Fraction(0))
        total += sum(r * self.slope(0, j, tree) for j, r in self.R)
        return total + sum(b * self.slope(i, 0, tree) for i, b in self.B)

    def state(self, back: int, tree: Tree) -> Fraction:
        return Fraction((self.sign * back) ** size(tree), density(tree))

    def slope(self, stage: int, back: int, tree: Tree) -> Fraction:
        if self.at_origin[stage]:
            return Fraction(0)
        return math.prod((self.stage(stage, back, child) for child in tree), start=Fraction(1))

    def stage(self, i: int, back: int, tree: Tree) -> Fraction:
        key = i, back, tree
        if key not in self.known:
            total = sum((u * self.state(back + j, tree) for j, u in self.U[i] if back + j), Fraction(0))
            total += sum(w * self.slope(0, back + j + 1, tree) for j, w in self.W[i])
            self.known[key] = total + sum(a * self.slope(stage, back, tree) for stage, a in self.A[i])
        return self.known[key]


class _Powers:
    """The same for a linear multistep method, where the bushy tree with n vertices speaks for all of that size.

    There F_{n−j} = h f(x_{n−j}) has at t the weight Π (−j)^{|c|}/γ(c) = (−j)^{|t|−1} |t|/γ(t), so γ(t) times the
    defect depends on |t| alone. What is left is one step from exact history for a slope t^{n−1}, whose integral of
    order d = `derivative` is t^q (n − 1)!/q! with q = n + d − 1.
    """

    def __init__(self, tableau: Tableau, absolute: bool = False) -> None:
        self.V, self.slopes = (_nonzero(rationals(row), absolute) for row in (tableau.V, tableau.slopes))
        self.sign, self.raised = 1 if absolute else -1, tableau.derivative - 1

    def trees(self, vertices: int) -> tuple[Tree, ...]:
        return (((),) * (vertices - 1),)

    def defect(self, tree: Tree) -> Fraction:
        return self.integral(1, tree) - self.step(tree)

    def step(self, tree: Tree) -> Fraction:
        total = sum((v * self.integral(self.sign * j, tree) for j, v in self.V), Fraction(0))
        return total + sum(b * Fraction(self.sign * j) ** len(tree) for j, b in self.slopes)

    def integral(self, time: int, tree: Tree) -> Fraction:
        q = len(tree) + 1 + self.raised
        return Fraction(time**q) * math.factorial(len(tree)) / math.factorial(q)


def _weights(tableau: Tableau, absolute: bool = False) -> _Weights | _Powers:
    return _Powers(tableau, absolute) if tableau.is_multistep else _Weights(tableau, absolute)


def _preconsistent(tableau: Tableau) -> bool:
    """Return whether each stage reproduces a constant or is at the origin, as far as the entries are known.

    For x'' = f the step has to reproduce x = t as well: Σ_j j V_j = −1.
    """
    allowed = 8 * unit_roundoff(tableau)
    rows = [[Fraction(-1), *rationals(row)] for row in tableau.U if any(row)]
    if tableau.derivative == 2:
        rows.append([Fraction(1), *(j * v for j, v in enumerate(rationals(tableau.V)))])
    return all(abs(sum(row, Fraction(0))) <= allowed * sum(map(abs, row), Fraction(0)) for row in rows)


def _at_origin(tableau: Tableau) -> tuple[bool, ...]:
    """Return for each stage whether it reads slopes alone."""
    return tuple(not any(row) for row in tableau.U)


def _nonzero(row: tuple[Fraction, ...], absolute: bool) -> list[tuple[int, Fraction]]:
    return [(i, abs(entry) if absolute else entry) for i, entry in enumerate(row) if entry]
