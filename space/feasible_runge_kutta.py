"""Feasible coordinates of explicit Runge–Kutta methods: boxes in which every point is a method of order p.

A coordinate is an entry of the tableau, "c2", "b3" or "a43", counted from 1 as in the literature. Stage 1 and the last
p − 1 are the core (of order 4 with c_s = 1); stages 2 … s − p + 1 are extra: their nodes, weights and rows are free.
What is not free follows by + − × ÷ alone, one linear equation for each unknown, so that the same source serves
Fractions, numpy arrays and torch tensors with gradients:

* the core's weights from Σ b_i c_i^{q−1} = 1/q, q = 1 … p, by interpolation at the core's nodes;
* order 3: a_{s,s−1} from Σ b_i a_ij c_j = 1/6;
* order 4: the last row from Σ_i b_i a_ij = b_j (1 − c_j), the simplifying assumption D(1). With it Σ b_i c_i a_ij c_j =
  1/8 is all that the eight conditions still ask, and gives a_{s−1,s−2} (Butcher, Numerical Methods for Ordinary
  Differential Equations, 3rd ed., §321, §322). For s = 4 D(1) always holds; for s > 4 other methods are left out;
* the first column from c_i = Σ_j a_ij.

Why no denominator vanishes. The core's nodes lie in disjoint intervals, which hold neither 0 nor, where that is a node,
1. The other denominators are the core's last weights. With u and v the first two nodes of the core after 0, put
x(x − u), x(1 − x)(x − u) and x(x − u)(x − v) into the quadrature. Let B = Σ b_j over the extra stages, where all
b_j ≥ 0 and 0 ≤ c_j ≤ d ≤ 1/2, d < v for u < v. Then

* order 3, u < v:  b_s v(v − u) = 1/3 − u/2 − Σ b_j c_j(c_j − u) ≥ 1/3 − u/2 − B d max(d − u, 0);
* order 3, u > v:  b_s v(u − v) = u/2 − 1/3 + Σ b_j c_j(c_j − u) ≥ u/2 − 1/3 − B u²/4;
* order 4, u < v:  12 b_{s−1} v(1 − v)(v − u) ≥ 1 − 2u − 12 B d(1 − d) max(d − u, 0),
  12 b_s (1 − u)(1 − v) ≥ 3 − 4(u + v) + 6uv − 3B u²v;
* order 4, u > v, no extra stages:  12 b_3 v(1 − v)(u − v) = 2u − 1,  12 b_4 (1 − u)(1 − v) = 3 − 4(u + v) + 6uv.

Each bound is affine in v, and concave in u on either side of d, so it is least at a corner or at u = d: all these
values are above 0, as the tests show. Where nodes coincide, the quadrature leaves a weight w free, away from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from odenas.space.errors import OdenasError

N = TypeVar("N", bound=Any)
Interval = tuple[Fraction, Fraction]
Quadrature = Callable[[Mapping[str, Any], Any], tuple[list[Any], list[Any]]]

TOLERANCE = 1e-12  # to which entries given as floats must fit, relative to the largest if that is above 1


@dataclass(frozen=True)
class Family:
    """Explicit Runge–Kutta methods of s stages and order at least p, in coordinates that are entries of the tableau.

    Args:
        stages: the number s of stages.
        order: the order p that every point of the box has at least.
        box: the coordinates' names with their intervals, whose ends have at most three decimals.
        quadrature: gives c (s) and b (s), from the coordinates by name and a one of their type.
        source: where the family is found.
    """

    stages: int
    order: int
    box: Mapping[str, Interval]
    quadrature: Quadrature
    source: str

    @property
    def free(self) -> int:
        """The number of coordinates: the degrees of freedom that are left."""
        return len(self.box)

    def tableau(self, coordinates: Sequence[N]) -> tuple[list[list[N]], list[N]]:
        """Return A (s×s) and b (s) of the method at these coordinates, each entry of the type and shape that they have.

        Coordinates are numbers, or arrays or tensors that broadcast; integers, and no coordinates at all, give
        Fractions. Numbers must lie in the box; arrays and tensors are not checked.

        Raises:
            OdenasError: there are more or fewer coordinates than `free`, or a number lies outside its interval.
        """
        if len(coordinates) != self.free:
            raise OdenasError(f"`coordinates` are {len(coordinates)}, but need {self.free}: {', '.join(self.box)}")
        exact = all(isinstance(value, int | Fraction) for value in coordinates)
        values: list[Any] = [Fraction(value) if exact else value for value in coordinates]
        for (name, (low, high)), value in zip(self.box.items(), values, strict=True):
            ends = (low, high) if isinstance(value, Fraction) else (float(low), float(high))
            if isinstance(value, float | Fraction) and not ends[0] <= value <= ends[1]:
                raise OdenasError(f"`{name}` is {value}, but must be from {float(low):g} to {float(high):g}")
        one = Fraction(1) if exact else 1 + sum(0 * value for value in values)
        given = {name: value if exact else value * one for name, value in zip(self.box, values, strict=True)}
        c, b = self.quadrature(given, one)
        return _matrix(c, b, given, self.order), b

    def coordinates(self, A: Sequence[Sequence[N]], b: Sequence[N]) -> list[N]:
        """Return the coordinates of the method with the Butcher matrix `A` and the weights `b`: undoes `tableau`.

        In Fractions the method must be met exactly, in floats to TOLERANCE.

        Raises:
            OdenasError: the shapes are wrong, or the method is not in this family or lies outside its box.
        """
        if len(b) != self.stages or [len(row) for row in A] != [self.stages] * self.stages:
            raise OdenasError(f"`b` has {len(b)} entries and `A` {len(A)} rows, but both need {self.stages}")
        given = [entry for row in (*A, b) for entry in row]
        exact = all(isinstance(entry, int | Fraction) for entry in given)
        allowed = 0 if exact else TOLERANCE * max(1.0, *(abs(float(entry)) for entry in given))
        found: list[Any] = []
        for name, (low, high) in self.box.items():
            i, j = int(name[1]) - 1, int(name[-1]) - 1
            value: Any = {"a": A[i][j], "b": b[i], "c": sum(A[i][:i])}[name[0]]
            nearest = value if exact else min(max(float(value), float(low)), float(high))
            found.append(nearest if abs(value - nearest) <= allowed else value)
        matrix, weights = self.tableau(found)
        needed = [entry for row in (*matrix, weights) for entry in row]
        for place, (entry, need) in enumerate(zip(given, needed, strict=True)):
            if not abs(entry - need) <= allowed:
                i, j = divmod(place, self.stages)
                name = f"b{j + 1}" if i == self.stages else f"a{i + 1}{j + 1}"
                raise OdenasError(f"`{name}` is {entry}, but must be {need} in this family of order {self.order}")
        return found


def _matrix(c: Sequence[Any], b: Sequence[Any], given: Mapping[str, Any], order: int) -> list[list[Any]]:
    """Return A (s×s), for the nodes c and the weights b, with the entries that are given."""
    stages, last, one = len(c), len(c) - 1, 1 + 0 * b[0]
    A = [[given.get(f"a{i}{j}", 0 * one) for j in range(1, stages + 1)] for i in range(1, stages + 1)]
    moments = [sum(row[j] * c[j] for j in range(1, i)) for i, row in enumerate(A)]  # c_1 is 0
    if order == 3:
        rest = one / 6 - sum(b[i] * moments[i] for i in range(2, stages))
        A[last][last - 1] = rest / (b[last] * c[last - 1])
    if order == 4:
        # 1/6, which D(1) implies, less 1/8: Σ b_i (1 − c_i) a_ij c_j = 1/24, without the last row, where c_s = 1.
        rest = one / 24 - sum(b[i] * (1 - c[i]) * moments[i] for i in range(2, last))
        A[last - 1][last - 2] = rest / (b[last - 1] * (1 - c[last - 1]) * c[last - 2])
        for j in range(1, last):
            A[last][j] = (b[j] * (1 - c[j]) - sum(b[i] * A[i][j] for i in range(j + 1, last))) / b[last]
    return [[x - sum(row[1:i]), *row[1:]] for i, (row, x) in enumerate(zip(A, c, strict=True))]


def _family(stages: int, order: int, core: str, extra: str, source: str) -> Family:
    """Return the row of the given stages and order. Intervals are written as their ends: `core` has those of the core's
    free nodes, `extra` those common to all extra nodes, all extra weights, and all free entries of A.
    """
    nodes, (node, weight, entry) = _intervals(core), (_intervals(extra) or [(Fraction(0), Fraction(0))] * 3)
    extras, last = range(2, stages - order + 2), range(stages - order + 1, stages)  # counted from 1, and from 0
    box = {f"c{i}": node for i in extras} | {f"c{i + 1}": ends for i, ends in zip(last, nodes, strict=False)}
    box |= {f"b{i}": weight for i in extras}
    solved = {3: {(stages, stages - 1)}, 4: {(stages - 1, stages - 2), *((stages, j) for j in range(stages))}}
    places = [(i, j) for i in range(3, stages + 1) for j in range(2, i) if (i, j) not in solved.get(order, ())]
    box |= {f"a{i}{j}": entry for i, j in places}

    def interpolated(given: Mapping[str, Any], one: Any) -> tuple[list[Any], list[Any]]:
        c = [0 * one, *(given.get(f"c{i}", one) for i in range(2, stages + 1))]
        b = [given.get(f"b{i}", 0 * one) for i in range(1, stages + 1)]
        rest = [one / q - sum(b[j - 1] * c[j - 1] ** (q - 1) for j in extras) for q in range(1, order + 1)]
        for i in last:
            product, scale = [one], c[i]  # the coefficients of Π (x − c_k), highest last, and c_i Π (c_i − c_k)
            for k in last:
                if k != i:
                    product = [p - c[k] * q for p, q in zip([0 * one, *product], [*product, 0 * one], strict=True)]
                    scale = scale * (c[i] - c[k])
            b[i] = sum(p * moment for p, moment in zip(product, rest[1:], strict=True)) / scale
        b[0] = rest[0] - sum(b[i] for i in last)
        return c, b

    return Family(stages, order, box, interpolated, source)


def _coincident(coordinate: str, interval: str, nodes: str, weights: str, change: str, source: str) -> Family:
    """Return a row with s = p and fixed `nodes`, some of them equal, whose b = `weights` + w `change` with w free."""
    c, start, step = ([Fraction(entry) for entry in row.split()] for row in (nodes, weights, change))

    def shifted(given: Mapping[str, Any], one: Any) -> tuple[list[Any], list[Any]]:
        fixed = [[one * entry.numerator / entry.denominator for entry in row] for row in (c, start, step)]
        return fixed[0], [x + given[coordinate] * y for x, y in zip(*fixed[1:], strict=True)]

    return Family(len(c), len(c), {coordinate: _intervals(interval)[0]}, shifted, source)


def _intervals(ends: str) -> list[Interval]:
    values = [Fraction(end) for end in ends.split()]
    return list(zip(values[::2], values[1::2], strict=True))


_LOW = "Butcher, Numerical Methods for Ordinary Differential Equations, 3rd ed., §320"
_FOUR = "Kutta 1901; Butcher, Numerical Methods for Ordinary Differential Equations, 3rd ed., §322"
_MORE = "D(1): Butcher, Numerical Methods for Ordinary Differential Equations, 3rd ed., §321"

# Named after stages and order; "falling": the core's nodes u > v; "equal", "zero", "end": where two nodes coincide.
# The boxes are as wide as keeps every entry below 20: over corners, random points and ascent from the largest, 19.3.
RUNGE_KUTTA_FAMILIES: dict[str, Family] = {
    "rk11": _family(1, 1, "", "", _LOW),
    "rk21": _family(2, 1, "", "0 1 -0.5 1 -1 1", _LOW),
    "rk31": _family(3, 1, "", "0 1 -0.5 1 -1 1", _LOW),
    "rk41": _family(4, 1, "", "0 1 -0.5 1 -1 1", _LOW),
    "rk51": _family(5, 1, "", "0 1 -0.5 1 -1 1", _LOW),
    "rk61": _family(6, 1, "", "0 1 -0.5 1 -1 1", _LOW),
    "rk22": _family(2, 2, "0.25 1", "", _LOW),
    "rk32": _family(3, 2, "0.25 1", "0 1 -0.5 0.5 -1 1", _LOW),
    "rk42": _family(4, 2, "0.25 1", "0 1 -0.5 0.5 -1 1", _LOW),
    "rk52": _family(5, 2, "0.25 1", "0 1 -0.5 0.5 -1 1", _LOW),
    "rk62": _family(6, 2, "0.25 1", "0 1 -0.5 0.5 -1 1", _LOW),
    "rk33": _family(3, 3, "0.2 0.55 0.6 1", "", _LOW),
    "rk43": _family(4, 3, "0.25 0.5 0.65 1", "0 0.5 0 0.35 -1 1", _LOW),
    "rk53": _family(5, 3, "0.25 0.5 0.65 1", "0 0.5 0 0.25 -1 1", _LOW),
    "rk63": _family(6, 3, "0.25 0.5 0.65 1", "0 0.5 0 0.2 -0.65 0.65", _LOW),
    "rk33-falling": _family(3, 3, "0.8 1 0.25 0.6", "", _LOW),
    "rk43-falling": _family(4, 3, "0.8 1 0.25 0.6", "0 0.5 0 0.25 -1 1", _LOW),
    "rk33-equal": _coincident("b3", "0.1 1", "0 2/3 2/3", "1/4 3/4 0", "0 -1 1", _LOW),
    "rk33-zero": _coincident("b3", "0.1 1", "0 2/3 0", "1/4 3/4 0", "-1 0 1", _LOW),
    "rk44": _family(4, 4, "0.2 0.4 0.45 0.7", "", _FOUR),
    "rk54": _family(5, 4, "0.2 0.4 0.45 0.6", "0 0.4 0 0.25 -0.5 1", _MORE),
    "rk64": _family(6, 4, "0.2 0.4 0.45 0.6", "0 0.4 0 0.15 -0.4 0.4", _MORE),
    "rk44-falling": _family(4, 4, "0.6 0.7 0.2 0.45", "", _FOUR),
    "rk44-equal": _coincident("b3", "0.1 1", "0 1/2 1/2 1", "1/6 2/3 0 1/6", "0 -1 1 0", _FOUR),
    "rk44-zero": _coincident("b3", "0.05 0.5", "0 1/2 0 1", "1/6 2/3 0 1/6", "-1 0 1 0", _FOUR),
    "rk44-end": _coincident("b4", "0.05 0.5", "0 1 1/2 1", "1/6 1/6 2/3 0", "0 -1 0 1", _FOUR),
}
