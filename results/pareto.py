"""Which of several points are best where there are several objectives, all minimised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Indices = NDArray[np.int64]


def fronts(values: Any, violations: Any = None) -> Indices:
    """Return the non-dominated rank of each point, from 0.

    A point dominates another if it is nowhere greater and somewhere less. Rank 0 is dominated by none, the Pareto
    front; rank r by none but those of lower ranks: the sorting of NSGA-II (Deb et al. 2002, "A Fast and Elitist
    Multiobjective Genetic Algorithm: NSGA-II", §III.A). With violations it is that paper's constrained domination
    (§VI): a point that keeps the constraints dominates one that breaks them, and of two that break them the one
    that breaks them less. Points with a value that is not finite share the last rank.

    Args:
        values: objectives, shape (n, m).
        violations: by how much each point breaks the constraints, shape (n,); 0 or less where it keeps them.

    Returns:
        Shape (n,), int64.

    Raises:
        ValueError: the shapes do not fit.
    """
    values, violations = _checked(values, violations)
    finite = np.isfinite(values).all(axis=1) & np.isfinite(violations)
    kept, broken = finite & (violations <= 0), finite & (violations > 0)
    ranks = np.zeros(len(values), dtype=np.int64)
    ranks[kept] = _layers(values[kept])
    ranks[broken] = _next(ranks[kept]) + _layers(violations[broken, None])
    ranks[~finite] = _next(ranks[finite])
    return ranks


def spread_order(values: Any) -> Indices:
    """Return the indices of the points of one front so that each beginning of the list covers the front well.

    First the point that is least in the first objective, then always the one farthest from those chosen (its distance
    to the nearest of them is greatest), ties by index: the greedy ε-net (Clarkson 2006, "Nearest-Neighbor Searching
    and Metric Space Dimensions") by which Schmucker et al. 2021, "Multi-objective Asynchronous Successive Halving"
    (arXiv 2106.12639), order the points of a front. Distances are Euclidean with the objectives scaled to [0, 1].

    Args:
        values: objectives, shape (n, m); where one is not finite the point comes last.

    Returns:
        Shape (n,), int64: a permutation.
    """
    values, _ = _checked(values, None)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    rest = np.setdiff1d(np.arange(len(values)), finite)
    if not len(finite):
        return rest
    columns = np.ascontiguousarray(_unit_box(values[finite]).T)
    order = np.empty(len(finite), dtype=np.int64)
    chosen = int(values[finite, 0].argmin())
    nearest = np.full(len(finite), np.inf)
    for place in range(len(finite)):
        order[place] = chosen
        apart = columns - columns[:, chosen, None]
        np.minimum(nearest, (apart * apart).sum(axis=0), out=nearest)
        nearest[chosen] = -1.0  # a point is chosen once
        chosen = int(nearest.argmax())
    return np.concatenate([finite[order], rest])


def ranking(values: Any, violations: Any = None) -> Indices:
    """Return the place of each point, 0 for the best: front by front, within a front by `spread_order`.

    With one objective it is the order of the numbers, ties by index. Arguments and errors are those of `fronts`.

    Returns:
        Shape (n,), int64: a permutation.
    """
    values, violations = _checked(values, violations)
    ranks = fronts(values, violations)
    members = np.argsort(ranks, kind="stable")
    places = np.empty(len(values), dtype=np.int64)
    begin = 0
    for size in np.bincount(ranks):
        front = members[begin : begin + size]
        order = front[spread_order(values[front])] if size > 1 else front
        places[order] = np.arange(begin, begin + size)
        begin += size
    return places


def _layers(values: Values) -> Indices:
    """Return the ranks of finite points without constraints.

    The rank is the length of the longest chain of points that dominate one another and this one. In lexicographic
    order what dominates a point stands before it, so that one pass settles all.
    """
    distinct, place = np.unique(values, axis=0, return_inverse=True)
    if distinct.shape[1] == 1:
        return place.reshape(-1).astype(np.int64)
    columns = np.ascontiguousarray(distinct.T)
    ranks = np.zeros(len(distinct), dtype=np.int64)
    for index in range(1, len(distinct)):
        dominating = (columns[:, :index] <= columns[:, index, None]).all(axis=0)
        ranks[index] = np.max(ranks[:index], where=dominating, initial=-1) + 1
    return ranks[place.reshape(-1)]


def _unit_box(values: Values) -> Values:
    """Return finite values with each column scaled to [0, 1]; a column that is constant becomes 0."""
    largest = np.abs(values).max(axis=0)
    values = values / np.where(largest > 0, largest, 1.0)  # no difference overflows
    low, span = values.min(axis=0), np.ptp(values, axis=0)
    scaled: Values = (values - low) / np.where(span > 0, span, 1.0)
    return scaled


def _next(ranks: Indices) -> int:
    return int(ranks.max(initial=-1)) + 1


def _checked(values: Any, violations: Any) -> tuple[Values, Values]:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"`values` has the shape {values.shape}, but must be (points, objectives)")
    violations = np.zeros(len(values)) if violations is None else np.asarray(violations, dtype=np.float64)
    if violations.shape != values.shape[:1]:
        raise ValueError(f"`violations` has the shape {violations.shape}, but must be ({len(values)},)")
    return values, violations
