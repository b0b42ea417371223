"""Training steps made by torch.compile, and what they need."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from odenas.nets import build
from odenas.search.compilation import check_compiler
from odenas.search.config import SearchConfig
from odenas.search.data import DATASETS, load
from odenas.search.recipe import Recipe
from odenas.search.train import Training
from odenas.space import OdenasError, scheme


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check_compiler(SearchConfig())
    check_compiler(SearchConfig(compiled=True, gpus=1))
    with pytest.raises(OdenasError, match=r"^`compiled` is true, but [^\n]* C\+\+ compiler [^\n]*$"):
        check_compiler(SearchConfig(compiled=True))


@pytest.mark.slow
def test_compiled_training_is_training() -> None:
    """The same batches and nearly the same losses; the states have the same names: one goes on from the other's."""
    data, trainings = load("digits", train_size=70), []
    for compiled in (False, True):
        torch.compiler.reset()
        torch.manual_seed(0)
        network = build(scheme("lm"), 14, channels=1, width=4)
        recipe = Recipe(batch_size=32, learning_rate=0.01)
        training = Training(network, data, DATASETS["digits"], recipe, 2, seed=0, compiled=compiled)
        rows: list[dict[str, Any]] = []
        training.run(rows.append)
        trainings.append((training, rows))
    (plain, plain_rows), (made, made_rows) = trainings
    for row, other in zip(plain_rows, made_rows, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
    assert list(plain.state()) == list(made.state())
    plain.restore(made.state())
