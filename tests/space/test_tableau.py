"""The tableau: shapes, exact entries, derived values, JSON, and bad input."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odenas.space import OdenasError, Tableau
from odenas.space.integrate import RK4, integrate
from odenas.space.order import order
from odenas.space.tableau import number

PECE2: dict[str, Any] = {
    "V": [1, 0],
    "R": [0],
    "B": ["1/2", "1/2"],
    "A": [[0, 0], ["3/2", 0]],
    "U": [[1, 0], [1, 0]],
    "W": [[0], ["-1/2"]],
}
entries = st.one_of(st.integers(-9, 9), st.fractions(-9, 9, max_denominator=99), st.floats(-9, 9))


@st.composite
def tableaux(draw: st.DrawFn) -> Tableau:
    """Draw a tableau with all parts in use."""
    steps, stages = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def row(width: int) -> list[Any]:
        return [draw(entries) for _ in range(width)]

    V = row(steps - 1)
    return Tableau(
        V=(1 - sum(map(Fraction, V), Fraction(0)), *V),
        B=tuple(row(stages)),
        R=tuple(row(steps - 1)),
        A=tuple((*row(i), *[0] * (stages - i)) for i in range(stages)),
        U=tuple(tuple(row(steps)) for _ in range(stages)),
        W=tuple(tuple(row(steps - 1)) for _ in range(stages)),
    )


@settings(deadline=None)
@given(tableaux())
def test_json_round_trip(tableau: Tableau) -> None:
    again = Tableau.from_dict(json.loads(json.dumps(tableau.to_dict(), allow_nan=False)))
    assert again == tableau
    assert hash(again) == hash(tableau)
    assert again.exact is tableau.exact
    assert again.to_dict() == tableau.to_dict()


@pytest.mark.parametrize(
    "tableau",
    [
        RK4,
        Tableau.from_dict(PECE2),
        Tableau(V=(1, 0), B=(1,), U=(("3/2", "-1/2"),)),  # type: ignore[arg-type]
        Tableau(V=(0, 1), B=("1/2", 1), R=("1/2",), A=((0, 0), (2, 0)), U=((1, 0), (0, 1))),  # type: ignore[arg-type]
        Tableau(V=("1/2", "1/2"), B=("3/2",), R=(0,), W=(("1/4",),)),  # type: ignore[arg-type]
    ],
)
def test_every_stage_of_x_equal_t_is_its_own_time(tableau: Tableau) -> None:
    """On x' = 1 from x(0) = 0 a stage at the time t_n + c_i h has the value t_n + c_i h."""
    seen: list[tuple[float, float]] = []

    def f(t: float, x: Any) -> Any:
        seen.append((t, float(x)))
        return np.ones_like(x)

    integrate(tableau, f, 0.0, 0.25, 6)
    assert all(x == pytest.approx(t, abs=1e-14) for t, x in seen)
    assert {(t / 0.25) % 1 for t, _ in seen[-tableau.stages :]} == {float(c) % 1 for c in tableau.abscissae}


@settings(deadline=None)
@given(tableaux())
def test_slopes_are_the_weights_of_f_at_each_step(tableau: Tableau) -> None:
    assert len(tableau.slopes) == tableau.steps
    assert float(tableau.slopes[0]) == pytest.approx(sum(map(float, tableau.B)), rel=1e-12, abs=1e-12)
    assert tableau.slopes[1:] == tableau.R
    assert tableau.is_multistep is (
        (tableau.stages, tableau.U[0]) == (1, (1, *[0] * (tableau.steps - 1))) and not any(tableau.W[0])
    )


def test_defaults_are_those_of_a_linear_multistep_method() -> None:
    tableau = Tableau(V=(Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)), B=(2,))
    assert tableau.R == (0, 0)
    assert tableau.A == ((0,),)
    assert tableau.U == ((1, 0, 0),)
    assert tableau.W == ((0, 0),)
    assert (tableau.steps, tableau.stages) == (3, 1)
    assert tableau.is_multistep
    assert tableau.exact


