"""The free families against the named methods that they hold, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nodepy import runge_kutta_method

from odenas.space import OdenasError, Tableau, scheme
from odenas.space.order import order

HELD = [
    ("free_rk2", {"c2": "1/2"}, "explicit_midpoint"),
    ("free_rk2", {"c2": 1}, "heun2"),
    ("free_rk2", {"c2": "2/3"}, "ralston2"),
    ("free_rk3", {"c2": "1/3", "c3": "2/3"}, "heun3"),
    ("free_rk3", {"c2": "1/2", "c3": 1}, "kutta3"),
    ("free_rk3", {"c2": "1/2", "c3": "3/4"}, "ralston3"),
    ("free_rk3", {"c2": "1/3", "c3": "3/4"}, "williamson3"),
    ("free_rk3", {"c2": 1, "c3": "1/2"}, "ssp33"),
    ("free_rk4", {"c2": "1/3", "c3": "2/3"}, "rk38"),
]


@pytest.mark.parametrize(("family", "nodes", "name"), HELD)
def test_named_methods_are_in_their_family(family: str, nodes: dict[str, Any], name: str) -> None:
    assert scheme(family, **nodes).tableau == scheme(name).tableau


@pytest.mark.parametrize("name", ["free_rk2", "free_rk3", "free_rk4"])
def test_order_as_nodepy(name: str) -> None:
    tableau = scheme(name).tableau
    assert isinstance(tableau, Tableau)
    A, b = (np.array(entries, dtype=float) for entries in (tableau.A, tableau.B))
    method = runge_kutta_method.ExplicitRungeKuttaMethod(A, b)
    assert method.order(tol=1e-12) == order(tableau) == tableau.stages


@pytest.mark.parametrize(
    ("name", "nodes", "message"),
    [
        ("free_rk2", {"c2": 0}, "`c2` is 0, but must be from"),
        ("free_rk3", {"c2": "2/3", "c3": "2/3"}, "`c2` is 2/3, but must be from"),
        ("free_rk4", {"c2": "x"}, "`c2` holds 'x', but needs finite numbers"),
    ],
)
def test_nodes_that_make_no_method_are_refused(name: str, nodes: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=message):
        scheme(name, **nodes)
