"""What a run refuses before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from odenas.search.budget import check_steps, parameter_budget
from odenas.search.config import SearchConfig, read_config
from odenas.space import OdenasError, SearchSpace


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"backbone": "multigrid"}, r"`backbone` is 'multigrid', but the data set 'digits' needs 'residual'"),
        ({"backbone": "fractal"}, r"`backbone` is 'fractal', but the data set 'digits' needs 'residual'"),
        ({"backbone": "dense"}, r"`backbone` is 'dense', but the data set 'digits' needs 'residual'"),
        ({"data": "denoise", "backbone": "multigrid"}, r"`backbone` is 'multigrid', but .* needs 'dense'"),
        ({"backbone": "residuals"}, r"`backbone` is 'residuals', [^\n]*did you mean 'residual'"),
    ],
)
def test_a_backbone_suits_the_data(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OdenasError, match=f"^{message}"):
        SearchConfig(**values)


def test_a_published_network_is_of_another_command(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text('network = "resnet20"', encoding="utf-8")
    with pytest.raises(OdenasError, match=r"^`network` is of `odenas train` alone[^\n]*$"):
        read_config(file, {})


@pytest.mark.parametrize("kind", ["symmetric", "antisymmetric"])
def test_schemes_without_a_stable_step_are_refused_at_once(kind: str) -> None:
    space = SearchSpace(family=("named",), named=("euler", "lm", "midpoint"), block=(kind,))
    config = SearchConfig(space=space, depth=20)
    if kind == "antisymmetric":
        assert parameter_budget(config) > 0
        return
    with pytest.raises(
        OdenasError, match=r"^`named` holds midpoint, which have no stable step with 'symmetric' blocks"
    ):
        parameter_budget(config)
    check_steps(kind, ("euler", "lm"))
    check_steps("basic", ("midpoint",))


def test_the_budget_costs_no_memory() -> None:
    assert parameter_budget(SearchConfig(params=10**9)) == 10**9
