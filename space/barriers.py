"""Barriers: the order that no method of a kind can exceed."""

from __future__ import annotations

from odenas.space.tableau import Tableau

# The highest order of an explicit Runge–Kutta method of s stages (Hairer, Nørsett & Wanner I, 2nd ed., II.5; Butcher,
# Numerical Methods for Ordinary Differential Equations, 3rd ed., §324). It is not known for 12 stages and more.
BUTCHER = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 5, 7: 6, 8: 6, 9: 7, 10: 7, 11: 8}


def barrier(tableau: Tableau) -> str:
    """Return in words the barrier that a zero-stable tableau of this shape obeys; empty where none is known.

    For linear multistep methods it is Dahlquist's first: an explicit zero-stable one of k steps has at most order k
    (Hairer, Nørsett & Wanner I, III.3).
    """
    steps, stages = tableau.steps, tableau.stages
    if tableau.is_multistep and tableau.derivative == 1:
        return f"a zero-stable explicit method of {steps} step(s) has at most order {steps} (first Dahlquist barrier)"
    if steps == 1 and stages in BUTCHER:
        highest = BUTCHER[stages]
        return f"an explicit Runge–Kutta method of {stages} stage(s) has at most order {highest} (Butcher barrier)"
    return ""
