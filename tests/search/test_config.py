"""Configurations: what follows from what, and one line for everything that is wrong."""

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odenas.search.config import MAY_CHANGE, Confirmation, Sampler, Scheduler, SearchConfig, read_config
from odenas.search.data import DATASETS
from odenas.search.presets import BUDGETS, FIRST
from odenas.search.recipe import Recipe
from odenas.search.samplers import SAMPLERS
from odenas.search.stopping import RULES
from odenas.space import OdenasError, SearchSpace


@pytest.mark.parametrize("name", DATASETS)
def test_each_data_set_has_a_budget(name: str) -> None:
    config = SearchConfig(data=name)
    budget = dict(BUDGETS[name])
    recipe, confirm = budget.pop("recipe", {}), budget.pop("confirm", {})
    assert {key: getattr(config, key) for key in budget} == budget
    assert (config.recipe, config.confirm) == (Recipe(**recipe), Confirmation(**confirm))
    assert config.folder == Path("runs") / name
    assert config.enqueue == FIRST


def test_what_is_given_goes_before_the_budget_key_by_key() -> None:
    config = SearchConfig(data="digits", epochs=2, recipe={"learning_rate": 0.5})
    assert (config.epochs, config.trials) == (2, BUDGETS["digits"]["trials"])
    assert config.recipe == Recipe(learning_rate=0.5, batch_size=BUDGETS["digits"]["recipe"]["batch_size"])
    assert SearchConfig(data="fashion-mnist", train_size=None).train_size is None
    assert SearchConfig(recipe=Recipe(batch_size=7)).recipe.batch_size == 7


def test_the_file_goes_before_the_budget_and_an_option_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        'data = "fashion-mnist"\nepochs = 4\ntrials = 9\nenqueue = ["lm"]\ncpus = 2\n'
        "[space]\nsteps = [2]\norder = [1]\nreflection = [-0.5, 1]\n"
        "[recipe]\nmomentum = 0\n[confirm]\ntop = 1\n"
    )
    config = read_config(path, {"trials": 3, "epochs": None, "seed": 5})
    assert (config.data, config.epochs, config.trials, config.seed) == ("fashion-mnist", 4, 3, 5)
    assert config.space == SearchSpace(steps=(2,), order=(1,), reflection=(-0.5, 1.0))
    assert (config.recipe.momentum, config.confirm, config.enqueue) == (0, Confirmation(top=1, seeds=3), ("lm",))
    assert read_config(None, {}) == SearchConfig()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": "cifar10", "params": 270_000, "gpus": 0.5, "address": "10.0.0.1:6379", "run": "a/b c"},
        {
            "space": {"steps": [1, 2, 3], "order": [1], "rates": {"depth": [0.1, 0.2]}, "narrowed": {}},
            "confirm": {"seeds": 0},
            "enqueue": [],
        },
        {"recipe": {"schedule": "step", "learning_rate": 1}, "scheduler": "none", "sampler": "qmc", "workers": 3},
    ],
)
def test_resolved_values_are_json_and_come_back(given: dict[str, Any]) -> None:
    config = SearchConfig(**given)
    values = json.loads(json.dumps(config.resolved(), allow_nan=False))
    assert SearchConfig(**values) == config
    assert SearchConfig(**values).resolved() == values
    assert set(MAY_CHANGE) <= set(values)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"data": "cifar-10"}, r"`data` is 'cifar-10', but must be one of .*; did you mean 'cifar10'\?"),
    ({"data": ["digits"]}, r"`data` is \['digits'\], but must be one of"),
    ({"data": {}}, "`data` is {}, but must be one of"),
    ({"data": 3}, "`data` is 3, but must be one of"),
    ({"trails": 3}, r"`key` is 'trails', but must be one of .*; did you mean 'trials'\?"),
    ({"space": {"step": [1]}}, r"`key of space` is 'step', but must be one of .*; did you mean 'steps'\?"),
    ({"recipe": {"batch": 8}}, r"`key of recipe` is 'batch', .*; did you mean 'batch_size'\?"),
    ({"confirm": {"seed": 8}}, r"`key of confirm` is 'seed', .*; did you mean 'seeds'\?"),
    ({"trials": 0}, "`trials` is 0, but must be greater than or equal to 1"),
    ({"trials": "many"}, "`trials` is 'many', but must be a valid integer"),
    ({"trials": "3"}, "`trials` is '3', but must be a valid integer"),
    ({"trials": True}, "`trials` is True, but must be a valid integer"),
    ({"trials": 2.5}, "`trials` is 2.5, but must be a valid integer"),
    ({"trials": [3]}, r"`trials` is \[3\], but must be a valid integer"),
    ({"seed": -1}, "`seed` is -1"),
    ({"seed": 2**32}, "`seed` is 4294967296"),
    ({"depth": 7}, "`depth` is 7"),
    ({"cpus": 0}, "`cpus` is 0, but must be greater than 0"),
    ({"cpus": math.inf}, "`cpus` is inf, but must be a finite number"),
    ({"gpus": math.nan}, "`gpus` is nan"),
    ({"gpus": True}, "`gpus` is True, but must be a valid number"),
    ({"sampler": "tpee"}, "`sampler` is 'tpee', but must be 'tpe', 'gp', .* or 'grid'"),
    ({"scheduler": "pbt"}, "`scheduler` is 'pbt', but must be 'asha', 'hyperband', 'median' or 'none'"),
    ({"objectives": []}, "`objectives` is"),
    ({"objectives": ["validation_error", "parms"]}, r"`objectives` is 'parms', .*did you mean 'params'\?"),
    ({"constraints": ["params < many"]}, "`constraints` holds 'params < many'"),
    ({"objectives": ["validation_error", "params"], "scheduler": "median"}, "`scheduler` is 'median', which compares"),
    ({"loggers": ["wandb"]}, "`loggers` is 'wandb'"),
    ({"enqueue": ["am2"]}, r"`scheme` is 'am2', but must be one of .*; did you mean 'ab2'\?"),
    ({"enqueue": ["two\nlines"]}, "`scheme` is"),
    ({"enqueue": "lm"}, "`enqueue` is 'lm'"),
    ({"enqueue": [3]}, "`enqueue` is 3"),
    ({"address": 6379}, "`address` is 6379"),
    ({"run": 3}, "`run` is 3"),
    ({"space": 3}, "`space` is 3"),
    ({"space": {"steps": []}}, r"`space.steps` is \[\], but needs one or more"),
    ({"space": {"steps": 2}}, "`space.steps` is 2"),
    ({"space": {"steps": ["2"]}}, "`space.steps` is '2', but must be one of 1, 2, 3, 4, 5; did you mean '2'"),
    ({"space": {"steps": [True]}}, "`space.steps` is True, but must be one of"),
    ({"space": {"steps": [2.0]}}, "`space.steps` is 2.0, but must be one of"),
    ({"space": {"spread": True}}, "`space.spread` is True, but must be a number from 0 to 1"),
    ({"space": {"bound": "0.5"}}, "`space.bound` is '0.5', but must be a number"),
    ({"space": {"slope": [False, True]}}, r"`space.slope` is \[False, True\], but must be two rising numbers"),
    ({"space": {"steps": [9]}}, "`space.steps` is 9, but must be one of 1, 2, 3, 4, 5"),
    ({"space": {"slope": [0.1]}}, r"`space.slope` is \[0.1\], but must be two rising numbers"),
    ({"space": {"rates": {"drop": [0.1, 0.2]}}}, "`key of space.rates` is 'drop', but must be one of depth"),
    (
        {"space": {"rates": {"depth": [0.2, 0.1]}}},
        r"`space.rates.depth` is \[0.2, 0.1\], but must be two rising numbers",
    ),
    ({"space": {"reflection": ["a", 1]}}, r"`space.reflection` is \['a', 1\], but must be two rising numbers"),
    ({"space": {"spread": 3}}, "`space.spread` is 3, but must be a number from 0 to 1"),
    ({"space": {"steps": [1], "order": [2]}}, "`space.order` starts at 2"),
    ({"space": {"steps": [1, 2], "learning": ["learned"]}}, "`space.learning` is .* nothing can learn"),
    ({"recipe": 3}, "`recipe` is 3"),
    ({"recipe": None}, "`recipe` is None"),
    ({"recipe": {"batch_size": 1}}, "`recipe.batch_size` is 1, but must be greater than or equal to 2"),
    ({"recipe": {"momentum": 1}}, "`recipe.momentum` is 1, but must be less than 1"),
    ({"recipe": {"learning_rate": math.inf}}, "`recipe.learning_rate` is inf"),
    ({"recipe": {"learning_rate": "0.1"}}, "`recipe.learning_rate` is '0.1', but must be a valid number"),
    ({"recipe": {"schedule": "linear"}}, "`recipe.schedule` is 'linear', but must be 'cosine', 'step', "),
    ({"confirm": {"top": 0}}, "`confirm.top` is 0"),
    ({"a\nb": 1}, "`key` is"),
]


