"""Named partitioned methods for y' = f(z), z' = g(y): networks whose channels are two halves that step in turn."""

from __future__ import annotations

from functools import partial

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.partitioned import Partitioned
from odenas.space.scheme import Scheme

# Three leapfrog steps of these lengths make one of order 4 (Forest & Ruth 1990; Yoshida 1990).
OUTER = 1 / (2 - 2 ** (1 / 3))
INNER = 1 - 2 * OUTER

METHODS = {
    "symplectic_euler": Partitioned.in_turn((1,), (1,)),
    "stormer_verlet": Partitioned.in_turn(("1/2", "1/2"), (1, 0)),
    "coupled_euler": Partitioned(A=((0,),), b=(1,), A2=((0,),), b2=(1,)),
    "ruth3": Partitioned.in_turn(("7/24", "3/4", "-1/24"), ("2/3", "-2/3", 1)),
    "forest_ruth": Partitioned.in_turn(
        (OUTER / 2, (OUTER + INNER) / 2, (OUTER + INNER) / 2, OUTER / 2), (OUTER, INNER, OUTER, 0)
    ),
}


def _entry(name: str, order: int, about: str) -> Entry:
    make = partial(Scheme, METHODS[name], Coefficients(order=order))
    return Entry("partitioned", about, make)


PARTITIONED = {
    "symplectic_euler": _entry(
        "symplectic_euler",
        1,
        "Symplectic or semi-implicit Euler, y ← y + f(z), then z ← z + g(y): RevNet (Gomez et al. 2017) and, with "
        "f = Kᵀσ(Kz + b) and g of the same form, the Hamiltonian network (Chang et al. 2018)",
    ),
    "stormer_verlet": _entry(
        "stormer_verlet",
        2,
        "Störmer–Verlet, y ← y + f(z)/2, z ← z + g(y), y ← y + f(z)/2; symmetric and symplectic "
        "(Hairer, Lubich & Wanner, Geometric Numerical Integration, I.1.4)",
    ),
    "coupled_euler": _entry(
        "coupled_euler",
        1,
        "Forward Euler of the coupled system, both halves from the old state: y + f(z) and z + g(y); not symplectic, "
        "and not what RevNet does, though Lu et al. 2018 file it so",
    ),
    "ruth3": _entry(
        "ruth3",
        3,
        "Ruth's symplectic method of order 3, weights 7/24, 3/4, −1/24 of f and 2/3, −2/3, 1 of g (Ruth 1983)",
    ),
    "forest_ruth": _entry(
        "forest_ruth",
        4,
        "Three Störmer–Verlet steps of lengths θ, 1 − 2θ, θ with θ = 1/(2 − ∛2) (Forest & Ruth 1990; Yoshida 1990)",
    ),
}
