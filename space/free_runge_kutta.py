"""The free families of explicit Runge–Kutta methods with as many stages as their order."""

from __future__ import annotations

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.feasible_runge_kutta import RUNGE_KUTTA_FAMILIES
from odenas.space.scheme import Scheme
from odenas.space.tableau import Number, Tableau, number

Given = Number | int | str


def free_rk2(c2: Given = "3/4") -> Scheme:
    """Return the method of two stages and order 2 with this node.

    Raises:
        OdenasError: `c2` is no number in the box of the family `rk22`.
    """
    return _method("rk22", number("c2", c2))


def free_rk3(c2: Given = "2/5", c3: Given = "4/5") -> Scheme:
    """Return the method of three stages and order 3 with these nodes, rising or falling.

    Raises:
        OdenasError: a node is no number in the boxes of the families `rk33` and `rk33-falling`.
    """
    nodes = number("c2", c2), number("c3", c3)
    return _method("rk33" if nodes[0] < nodes[1] else "rk33-falling", *nodes)


def free_rk4(c2: Given = "1/4", c3: Given = "1/2") -> Scheme:
    """Return the method of four stages and order 4 with these nodes, rising or falling, and c_4 = 1.

    Raises:
        OdenasError: a node is no number in the boxes of the families `rk44` and `rk44-falling`.
    """
    nodes = number("c2", c2), number("c3", c3)
    return _method("rk44" if nodes[0] < nodes[1] else "rk44-falling", *nodes)


def _method(name: str, *nodes: Number) -> Scheme:
    family = RUNGE_KUTTA_FAMILIES[name]
    return Scheme(Tableau.runge_kutta(*family.tableau(nodes)), Coefficients(order=family.order))


FREE_RUNGE_KUTTA: dict[str, Entry] = {
    "free_rk2": Entry(
        "Runge–Kutta", "All of two stages and order 2, by c2 (Hairer, Nørsett & Wanner I, II.1)", free_rk2
    ),
    "free_rk3": Entry(
        "Runge–Kutta", "Those of three stages and order 3, by c2 and c3 (Hairer, Nørsett & Wanner I, II.1)", free_rk3
    ),
    "free_rk4": Entry(
        "Runge–Kutta", "Those of four stages and order 4, by c2 and c3 (Kutta 1901; Hairer et al. I, II.1)", free_rk4
    ),
}
