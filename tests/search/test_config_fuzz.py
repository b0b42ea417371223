"""Configuration files and command lines of any kind: a valid search, or one clear line."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odenas.results import Run
from odenas.search import driver
from odenas.search.app import app
from odenas.search.budget import parameter_budget
from odenas.search.compilation import check_compiler
from odenas.search.config import SearchConfig, read_config
from odenas.search.samplers import SAMPLERS, check_sampler
from odenas.space import OdenasError, SearchSpace

DEADLINE = 5000  # ms: the machine may be busy; what hangs takes longer
FUZZ: dict[str, Any] = {"deadline": DEADLINE, "database": None, "suppress_health_check": list(HealthCheck)}

KEYS = [name for name in SearchConfig.model_fields if name != "network"]
SPACE_KEYS = [field.name for field in fields(SearchSpace)]
# What is right for a key, and what nearly is. All else is drawn from ABSURD.
LIKELY: dict[str, list[Any]] = {
    "data": ["digits", "cifar10", "denoise", "Digits", "folder:", "folder:/nowhere", "folder:\0", "../digits"],
    "backbone": ["residual", "dense", "timm:", "torchvision:resnet18", "torchvision:resnet18:x", "timm:a b"],
    "run": ["runs/x", "", "\0", "/", "a" * 300],
    "trials": [1, 40, 10**30], "epochs": [1, 5], "train_size": [1, 600, 10**12], "depth": [8, 14, 20, 13, 9],
    "width": [1, 2, 4], "params": [1, 3000, 10**18], "seed": [0, 2**32 - 1, 2**32, -1],
    "objectives": [["validation_error"], ["params", "latency"], ["params", "params"], ["seconds", "loss"], "params"],
    "constraints": [["params <= 300k"], ["latency <= 2 ms"], ["params <= nan"], ["params <="], ["params <= 1e999"],
                    ["params >= 3"], ["epochs <= 2"], ["params <= 1 ms"], ["params <= 300k", "params <= 200k"]],
    "sampler": [*SAMPLERS, "TPE", "bayes"], "scheduler": ["asha", "hyperband", "median", "none", "ASHA"],
    "grace": [1, 2, 10**9], "reduction": [2, 3, 1], "lag": [1, 8], "timeout": [1, 0.5, 0, -1.0],
    "retries": [0, 3], "keep": [1, 10], "enqueue": [["euler", "lm"], [], ["nothing"], ["lm", "lm"]],
    "workers": [1, 2], "cpus": [1, 0.5], "gpus": [0, 0.5], "decoders": [0, 2], "compiled": [True, False],
    "address": ["auto", "127.0.0.1:6379", ""], "storage": ["runs/y", "s3://bucket/x", "s3://", "http://x"],
    "loggers": [["tensorboard"], ["mlflow", "wandb"]], "space": [{}], "recipe": [{}], "confirm": [{}],
}  # fmt: skip
LIKELY_SPACE: dict[str, list[Any]] = {
    "family": [["multistep"], ["runge-kutta"], ["named"], ["multistep", "named"], ["explicit"]],
    "steps": [[1, 2], [2], [2.0], ["2"], [True], [0], [2, 2]], "order": [[1], [1, 2], [5], [10**20]],
    "reflection": [[-0.5, 0.5], [0, 0], [0.5, -0.5], [0.0001, 1], [True, 1], ["0", "1"]],
    "slope": [[-1, 1], [0, 0]], "error": [[-0.5, 0.5], [1, 1]], "spread": [0, 0.1, "0.1", True, 2],
    "bound": [0.5, 0.999, 1, "1"], "rates": [{"depth": [0.1, 0.2]}, {"drop": [0.1, 0.2]}, {"depth": 1}],
    "narrowed": [{"slope_1": [0, 0.5]}, {"slope_9": [0, 0.5]}, {"a.b": []}], "named": [["euler"], ["rk4"], []],
    "per_stage": [[5], [2, 3], [1001], []], "stochasticity": [["none"], ["depth"], ["shake"]],
    "learning": [["fixed"], ["learned"], ["scheduled"]], "tying": [["none"], ["steps"]],
}  # fmt: skip
LIKELY_RECIPE: dict[str, list[Any]] = {
    "batch_size": [32, 0, 32.0, "32"], "learning_rate": [0.1, 0, -1, 10**400], "algorithm": ["adam", "sgd", "lion"],
}  # fmt: skip
LIKELY_CONFIRM: dict[str, list[Any]] = {"top": [1, 0], "seeds": [0, 3, "3"]}

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**40), 10**40), st.floats(), st.text(max_size=6),
    st.sampled_from([math.nan, math.inf, -math.inf, 2**63, -1, 0, "", "x" * 3000, "0", "1e3", "nan", "a\nb", "`",
                     "\u2028", date(2026, 1, 1), time(1, 2), datetime(2026, 1, 1, tzinfo=UTC), [], {}]),
)  # fmt: skip
ABSURD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
LINES = st.sampled_from([
    "trials = 1\ntrials = 2", "[space]\n[space]", "a.b = 1\na = 2", "=", "[", "trials = ", "depth = 0x" + "f" * 5000,
    "depth = " + "9" * 5000, "é = 1", "trials = 1_0", "trials = 0o17", "x = " + "[" * 3000 + "]" * 3000, "[[space]]",
    "space = 1979-05-27", "trials = \"\"\"\n\"\"\"", "recipe.algorithm = 'adam'", "\0", "\x7f = 1",
    "[space.rates]\ndepth = [0.1, 0.2]",
])  # fmt: skip


CHANGES: list[Callable[[str], str]] = [
    str.upper,
    lambda name: name[:-1],
    lambda name: name + "s",
    lambda name: name + " ",
]
TEXTS = st.lists(LINES, max_size=3).map("\n".join).map(str.encode) | st.binary(max_size=60)


def values(likely: Mapping[str, list[Any]], keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Return tables with some keys, right or nearly so, and some absurd values."""
    near = st.sampled_from(keys).flatmap(
        lambda name: st.sampled_from([name[:-1], name.upper(), name + "s", name + " "])
    )
    fitting = st.sampled_from([name for name in keys if name in likely]).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(likely[name]))
    )
    any_key = st.sampled_from(keys) | near | st.text(max_size=8)
    return st.builds(
        lambda good, bad: dict(good) | bad,
        st.lists(fitting, max_size=4),
        st.one_of(st.just({}), st.just({}), st.dictionaries(any_key, ABSURD, max_size=2)),
    )


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    table = draw(values(LIKELY, [name for name in KEYS if name not in ("space", "recipe", "confirm")]))
    for name, likely, keys in (
        ("space", LIKELY_SPACE, SPACE_KEYS),
        ("recipe", LIKELY_RECIPE, list(LIKELY_RECIPE)),
        ("confirm", LIKELY_CONFIRM, list(LIKELY_CONFIRM)),
    ):
        if draw(st.integers(0, 2)) == 0:
            table[name] = draw(st.one_of(values(likely, keys), values(likely, keys), ABSURD))
    return table


def toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | type(None)):
        return json.dumps(value or "", ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(name))} = {toml(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, date | time):
        return value.isoformat()
    return repr(value)


def outcome(text: bytes, folder: Path) -> SearchConfig | str:
    """Return what a file means, or the line that refuses it; anything else is raised."""
    path = folder / "config.toml"
    path.write_bytes(text)
    try:
        config = read_config(path, {})
        check_compiler(config)
        check_sampler(config)
        if (config.depth or 0) < 100 and config.backbone == "residual" and (config.params or 0) < 10**6:
            parameter_budget(config)
    except OdenasError as error:
        return str(error)
    return config


def check(found: SearchConfig | str) -> None:
    if isinstance(found, str):
        assert found.isprintable()
        assert len(found.splitlines()) == 1
        assert 10 < len(found) < 500
        assert found.count("`") >= 2
        return
    kept = found.resolved()
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert SearchConfig(**kept) == found
    assert SearchConfig(**kept).resolved() == kept


@settings(max_examples=60, **FUZZ)
@given(tables())
def test_a_file_is_a_valid_search_or_one_line(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]) -> None:
    text = "\n".join(f"{toml(str(name))} = {toml(value)}" for name, value in table.items())
    with suppress(UnicodeEncodeError):
        check(outcome(text.encode(), tmp_path_factory.getbasetemp()))


@settings(max_examples=60, **FUZZ)
@given(
    st.lists(LINES, max_size=3).map("\n".join).map(str.encode) | st.binary(max_size=60),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_text_of_any_kind_is_a_valid_search_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, mark: bytes
) -> None:
    check(outcome(mark + text, tmp_path_factory.getbasetemp()))


OPTIONS = [option for option in app.commands["search"].params if option.name not in ("config", "compiled")]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    words: list[str] = []
    for option in draw(st.lists(st.sampled_from(OPTIONS), max_size=3)):
        likely = LIKELY.get(str(option.name), [""])
        flat = [entry for value in likely for entry in (value if isinstance(value, list) else [value])]
        value = draw(st.one_of(st.sampled_from(flat or [""]).map(str), st.text(max_size=6), st.integers().map(str)))
        words += [option.opts[0], value]
    return words + draw(st.one_of(st.just([]), st.just([]), st.lists(st.text(max_size=6), max_size=2)))


@settings(max_examples=60, **FUZZ)
@given(command_lines())
def test_a_command_line_starts_a_valid_search_or_says_why_not(words: list[str]) -> None:
    started: list[SearchConfig] = []

    def search(config: SearchConfig) -> Run:
        started.append(config)
        raise OdenasError("`run` is what this test does not make")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "search", search)
        patch.setattr(signal, "signal", lambda *_: None)  # the command's are not for this process
        result = CliRunner().invoke(app, ["search", *words])
    if isinstance(result.exception, OdenasError):
        check(started[0] if started else str(result.exception))
    else:  # click's own: an option without a number, or help
        assert isinstance(result.exception, SystemExit | None)
        assert result.exit_code == (0 if {"-h", "--help"} & set(words) else 2)
        assert "Traceback" not in result.output
