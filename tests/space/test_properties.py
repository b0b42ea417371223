"""All that is known of a scheme: JSON-ready for every name, and as the functions that it gathers say."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from odenas.space import scheme, schemes
from odenas.space.implicit import IMPLICIT, ImplicitMultistep, implicit
from odenas.space.modified_equation import modified_equation
from odenas.space.monotonicity import ssp_coefficient
from odenas.space.order import defects
from odenas.space.properties import PROPERTIES, properties, tree_text
from odenas.space.rooted_trees import trees
from odenas.space.tableau import Tableau


@pytest.mark.parametrize("name", [*schemes(), *IMPLICIT])
def test_what_is_known_is_json_and_has_every_key(name: str) -> None:
    value = implicit(name) if name in IMPLICIT else scheme(name)
    known = properties(value)
    assert list(known) == list(PROPERTIES)
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["order"] == value.order
    assert (known["stability_angle"] is None) is not isinstance(value, ImplicitMultistep)


# theory: classical values, each found in the literature that the row of the catalogue names.
KNOWN = {
    ("euler", "ssp_coefficient"): 1.0,
    ("ssp33", "ssp_coefficient"): 1.0,
    ("ssp_multistep4", "ssp_coefficient"): 2 / 3,
    ("rk4", "degrees_of_freedom"): 2,
    ("ab2", "degrees_of_freedom"): 1,
    ("rk4", "evaluations"): 4,
    ("bdf3", "real_interval"): "inf",
    ("poly2", "error_constant"): "inf",
    ("momentum", "products_bound"): 19.0,  # (1 + 9/10)/(1 − 9/10)
    ("midpoint", "products_bound"): "inf",
    ("ab4", "products_bound"): 1.0,
}


@pytest.mark.parametrize(("name", "key"), KNOWN)
def test_known_values(name: str, key: str) -> None:
    value = implicit(name) if name in IMPLICIT else scheme(name)
    expected = KNOWN[name, key]
    assert properties(value)[key] == (expected if isinstance(expected, str) else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("name", ["lm", "ab3", "rk4", "pece_ab2_am2", "fsi"])
def test_the_first_condition_broken_is_broken(name: str) -> None:
    tableau = scheme(name).tableau
    assert isinstance(tableau, Tableau)
    p = scheme(name).order
    broken = properties(scheme(name))["first_broken"]
    named = {tree_text(tree): residual for tree, residual in defects(tableau, p + 1).items()}
    assert abs(named[broken["tree"]]) == max(map(abs, named.values())) == abs(Fraction(broken["residual"])) > 0
    assert not any(any(defects(tableau, vertices).values()) for vertices in range(1, p + 1))


def test_the_parts_are_what_their_functions_say() -> None:
    tableau = scheme("lm").tableau
    assert isinstance(tableau, Tableau)
    equation = modified_equation(tableau)
    known = properties(scheme("lm"))
    assert {key: Fraction(value) for key, value in known["modified_equation"].items()} == {
        "drag": equation.drag,
        "inertia": equation.inertia,
        "ratio": equation.ratio,
    }
    assert known["ssp_coefficient"] == ssp_coefficient(tableau)
    assert known["stability_polynomial"] == [["1/20", 0], ["-21/20", "-19/20"], [1, 0]]


def test_trees_are_told_apart() -> None:
    assert {tree_text(tree) for tree in trees(3)} == {"[τ,τ]", "[[τ]]"}
    assert len({tree_text(tree) for tree in trees(6)}) == 20
