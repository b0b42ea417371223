"""Störmer's explicit multistep methods for x'' = f: x_{n+1} = 2 x_n − x_{n−1} + h² Σ_j β_j f(x_{n−j})."""

from __future__ import annotations

from functools import partial

from odenas.space.coefficients import Coefficients
from odenas.space.entry import Entry
from odenas.space.scheme import Scheme
from odenas.space.tableau import Tableau

# β: f_n + ∇²f_n/12 + ∇³f_n/12, cut off after 2, 3, 4 terms (Hairer, Nørsett & Wanner I, III.10); as many steps, and
# of as high an order.
SLOPES = {
    "verlet": (1, 0),
    "stormer3": ("13/12", "-1/6", "1/12"),
    "stormer4": ("7/6", "-5/12", "1/3", "-1/12"),
}


def _entry(name: str, about: str) -> Entry:
    tableau = Tableau.multistep((2, -1), SLOPES[name], derivative=2)
    make = partial(Scheme, tableau, Coefficients(order=len(SLOPES[name])), start="copy")
    return Entry("second order", about, make)


STORMER = {
    "verlet": _entry(
        "verlet",
        "Verlet or leapfrog for x'' = f, x ← 2 x − x_prev + f(x), from x_prev = x: LeapfrogNet (Chang et al. 2018)",
    ),
    "stormer3": _entry(
        "stormer3",
        "Störmer's method of 3 steps for x'' = f, slope weights 13/12, −1/6, 1/12 (Hairer, Nørsett & Wanner I, III.10)",
    ),
    "stormer4": _entry(
        "stormer4",
        "Störmer's method of 4 steps for x'' = f, slope weights 7/6, −5/12, 1/3, −1/12 "
        "(Hairer, Nørsett & Wanner I, III.10)",
    ),
}
