"""A scheme in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from odenas.space.blocks import Blocks
from odenas.space.catalogue import CATALOGUE, scheme
from odenas.space.implicit import IMPLICIT, ImplicitMultistep
from odenas.space.integrate import EULER
from odenas.space.scheme import Scheme
from odenas.space.stochasticity import Stochasticity
from odenas.space.tableau import Number, Tableau

NOISES = {"depth": "drop {:g}", "shake": "shake {:g}", "additive": "noise {:g}", "multiplicative": "noisy f {:g}"}
GROWN = {"linear": "", "proportional": " from the first block", "constant": " throughout"}
TIED = {"none": "", "stages": "tied stages", "steps": "tied steps"}


def describe(value: Scheme) -> str:
    """Return the name of a scheme of the catalogue, or its step in symbols, with what is added to it.

    For example "lm", "1.9x − 0.9x₁ + f" or "euler, drop 0.2"; x₁ and f₁ are one step back.
    """
    names = _names()
    plain = replace(value, blocks=Blocks())
    silent = replace(plain, stochasticity=Stochasticity())
    for named in (plain, silent, replace(silent, tying="none")):
        if named in names:
            parts = [names[named]]
            break
    else:
        named, parts = Scheme(EULER), [_formula(value), *_learning(value)]
    added = [TIED[value.tying] if value.tying != named.tying else ""]
    blocks = value.blocks
    added += [f"{blocks.kind} blocks"] if blocks.kind != "basic" else []
    added += [blocks.activation] if blocks.activation != "relu" else []
    added += ["blocks " + "-".join(map(str, blocks.per_stage))] if blocks.per_stage else []
    noise = value.stochasticity
    if noise.kind != "none" and noise != named.stochasticity:
        size = noise.variant.replace(noise.kind, NOISES[noise.kind].format(noise.rate))
        added.append(size + GROWN[noise.growth])
    return ", ".join([*parts, *filter(None, added)])


@cache
def _names() -> dict[Scheme, str]:
    names: dict[Scheme, str] = {}
    for name, entry in CATALOGUE.items():
        names.setdefault(entry.make(), name)
    return names | {scheme(name): name for name in IMPLICIT}


def _learning(value: Scheme) -> list[str]:
    coefficients = value.coefficients
    words = [] if value.transition == "restart" else ["projected history"]
    if coefficients.learning == "scheduled":
        words.append("to " + " ".join(f"{float(kappa):g}" for kappa in coefficients.target))
    if coefficients.learning == "learned":
        per = {"shared": "learned", "step": "learned per step", "channel": "learned per channel"}
        kept = {"none": "", "order": ", of its order", "zero-stable": ", stable"}
        words.append(per[coefficients.sharing] + kept[coefficients.constraint])
    return words


def _formula(value: Scheme) -> str:
    tableau = value.applied
    if isinstance(tableau, ImplicitMultistep):
        return _sum({"x": tableau.states, "f": tableau.slopes[1:], "f(next)": tableau.slopes[:1]})
    if not isinstance(tableau, Tableau):
        return f"partitioned, {tableau.stages} stage(s), order {value.order}"
    if not tableau.is_multistep and tableau.steps > 1:
        return f"{tableau.steps} steps, {tableau.stages} stage(s), order {value.order}"
    if not tableau.is_multistep:
        c, b = (" ".join(f"{float(entry):.3g}" for entry in row) for row in (tableau.abscissae, tableau.B))
        return f"Runge–Kutta of {tableau.stages} stages, c {c}, b {b}"
    return _sum({"x": tableau.V, "f": tableau.slopes})


def _sum(rows: Mapping[str, Sequence[Number]]) -> str:
    """Return weights times symbols, one row for each symbol, newest first."""
    text = ""
    for symbol, row in rows.items():
        for j, weight in enumerate(row):
            if weight != 0:
                size = "" if abs(weight) == 1 else f"{abs(float(weight)):.3g}"
                sign = ("−" if weight < 0 else "") if not text else (" − " if weight < 0 else " + ")
                text += sign + size + symbol + ("" if j == 0 else chr(ord("₀") + j))
    return text