def test_the_shorter_row_of_a_multistep_method_is_filled_up() -> None:
    assert Tableau.multistep((1,), (1, 2, 3)) == Tableau.multistep((1, 0, 0), (1, 2, 3))
    assert Tableau.multistep((0, 0, 1), (3,)) == Tableau.multistep((0, 0, 1), (3, 0, 0))
    assert Tableau.multistep((1,), (1, 2, 3)).slopes == (1, 2, 3)


@pytest.mark.parametrize(
    ("change", "multistep"),
    [
        ({}, True),
        ({"U": ((1, 0),), "W": ((0,),), "R": (5,)}, True),
        ({"U": ((2, -1),)}, False),
        ({"W": ((1,),)}, False),
        ({"B": (1, 0)}, False),
    ],
)
def test_is_multistep(change: dict[str, Any], multistep: bool) -> None:
    assert Tableau(**({"V": (1, 0), "B": (1,)} | change)).is_multistep is multistep


@pytest.mark.parametrize("value", ["1/3", "0.1", "-2e-3", " 7 ", 3, Fraction(1, 3), -0])
def test_all_but_floats_are_kept_exactly(value: Any) -> None:
    kept = number("V", value)
    assert isinstance(kept, Fraction)
    assert kept == Fraction(value)


@pytest.mark.parametrize("value", [0.1, np.float32(0.1), np.float64(0.1), np.int64(3)])
def test_floats_stay_floats(value: Any) -> None:
    kept = number("V", value)
    assert type(kept) is float
    assert kept == float(value)


def test_arrays_are_rows_and_matrices() -> None:
    parts: dict[str, Any] = {name: np.array(PECE2[name], dtype=object) for name in PECE2}
    made = Tableau(**parts)
    assert made == Tableau.from_dict(PECE2)
    plain = Tableau(V=np.array([0.5, 0.5]), B=np.array([1.0]), U=np.eye(2)[:1])  # type: ignore[arg-type]
    assert plain == Tableau.multistep((0.5, 0.5), (1.0,))


