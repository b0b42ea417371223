"""Who is retrained, with which seeds, and who wins."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from odenas.results import Run, summary
from odenas.results.summary import families
from odenas.search import confirm as confirming
from odenas.search.checkpoint import Checkpoints
from odenas.search.config import SearchConfig
from odenas.search.confirm import configuration_of, confirm, confirmation_seeds, contenders, unconfirmed
from odenas.search.driver import nothing_left
from odenas.search.exporting import winner
from odenas.search.progress import Progress
from odenas.search.retraining import checkpoint_name
from odenas.search.trial_row import trial_seed
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
DONE = {"status": "COMPLETE", "epochs": 2, "params": 100, "validation_error": 1.0, "test_error": 2.0}


class Trainer:
    """Trains nothing, and remembers what it was to train; fails where it is told."""

    def __init__(self) -> None:
        self.trained: list[Job] = []
        self.failing: dict[int, str] = {}

    def __call__(self, jobs: list[Job], *_: Any) -> Any:
        for job in jobs:
            self.trained.append(job)
            reason = self.failing.get(len(self.trained))
            yield job, {"status": "FAIL", "failure": "x", "stop_reason": reason} if reason else DONE

    def go(self, run: Run, top: int = 2, seeds: int = 2, **changes: Any) -> list[Job]:
        """Confirm, and return what was trained."""
        self.trained = []
        config = SearchConfig(**{"trials": 2, "epochs": 2, "depth": 14, "width": 2,
                                 "confirm": {"top": top, "seeds": seeds}, **changes})  # fmt: skip
        with Progress({}, 2, "") as progress:
            confirm(run, config, 100, progress, 1)
            assert progress.confirmed is not None
            assert progress.confirmed[0] == progress.confirmed[1]
        return self.trained


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    monkeypatch.setattr(confirming, "retrain_all", trainer)
    return trainer


def test_each_network_is_retrained_once_a_seed_and_recorded_under_every_name(run: Run, trainer: Trainer) -> None:
    record(run, (AB2, "COMPLETE", 1.0), (MOMENTUM, "COMPLETE", 2.0))
    # Four networks: ab2, momentum, lm, euler (the twin of all three).
    trained = trainer.go(run)
    assert len(trained) == len(set(trained)) == 8
    # Seed by seed, so that what is cut off is paired.
    assert [seed for _, seed in trained] == [seed for seed in confirmation_seeds(0, 2) for _ in range(4)]
    table = run.confirmations
    assert len(table) == 2 * 6
    for _, group in table.groupby("label"):
        assert sorted(group["seed"]) == sorted(confirmation_seeds(0, 2))
    # What is there is not trained again.
    assert trainer.go(run) == []
    assert [seed for _, seed in trainer.go(run, seeds=3)] == [confirmation_seeds(0, 3)[2]] * 4
    assert trainer.go(run, top=1, seeds=2) == []
    assert len(run.confirmations) == 3 * 6


def test_a_failure_is_final_unless_it_lies_not_in_the_training(run: Run, trainer: Trainer) -> None:
    record(run, (AB2, "COMPLETE", 1.0), (MOMENTUM, "COMPLETE", 2.0))
    config = SearchConfig(trials=2, epochs=2, depth=14, width=2, confirm={"top": 2, "seeds": 2})
    again = ["worker lost", "out of memory", "OSError: [Errno 5] Input/output error", "PermissionError: x"]
    final = ["non-finite loss in epoch 1", "ValueError: x", "NotSolved: y"]
    trainer.failing = dict(enumerate(again + final, start=1))
    first = list(trainer.go(run))
    assert run.confirmations["status"].value_counts().to_dict() == {"FAIL": 9, "COMPLETE": 3}
    assert unconfirmed(run, config) == first[:4]
    assert not nothing_left(run, config)
    trainer.failing = {}
    assert trainer.go(run) == first[:4]
    assert nothing_left(run, config)
    assert not nothing_left(run, config.model_copy(update={"trials": 3}))
    assert set(run.confirmations[run.confirmations["status"] == "FAIL"]["stop_reason"]) == set(final)


@pytest.mark.parametrize("other", [{"epochs": 5}, {"train_size": 60}, {"train_size": None}])
def test_another_fidelity_is_trained_anew_and_beside(run: Run, trainer: Trainer, other: dict[str, Any]) -> None:
    record(run, (AB2, "COMPLETE", 1.0))
    assert len(trainer.go(run)) == 6
    before = run.confirmations
    assert len(trainer.go(run, **other)) == 6
    assert trainer.go(run) == trainer.go(run, **other) == []
    assert len(run.confirmations) == 2 * len(before)
    assert run.confirmations.head(len(before)).equals(before)
    assert families(run.confirmations)[0]["test_error"].notna().all()


def test_a_network_that_has_another_name_now_is_not_trained_again(run: Run, trainer: Trainer) -> None:
    record(run, (AB2, "COMPLETE", 1.0), (LM, "COMPLETE", 2.0))
    assert {value for value, _ in trainer.go(run, top=1)} == {AB2, LM, EULER}  # lm is the baseline
    assert trainer.go(run, top=2) == []  # lm is the second best
    table = run.confirmations
    assert (table["label"] == "trial 1: lm").sum() == (table["label"] == "twin of trial 1: lm").sum() == 2
    columns = ["seed", "status", "test_error", "validation_error", "scheme", "params"]
    by_label = {str(label): group[columns].reset_index(drop=True) for label, group in table.groupby("label")}
    assert by_label["lm"].equals(by_label["trial 1: lm"])
    # Two comparisons: lm is one, though it has two names.
    assert set(summary(table)["comparisons"].dropna()) == {2}


def test_time_limits_and_other_objectives_are_of_the_trials(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record(run, (AB2, "COMPLETE", 1.0))
    told: list[SearchConfig] = []

    def retrain_all(jobs: list[Job], config: SearchConfig, *_: Any) -> Any:
        told.append(config)
        return iter([])

    monkeypatch.setattr(confirming, "retrain_all", retrain_all)
    config = SearchConfig(timeout=5.0, objectives=("validation_error", "latency"), constraints=("params <= 300k",))
    with Progress({}, 2, "") as progress:
        confirm(run, config, 100, progress, 1)
    assert (told[0].timeout, told[0].objectives, told[0].constraints) == (None, ("validation_error",), ())
    SearchConfig(**told[0].resolved())


def test_the_checkpoint_is_gone_when_the_row_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record(run, (AB2, "COMPLETE", 1.0))
    place = Checkpoints(str(run.path / "checkpoints"))
    config = SearchConfig(trials=1, epochs=2, depth=14, width=2, confirm={"top": 1, "seeds": 1})
    kept = []

    def retrain_all(jobs: list[Job], *_: Any) -> Any:
        for job in jobs:
            place.write(checkpoint_name(config, job), {"x": torch.zeros(1)}, [])
            kept.append((len(place.names()), len(run.confirmations)))
            yield job, DONE

    monkeypatch.setattr(confirming, "retrain_all", retrain_all)
    with Progress({}, 1, "") as progress:
        confirm(run, config, 100, progress, 1)
    assert place.names() == []
    assert [names for names, _ in kept] == [1, 1, 1]
    assert [rows for _, rows in kept] == sorted({rows for _, rows in kept})
    # Each scheme, seed and fidelity has a name of its own.
    jobs = [(value, seed) for value in (AB2, LM, EULER, DROPPED) for seed in (1, 2)]
    fidelities = [config, *(config.model_copy(update=one) for one in ({"epochs": 3}, {"train_size": None}))]
    assert len({checkpoint_name(fidelity, job) for fidelity in fidelities for job in jobs}) == 24


def test_a_folder_of_an_older_version_is_as_where_nothing_is_said(tmp_path: Path) -> None:
    config = SearchConfig(data="fashion-mnist", seed=3, train_size=500, recipe={"learning_rate": 0.3}, sampler="random")
    old = config.resolved()
    for name in ("backbone", "compiled", "objectives", "lag", "retries", "loggers", "storage", "keep"):
        del old[name]
    for name in ("block", "per_stage"):
        del old["space"][name]
    del old["recipe"]["algorithm"]
    run = Run.create(tmp_path / "old", old, {})
    assert configuration_of(run) == config.model_copy(update={"run": str(run.path)})
    changed = configuration_of(run, epochs=50, train_size=None, gpus=0.5)
    assert (changed.epochs, changed.train_size, changed.gpus, changed.seed) == (50, 500, 0.5, 3)
    with pytest.raises(OdenasError, match="`epochs` is 0"):
        configuration_of(run, epochs=0)


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