@pytest.mark.parametrize(("given", "match"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_what_is_wrong_is_one_line(given: dict[str, Any], match: str) -> None:
    with pytest.raises(OdenasError, match=f"^{match}") as error:
        SearchConfig(**given)
    assert "\n" not in str(error.value)
    assert "__" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"trials = ", "which is no TOML"),
        (b"\xff\xfe", "which is no TOML"),
        (b'space = "small"', "`space` is 'small'"),
        (b"[space]\nlearning = [1]", "`space.learning` is 1"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(OdenasError, match=match) as error:
        read_config(path, {})
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(OdenasError, match=f"`CONFIG` is {path}, which cannot be read: "):
            read_config(path, {})


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SearchConfig().trials = 3


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["digits", "cifar10", "lm", "tpe", "asha", "none", "cosine", "fixed", "learned", "euler", "copy"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))


def tables(owner: Any) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.one_of(st.sampled_from(list(owner)), st.text(max_size=4))
    return st.dictionaries(keys, VALUES, max_size=3)


NESTED = {
    "space": tables(SearchSpace.__dataclass_fields__),
    "recipe": tables(Recipe.model_fields),
    "confirm": tables(Confirmation.model_fields),
}


@given(tables(SearchConfig.model_fields), st.fixed_dictionaries({}, optional=NESTED))
@settings(max_examples=400, deadline=None)
def test_any_table_is_a_configuration_or_one_line(flat: dict[str, Any], nested: dict[str, Any]) -> None:
    config = made(flat | nested)
    if isinstance(config, str):
        assert "\n" not in config
        assert config.startswith("`")
    else:
        assert SearchConfig(**json.loads(json.dumps(config.resolved(), allow_nan=False))) == config


def made(values: dict[str, Any]) -> SearchConfig | str:
    """Return the configuration, or what is wrong."""
    try:
        return SearchConfig(**values)
    except OdenasError as error:
        return str(error)


def test_names_are_those_of_the_rows() -> None:
    assert set(get_args(Sampler)) == set(SAMPLERS)
    assert set(get_args(Scheduler)) == set(RULES)