def test_a_sum_that_is_only_nearly_one_passes_for_floats_alone() -> None:
    """Exact tableaux are proved, so that an exact sum is asked of them."""
    near = Fraction(1, 10**20)
    assert Tableau.multistep((1 / 3, 1 / 3, 1 / 3), (1,)).steps == 3
    third = float(np.float32(1 / 3))
    assert Tableau.multistep((third, third, third), (1,)).steps == 3
    with pytest.raises(OdenasError, match="must sum to 1"):
        Tableau.multistep((1, near), (1,))
    with pytest.raises(OdenasError, match="must sum to 1"):
        Tableau.multistep((1.0, 1e-4), (1,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"V": []}, "`V` and `B` need at least one entry each, but have 0 and 2"),
        ({"B": []}, "`V` and `B` need at least one entry each, but have 2 and 0"),
        ({"V": [1, "1/2"]}, "`V` is (1, 1/2), but must sum to 1"),
        ({"V": 1}, "`V` is 1, but must be a list of numbers"),
        ({"V": "10"}, "`V` is '10', but must be a list of numbers"),
        ({"V": {"0": 1}}, "`V` is {'0': 1}, but must be a list of numbers"),
        ({"V": None}, "`V` is None"),
        ({"V": [1, [0]]}, "`V` holds [0], but needs finite numbers"),
        ({"V": [True, 0]}, "`V` holds True, but needs finite numbers"),
        ({"V": [1, None]}, "`V` holds None"),
        ({"B": ["1/0", 1]}, "`B` holds '1/0', but needs finite numbers"),
        ({"B": [float("nan"), 1]}, "`B` holds nan"),
        ({"B": [float("inf"), 1]}, "`B` holds inf"),
        ({"B": ["much", 1]}, "`B` holds 'much'"),
        ({"B": ["one\ntwo", 1]}, r"`B` holds 'one\ntwo'"),
        ({"B": [10**400, 1]}, "but needs finite numbers"),
        ({"B": ["1e400", 1]}, "`B` holds '1e400', but needs finite numbers"),
        ({"B": ["1e999999999999", 1]}, "`B` holds '1e999999999999', but needs finite numbers"),
        ({"B": ["1e-999999999999", 1]}, "but needs finite numbers"),
        ({"B": [1j, 1]}, "`B` holds 1j"),
        ({"R": [0, 0]}, "`R` has 2 entries, but needs 1: one fewer than `V`"),
        ({"A": [[0, 0]]}, "`A` has rows of [2] entries, but needs 2 of 2"),
        ({"A": [[0, 0], [1]]}, "`A` has rows of [2, 1] entries, but needs 2 of 2"),
        ({"A": [[0, 1], [1, 0]]}, "`A` is not strictly lower triangular in row 0: (0, 1); explicit methods only"),
        ({"A": [[0, 0], [1, "1/2"]]}, "`A` is not strictly lower triangular in row 1"),
        ({"A": 3}, "`A` is 3, but must be a list of rows"),
        ({"A": [3, 4]}, "`A` is 3, but must be a list of numbers"),
        ({"U": [[1], [1]]}, "`U` has rows of [1, 1] entries, but needs 2 of 2"),
        ({"W": [[0, 0], [0, 0]]}, "`W` has rows of [2, 2] entries, but needs 2 of 1"),
    ],
)
def test_bad_tables_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    for make in (Tableau.from_dict, lambda data: Tableau(**data)):
        with pytest.raises(OdenasError, match=re.escape(message)) as caught:
            make(PECE2 | change)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "`tableau` is a NoneType, but must be a table of V, R, B, A, U, W"),
        ([PECE2], "`tableau` is a list"),
        ({}, "`tableau` lacks V, R, B, A, U, W"),
        ({"V": [1]}, "`tableau` lacks R, B, A, U, W"),
        (PECE2 | {"C": [0]}, "`key of tableau` is 'C'"),
        (PECE2 | {"a\nb": [0]}, r"`key of tableau` is 'a\nb'"),
        (PECE2 | {"BB": [0]}, "did you mean 'B'?"),
    ],
)
def test_other_keys_are_refused_in_one_line(data: Any, message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Tableau.from_dict(data)
    assert "\n" not in str(caught.value)


def test_a_predictor_corrector_pair_reads_as_written() -> None:
    tableau = Tableau.from_dict(PECE2)
    assert tableau.to_dict() == PECE2 | {"derivative": 1}
    assert tableau.abscissae == (0, 1)
    assert tableau.slopes == (1, 0)
    assert order(tableau) == 2
    assert not tableau.is_multistep


def test_runge_kutta_reads_a_butcher_tableau() -> None:
    heun = Tableau.runge_kutta([[0, 0], [1, 0]], ["1/2", 0.5])
    assert heun.abscissae == (0, 1)
    assert not heun.exact
    assert order(heun) == 2


def test_a_method_for_the_second_derivative() -> None:
    verlet = Tableau.multistep((2, -1), (1,), derivative=2)
    assert verlet.derivative == 2
    assert verlet != Tableau.multistep((2, -1), (1,))
    again = Tableau.from_dict(json.loads(json.dumps(verlet.to_dict())))
    assert again == verlet
    assert hash(again) == hash(verlet)


def test_json_from_before_there_was_a_derivative() -> None:
    old = Tableau.from_dict(PECE2).to_dict()
    assert old.pop("derivative") == 1
    assert Tableau.from_dict(old) == Tableau.from_dict(PECE2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"derivative": 3}, "`derivative` is 3, but must be an integer from 1 to 2"),
        ({"derivative": 0}, "`derivative` is 0"),
        ({"derivative": True}, "`derivative` is True"),
        ({"derivative": "2"}, "`derivative` is '2'"),
        ({"derivative": 2}, "`derivative` is 2 for 2 stage(s), but needs a linear multistep method: one stage, x_n"),
        ({"derivative": 2, "B": [1], "A": [[0]], "U": [[2, -1]], "W": [[0]]}, "`derivative` is 2 for 1 stage(s)"),
    ],
)
def test_other_derivatives_are_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=re.escape(message)) as caught:
        Tableau.from_dict(PECE2 | change)
    assert "\n" not in str(caught.value)
