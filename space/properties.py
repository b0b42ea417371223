"""All that is known of a scheme, in one JSON-ready table."""

from __future__ import annotations

import math
from typing import Any

from odenas.space.barriers import barrier
from odenas.space.companion_products import contraction, uniform_bound
from odenas.space.errors import OdenasError
from odenas.space.freedom import degrees_of_freedom
from odenas.space.implicit import ImplicitMultistep
from odenas.space.modified_equation import modified_equation
from odenas.space.monotonicity import ssp_coefficient
from odenas.space.order import defects
from odenas.space.precision import rationals
from odenas.space.rooted_trees import Tree, trees
from odenas.space.scheme import Scheme
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.tableau import Tableau, plain

LAST_TREES = 7
"""The residual of the first condition broken is written out up to trees of this many vertices."""


def properties(value: Scheme | ImplicitMultistep) -> dict[str, Any]:
    """Return what is known of a scheme or an implicit method, exactly where it can be.

    Exact rational numbers are integers or strings such as "3/2", an infinite interval is "inf", and what has no answer
    for this kind of method is None. The keys are those of PROPERTIES.
    """
    method = value.tableau if isinstance(value, Scheme) else value
    table = stability_polynomial(method)
    explicit = method if isinstance(method, Tableau) and method.derivative == 1 else None
    return {
        "steps": method.steps,
        "stages": getattr(method, "stages", 1),
        "evaluations": getattr(method, "evaluations", getattr(method, "stages", None)),
        "order": value.order,
        "barrier": (barrier(explicit) if explicit else "") or None,
        "error_constant": _finite(value.error_constant),
        "first_broken": _first_broken(explicit, value.order) if explicit else None,
        "degrees_of_freedom": _freedom(explicit, value.order) if explicit else None,
        "zero_stable": value.zero_stable,
        "products_bound": _products_bound(explicit) if explicit else None,
        "real_interval": _finite(value.real_interval),
        "imaginary_interval": _finite(value.imaginary_interval),
        "stability_angle": value.stability_angle if isinstance(value, ImplicitMultistep) else None,
        "stability_polynomial": [[plain(entry) for entry in row] for row in table],
        "ssp_coefficient": _ssp(explicit) if explicit else None,
        "modified_equation": _modified_equation(explicit) if explicit else None,
        "definition": value.to_dict(),
    }


PROPERTIES = {
    "steps": "past states k that a step reads",
    "stages": "stages s of a step",
    "evaluations": "evaluations of f in a step",
    "order": "exact order p",
    "barrier": "the order that no zero-stable method of this kind exceeds",
    "error_constant": "principal defect over the total slope weight, C_{p+1}/σ(1) of a multistep method",
    "first_broken": "the tree of p + 1 vertices with the largest residual, and that residual: 1/γ(t) less its weight",
    "degrees_of_freedom": "coefficients that order p leaves free",
    "zero_stable": "root condition of ρ",
    "products_bound": "bound in the maximum norm of all products of companion matrices of layers that contract as much "
    "as this one or more; inf where this one does not",
    "real_interval": "largest x with absolute stability for hλ in (−x, 0)",
    "imaginary_interval": "largest y with absolute stability for hλ in (−iy, iy)",
    "stability_angle": "α of A(α)-stability, in degrees",
    "stability_polynomial": "coefficient of ζⁱ zʲ in row i, column j, with z = hλ",
    "ssp_coefficient": "radius of absolute monotonicity",
    "modified_equation": "drag u' + inertia Δt u'' = g, where g is f by slopes whose weights sum to 1",
    "definition": "what from_dict reads",
}


def tree_text(tree: Tree) -> str:
    """Return a rooted tree in brackets: "τ" is a single vertex, "[τ,τ]" a root with two leaves."""
    return "[" + ",".join(map(tree_text, tree)) + "]" if tree else "τ"


def _first_broken(tableau: Tableau, order: int) -> dict[str, Any] | None:
    if order + 1 > LAST_TREES or any(sum(rationals(row)) != 1 for row in tableau.U):
        return None
    residuals = defects(tableau, order + 1)
    worst = max(trees(order + 1), key=lambda tree: abs(residuals[tree]))
    return {"tree": tree_text(worst), "residual": plain(residuals[worst]) if tableau.exact else float(residuals[worst])}


def _freedom(tableau: Tableau, order: int) -> int | None:
    if order > LAST_TREES or not tableau.exact or any(sum(rationals(row)) != 1 for row in tableau.U):
        return None
    return degrees_of_freedom(tableau, order)


def _products_bound(tableau: Tableau) -> float | str:
    kappa = contraction([[float(weight) for weight in tableau.V]])
    return float(uniform_bound(kappa, tableau.steps)) if kappa < 1 else "inf"


def _ssp(tableau: Tableau) -> float | str | None:
    try:
        return _finite(ssp_coefficient(tableau))
    except OdenasError:
        return None


def _modified_equation(tableau: Tableau) -> dict[str, Any] | None:
    try:
        equation = modified_equation(tableau)
    except OdenasError:
        return None
    entries = {name: getattr(equation, name) for name in ("drag", "inertia", "ratio")}
    return {name: _finite(entry) if isinstance(entry, float) else plain(entry) for name, entry in entries.items()}


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
