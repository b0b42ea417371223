"""Who is retrained, with which seeds, and who wins."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from odenas.results import Run
from odenas.search import confirm as confirming
from odenas.search.config import SearchConfig
from odenas.search.confirm import confirm, confirmation_seeds, contenders
from odenas.search.driver import nothing_left
from odenas.search.exporting import winner
from odenas.search.ledger import trial_seed
from odenas.search.progress import Progress
from odenas.space import OdenasError, Scheme, Stochasticity, describe, scheme

DEPTH = Stochasticity("depth", 0.2)
EULER, LM, AB2, MOMENTUM, MIDPOINT = (scheme(name) for name in ("euler", "lm", "ab2", "momentum", "midpoint"))
DROPPED = replace(AB2, stochasticity=DEPTH)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {}, {"odenas": "0", "torch": "0"})


def record(run: Run, *trials: tuple[Scheme, str, float | None]) -> None:
    for number, (value, status, error) in enumerate(trials):
        run.record_trial(
            {
                "number": number, "status": status, "validation_error": error, "params": 100, "epochs": 2, "budget": 2,
                "label": describe(value), "scheme": json.dumps(value.to_dict()),
            }
        )  # fmt: skip


def test_the_best_finished_that_are_not_euler_each_with_its_twin(run: Run) -> None:
    record(
        run,
        (EULER, "COMPLETE", 1.0),
        (MOMENTUM, "PRUNED", 0.5),
        (MIDPOINT, "COMPLETE", 4.0),
        (DROPPED, "COMPLETE", 2.0),
        (AB2, "COMPLETE", 3.0),
        (scheme("ab3"), "FAIL", None),
    )
    entered = contenders(run, 2)
    label = "trial 3: ab2, drop 0.2"
    assert [(one.label, one.role, one.number, one.twin_of) for one in entered] == [
        (label, "candidate", 3, None),
        ("trial 4: ab2", "candidate", 4, None),
        ("lm", "baseline", None, None),
        (f"twin of {label}", "twin", 3, label),
        ("twin of trial 4: ab2", "twin", 4, "trial 4: ab2"),
        ("twin of lm", "twin", None, "lm"),
    ]
    assert entered[3].scheme == replace(EULER, stochasticity=DEPTH)
    assert entered[4].scheme == entered[5].scheme == EULER


def test_lm_is_there_once(run: Run) -> None:
    record(run, (LM, "COMPLETE", 1.0), (AB2, "COMPLETE", 2.0))
    roles = {one.label: one.role for one in contenders(run, 3)}
    assert roles == {"trial 0: lm": "candidate", "trial 1: ab2": "candidate",
                     "twin of trial 0: lm": "twin", "twin of trial 1: ab2": "twin"}  # fmt: skip
    # Beyond the top it comes as the baseline.
    assert [one.label for one in contenders(run, 1)][:1] == ["trial 0: lm"]
    record(run, (AB2, "COMPLETE", 1.0), (LM, "COMPLETE", 2.0))
    assert [(one.label, one.role) for one in contenders(run, 1)][:2] == [
        ("trial 0: ab2", "candidate"), ("lm", "baseline")
    ]  # fmt: skip


def test_a_scheme_tried_twice_is_retrained_once(run: Run) -> None:
    record(run, (AB2, "COMPLETE", 2.0), (AB2, "COMPLETE", 1.0), (MOMENTUM, "COMPLETE", 3.0))
    assert [one.number for one in contenders(run, 2) if one.role == "candidate"] == [1, 2]


def test_without_a_finished_trial_there_is_lm_and_its_twin(run: Run) -> None:
    record(run, (AB2, "PRUNED", 2.0), (EULER, "COMPLETE", 1.0))
    assert [one.label for one in contenders(run, 3)] == ["lm", "twin of lm"]


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_seeds_are_nested_and_no_trial_s(seed: int) -> None:
    seeds = confirmation_seeds(seed, 50)
    assert len(set(seeds)) == 50
    assert confirmation_seeds(seed, 7) == seeds[:7]
    assert not set(seeds) & {trial_seed(seed, number) for number in range(5000)}
    assert confirmation_seeds(seed + 1, 50) != seeds


Job = tuple[Scheme, int]


def test_each_network_is_retrained_once_a_seed_and_recorded_under_every_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(run, (AB2, "COMPLETE", 1.0), (MOMENTUM, "COMPLETE", 2.0))
    trained: list[Job] = []
    failing: set[int] = set()

    def in_parallel(jobs: list[Job], *_: Any) -> Any:
        for job in jobs:
            trained.append(job)
            status = {"status": "FAIL", "failure": "x"} if len(trained) in failing else {"status": "COMPLETE"}
            yield job, {**status, "epochs": 2, "params": 100, "validation_error": 1.0, "test_error": 2.0}

    monkeypatch.setattr(confirming, "_in_parallel", in_parallel)

    def go(seeds: int) -> int:
        trained.clear()
        config = SearchConfig(trials=2, epochs=2, depth=14, width=2, confirm={"top": 2, "seeds": seeds})
        with Progress({}, 2, "") as progress:
            confirm(run, config, 100, progress, 1)
        assert nothing_left(run, config) == (not failing)
        assert not nothing_left(run, config.model_copy(update={"trials": 3}))
        return len(trained)

    # Four networks: ab2, momentum, lm, euler (the twin of all three).
    failing.add(3)
    assert go(2) == 8
    table = run.confirmations
    assert len(table) == 2 * 6
    assert set(table["seed"]) == set(confirmation_seeds(0, 2))
    for _, group in table.groupby("label"):
        assert sorted(group["seed"]) == sorted(confirmation_seeds(0, 2))
    assert [seed for _, seed in trained] == sorted(seed for _, seed in trained)
    # What is there is not trained again; what failed is.
    failing.clear()
    assert go(2) == 1
    assert (run.confirmations["status"] == "COMPLETE").all()
    assert go(2) == 0
    assert go(3) == 4
    assert len(run.confirmations) == 3 * 6


def confirmed(run: Run, number: int, validation: list[float], test: float, role: str = "candidate") -> None:
    for seed, error in enumerate(validation):
        run.record_confirmation(
            {
                "label": f"trial {number}", "role": role, "number": number, "status": "COMPLETE", "data": "digits",
                "budget": 2, "seed": seed, "validation_error": error, "test_error": test,
            }
        )  # fmt: skip


def test_the_winner_is_chosen_by_validation_error_not_by_test_error(run: Run) -> None:
    with pytest.raises(OdenasError, match="no finished trial"):
        winner(run)
    record(run, (EULER, "PRUNED", 0.1), (AB2, "COMPLETE", 2.0), (MOMENTUM, "COMPLETE", 1.0), (LM, "COMPLETE", 1.0))
    assert winner(run) == 2  # the first of two alike
    confirmed(run, 1, [3.0, 2.0], test=9.0)
    confirmed(run, 2, [4.0, 2.0], test=1.0)
    confirmed(run, 3, [1.0], test=5.0)
    confirmed(run, 0, [0.0, 0.0], test=0.0, role="twin")
    assert winner(run) == 3
    confirmed(run, 3, [1.0, 7.0], test=5.0)
    assert winner(run) == 1
    run.record_confirmation(
        {
            "label": "trial 1", "number": 1, "role": "candidate", "status": "FAIL", "data": "digits", "budget": 2,
            "seed": 99,
        }
    )  # fmt: skip
    assert winner(run) == 2  # trial 1 is better only where it did not fail
