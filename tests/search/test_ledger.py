"""The ledger with a driver that trains nothing: what Optuna and the run folder are told, and how it goes on."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import TrialState

from odenas.results import Run, load
from odenas.results.journal import Journal
from odenas.search.config import SearchConfig
from odenas.search.failures import Failure
from odenas.search.ledger import Draw, Ledger
from odenas.search.trial_row import trial_seed
from odenas.space import Scheme, SearchSpace, describe, scheme

optuna.logging.set_verbosity(optuna.logging.ERROR)

EPOCHS = 3
FIELDS = {"params": 2940, "widths": "2-4-8", "train_size": 60, "validation_size": 400, "device": "cpu"}


class Killed(Exception):
    """The driver's process ends, here."""


def config(**changes: Any) -> SearchConfig:
    return SearchConfig(**{"trials": 8, "epochs": EPOCHS, "depth": 14, "width": 2, "keep": 3, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def begin(folder: Path, settings: SearchConfig) -> Ledger:
    if folder.exists():
        return Ledger(settings, load(folder))
    return Ledger(settings, Run.create(folder, settings.resolved(), {"odenas": "0", "torch": "0"}))


def error_of(draw: Draw, epoch: int) -> float:
    """Return a validation error that hangs on nothing but trial and epoch."""
    return round(90 / epoch - random.Random(draw.number).random() * 5, 3)


def epoch_row(draw: Draw, epoch: int) -> dict[str, Any]:
    error = error_of(draw, epoch)
    return {
        "epoch": epoch, "train_loss": error / 50, "train_error": error, "validation_loss": error / 40,
        "validation_error": error, "learning_rate": 0.1, "seconds": 2.0,
    }  # fmt: skip


def outcome_of(draw: Draw) -> str:
    return ("complete", "complete", "pruned", "fail")[draw.number % 4] if draw.number else "complete"


def drive(ledger: Ledger, steps: int | None = None) -> None:
    """Run trials one after another as a worker would; the process is killed before the `steps`-th deed."""
    left = steps if steps is not None else 10**9

    def deed() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    while True:
        deed()
        draw = ledger.ask()
        if draw is None:
            return
        outcome = outcome_of(draw)
        name = ledger.run.checkpoint(draw.number).stem
        saved = ledger.checkpoints.read(name)
        done = int(saved[0]["epoch"]) if saved else 0
        last = EPOCHS if outcome == "complete" else 2
        if done:
            ledger.report(draw.number, [epoch_row(draw, epoch) for epoch in range(1, done + 1)], **FIELDS)
        for epoch in range(done + 1, last + 1):
            deed()
            ledger.checkpoints.write(
                name, {"epoch": torch.tensor(epoch)}, []
            )  # the worker writes its checkpoint, then reports
            deed()
            ledger.report(draw.number, [epoch_row(draw, epoch)], **FIELDS)
        deed()
        failure = Failure("exception", "RuntimeError: x", "Traceback\nRuntimeError: x") if outcome == "fail" else None
        ledger.finish(draw.number, failure, "stopped by asha at epoch 2" if outcome == "pruned" else None)


STATES = {"complete": ("COMPLETE", TrialState.COMPLETE), "pruned": ("PRUNED", TrialState.PRUNED),
          "fail": ("FAIL", TrialState.FAIL)}  # fmt: skip


def check(ledger: Ledger, trials: int) -> None:
    """Check a finished search: folder, study and draws agree."""
    run = load(ledger.run.path)
    table = run.trials
    assert table["number"].tolist() == list(range(trials))
    draws = [Draw(int(row["number"]), int(row["seed"]), Scheme.from_dict(json.loads(row["scheme"])))
             for row in table.to_dict("records")]  # fmt: skip
    assert len({draw.scheme for draw in draws}) == trials
    assert [draw.seed for draw in draws] == [trial_seed(ledger.config.seed, number) for number in range(trials)]
    expected = []
    for draw, row in zip(draws, table.to_dict("records"), strict=True):
        outcome = outcome_of(draw)
        last = EPOCHS if outcome == "complete" else 2
        expected += [(draw.number, epoch) for epoch in range(1, last + 1)]
        assert (row["status"], row["epochs"], row["budget"]) == (STATES[outcome][0], last, EPOCHS)
        assert row["validation_error"] == error_of(draw, last)
        assert row["seconds"] == pytest.approx(2.0 * last)
        assert row["label"] == describe(draw.scheme)
        assert {name: row[name] for name in FIELDS} == FIELDS
        assert row["stop_reason"] == {"complete": "budget reached", "pruned": "stopped by asha at epoch 2",
                                      "fail": "RuntimeError: x"}[outcome]  # fmt: skip
        assert pd.isna(row["failure"]) == (outcome != "fail")
        assert not pd.isna(row["started"])
        assert not pd.isna(row["finished"])
        assert pd.isna(row["feasible"]) if outcome == "fail" else row["feasible"]
        # What Optuna was told: the ends that the last draw was to know, and no others.
        told = study_trial(ledger, row)
        if row["number"] > trials - 1 - ledger.lag:
            assert told.state == TrialState.RUNNING
            continue
        assert told.state == STATES[outcome][1]
        assert told.intermediate_values == {epoch: error_of(draw, epoch) for epoch in range(1, last + 1)}
        if outcome == "fail":
            assert told.value is None
        else:
            assert told.value == error_of(draw, last)
    assert [(number, epoch) for number, epoch in run.epochs[["number", "epoch"]].to_numpy().tolist()] == expected
    # One line for each epoch, not only one row: nothing is noted twice.
    lines = [(line["number"], line["epoch"]) for line in map(json.loads, (run.path / "epochs.jsonl").open())]
    assert sorted(lines) == expected
    assert not [trial for trial in ledger.study.optuna.trials if trial.state == TrialState.WAITING]
    # Weights are kept of the best finished trials alone.
    complete = sorted((draw for draw in draws if outcome_of(draw) == "complete"), key=lambda d: error_of(d, EPOCHS))
    best = {draw.number for draw in complete[: ledger.config.keep]}
    assert {int(path.stem) for path in (run.path / "checkpoints").iterdir()} == best
    assert set(table[table["checkpoint"].notna()]["number"]) == best
    assert all((run.path / path).exists() for path in table["checkpoint"].dropna())


def study_trial(ledger: Ledger, row: dict[Any, Any]) -> optuna.trial.FrozenTrial:
    """Return the one trial of the study with this draw that was not drawn in vain."""
    drawn = json.loads(row["draw"])
    found = [trial for trial in ledger.study.optuna.trials if trial.params == drawn]
    (one,) = [trial for trial in found if trial.state != TrialState.FAIL or trial.intermediate_values]
    return one


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "qmc", "gp", "cmaes"])
def test_optuna_and_the_folder_are_told_the_truth(folder: Path, sampler: str) -> None:
    settings = config(trials=14, sampler=sampler)
    ledger = begin(folder, settings)
    drive(ledger)
    check(ledger, 14)
    assert ledger.ask() is None
    # A ledger made on the folder knows all of it.
    again = begin(folder, settings)
    assert again.ask() is None
    check(again, 14)


def test_known_schemes_come_first_and_in_order(folder: Path) -> None:
    ledger = begin(folder, config(enqueue=["momentum", "ab3", "lm", "euler"]))
    draws = [ledger.ask() for _ in range(4)]
    assert all(draws)
    values = [draw.scheme for draw in draws if draw]
    # ab3 has three steps, and so does not lie in the space.
    assert values[:3] == [scheme("momentum"), scheme("lm"), scheme("euler")]
    assert values[3] not in values[:3]


def test_a_known_scheme_named_twice_is_tried_once(folder: Path) -> None:
    ledger = begin(folder, config(trials=3, enqueue=["lm", "lm", "ab2"]))
    drive(ledger)
    assert ledger.run.trials["label"].tolist()[:2] == ["lm", "ab2"]
    check(ledger, 3)


def test_a_space_of_few_schemes_repeats_only_when_all_are_tried(folder: Path) -> None:
    space = SearchSpace(
        family=("multistep",), steps=(1, 2), order=(1,), reflection=(0.0, 0.0), free_slopes=("zero",),
        scale=("consistent",), start=("euler",), transition=("restart",), learning=("fixed",), tying=("none",),
        stochasticity=("none",),
    )  # fmt: skip
    ledger = begin(folder, config(trials=4, space=space))
    values = [draw.scheme for draw in iter(ledger.ask, None)]
    assert len(values) == 4
    assert len(set(values[:2])) == len(set(values)) == 2


def test_the_seed_decides(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ledger = begin(tmp_path / name, config(trials=12, seed=seed))
        drive(ledger)
        found.append([(draw["seed"], draw["scheme"]) for draw in ledger.run.trials.to_dict("records")])
    assert found[0] == found[1]
    assert not {seed for seed, _ in found[0]} & {seed for seed, _ in found[2]}
    assert found[0][8:] != found[2][8:]


def test_trial_seeds_are_distinct_and_fixed() -> None:
    seeds = [trial_seed(seed, number) for seed in range(20) for number in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert trial_seed(0, 0) == trial_seed(0, 0)


@pytest.mark.parametrize("life", range(12))
def test_a_search_killed_at_any_moments_ends_like_any_other(folder: Path, life: int) -> None:
    """Each life of the driver ends at a random deed; the last one finishes."""
    rng = random.Random(life)
    settings = config(trials=10)
    for _ in range(rng.randint(1, 8)):
        ledger = begin(folder, settings)
        running = [int(row["number"]) for row in ledger.rows.values() if row["status"] == "RUNNING"]
        finished = [row for row in ledger.rows.values() if row["status"] != "RUNNING"]
        assert list(ledger.rows) == list(range(len(ledger.rows)))
        assert not {row["number"] for row in finished} & set(running)
        try:
            drive(ledger, steps=rng.randint(0, 30))
        except Killed:
            pass
        else:
            break
        assert set(running) <= set(load(folder).trials["number"])
    ledger = begin(folder, settings)
    drive(ledger)
    check(ledger, 10)
    whole = begin(folder.with_name("whole"), settings)
    drive(whole)
    columns = ["number", "scheme", "seed", "status", "validation_error", "draw"]
    pd.testing.assert_frame_equal(ledger.run.trials[columns], whole.run.trials[columns])


@pytest.mark.parametrize("life", range(12))
def test_a_kill_in_the_midst_of_a_line_loses_nothing_else(
    folder: Path, life: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(100 + life)
    settings, append = config(trials=7, keep=1), Journal.append
    left = 0

    def killed(self: Journal, row: Any, *, sync: bool = False) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            return append(self, row, sync=sync)
        how = rng.choice(["before", "within", "after"])
        if how == "after":
            append(self, row, sync=sync)
        elif how == "within":
            with self.path.open("a") as file:
                file.write(json.dumps({"number": 99, "status": "COMPLETE"})[: rng.randint(1, 30)])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        for _ in range(6):
            left = rng.randint(1, 15)
            with suppress(Killed):
                drive(begin(folder, settings))
    ledger = begin(folder, settings)
    drive(ledger)
    check(ledger, 7)


def test_unfinished_trials_are_asked_first_with_seed_and_scheme(folder: Path) -> None:
    settings = config(trials=6)
    ledger = begin(folder, settings)
    draws = [draw for draw in (ledger.ask() for _ in range(3)) if draw]
    ledger.report(draws[1].number, [epoch_row(draws[1], epoch) for epoch in (1, 2)], **FIELDS)
    ledger.report(draws[2].number, [epoch_row(draws[2], epoch) for epoch in (1, 2, 3)], **FIELDS)
    assert ledger.finish(draws[2].number) == "COMPLETE"

    again = begin(folder, settings)
    row = again.rows[1]
    assert (row["epochs"], row["seconds"], row["validation_error"]) == (2, 4.0, error_of(draws[1], 2))
    resumed = [again.ask(), again.ask()]
    assert resumed == draws[:2]
    fresh = again.ask()
    assert fresh is not None
    assert fresh.number == 3
    # The worker says all epochs again; those that are known are not noted twice.
    again.report(1, [epoch_row(draws[1], epoch) for epoch in (1, 2, 3)], **FIELDS)
    assert again.finish(1) == "COMPLETE"
    assert again.run.epochs["number"].tolist() == [1, 1, 1, 2, 2, 2]
    assert len((folder / "epochs.jsonl").read_text().splitlines()) == 6


def test_more_trials_go_on_where_the_search_ended(folder: Path) -> None:
    drive(begin(folder, config(trials=5)))
    before = load(folder).trials
    ledger = begin(folder, config(trials=9))
    drive(ledger)
    check(ledger, 9)
    after = load(folder).trials.head(5)
    unchanged = [name for name in before.columns if name != "checkpoint"]
    pd.testing.assert_frame_equal(after[unchanged], before[unchanged])
    assert begin(folder, config(trials=2)).ask() is None


def test_a_trial_whose_line_was_deleted_takes_no_other_s_number(folder: Path) -> None:
    settings = config(trials=4)
    drive(begin(folder, settings))
    path = folder / "trials.jsonl"
    path.write_text("".join(line for line in path.open() if json.loads(line)["number"] != 1))
    ledger = begin(folder, settings)
    draw = ledger.ask()
    assert draw is not None
    assert draw.number == 4
    assert draw.scheme not in [Scheme.from_dict(json.loads(text)) for text in load(folder).trials["scheme"].head(3)]


@pytest.mark.parametrize("keep", [1, 2, 100])
def test_the_best_weights_are_kept(folder: Path, keep: int) -> None:
    ledger = begin(folder, config(trials=12, keep=keep))
    drive(ledger)
    check(ledger, 12)


def test_weights_too_many_go_when_the_folder_is_taken_up(folder: Path) -> None:
    drive(begin(folder, config(trials=12, keep=100)))
    check(begin(folder, config(trials=12, keep=2)), 12)


def test_what_has_no_finite_error_failed(folder: Path) -> None:
    ledger = begin(folder, config())
    for number in range(2):
        draw = ledger.ask()
        assert draw is not None
        if number:
            ledger.report(number, [epoch_row(draw, 1) | {"validation_error": float("nan")}], **FIELDS)
        assert ledger.finish(number, reason="stopped by asha at epoch 1" if number else None) == "FAIL"
    trials = ledger.run.trials
    assert trials["stop_reason"].tolist() == ["`validation_error` is None", "`validation_error` is nan"]
    assert trials["epochs"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("kind", "attempts"), [("worker lost", 4), ("out of memory", 2), ("exception", 1), ("timed out", 1)]
)
def test_what_another_attempt_may_mend_is_handed_out_again(folder: Path, kind: str, attempts: int) -> None:
    ledger = begin(folder, config(trials=2, lag=1))
    first = ledger.ask()
    assert first is not None
    for attempt in range(1, attempts + 1):
        ledger.report(0, [epoch_row(first, epoch) for epoch in range(1, 2)], **FIELDS)
        assert not ledger.finished
        status = ledger.finish(0, Failure(kind, kind, "why"))
        if attempt < attempts:
            again = ledger.ask()
            assert status == "RUNNING"
            assert again is not None
            assert (again.number, again.scheme, again.seed) == (0, first.scheme, first.seed)
            assert again.alone == (kind == "out of memory")
    assert status == "FAIL"
    (row,) = ledger.run.trials.to_dict("records")
    assert (row["attempts"], row["stop_reason"], row["failure"]) == (attempts, kind, "why")
    assert ledger.run.epochs["epoch"].tolist() == [1]
    second = ledger.ask()
    assert second is not None
    assert second.number == 1


def in_parallel(ledger: Ledger, workers: int, rng: random.Random) -> pd.DataFrame:
    """Run a search with several workers, of which now one is faster and now another; return what counts."""
    active: dict[int, Draw] = {}
    while active or not ledger.finished:
        draw = ledger.ask() if len(active) < workers else None
        if draw is not None:
            active[draw.number] = draw
            continue
        number = rng.choice(sorted(active))
        epoch = ledger.rows[number]["epochs"] + 1
        if rng.random() < 0.1:  # a worker is lost
            ledger.finish(number, Failure("worker lost", "worker lost", ""))
            del active[number]
            continue
        fields = FIELDS | {"params": 2000 + number * 977 % 1000}
        ledger.report(number, [epoch_row(active[number], epoch)], **fields)
        reason = ledger.stops(number)
        if reason or epoch == ledger.config.epochs:
            ledger.finish(number, reason=reason)
            del active[number]
    return ledger.run.trials[["number", "scheme", "seed", "status", "stop_reason", "epochs", "validation_error"]]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scheduler": "hyperband", "sampler": "random"},
        {"scheduler": "median", "sampler": "qmc"},
        {"objectives": ["validation_error", "params"], "constraints": ["params <= 2.6k"]},
        {"objectives": ["params", "validation_error"], "sampler": "nsga2"},
        {"sampler": "cmaes"},
        {"objectives": ["validation_error", "seconds"], "constraints": ["validation_error <= 30 %"]},
    ],
)
def test_the_number_of_workers_changes_nothing(folder: Path, changes: dict[str, Any]) -> None:
    settings = config(trials=24, epochs=9, grace=1, retries=1000, **changes)
    tables = [
        in_parallel(begin(folder.with_name(str(workers)), settings), workers, random.Random(workers))
        for workers in (1, 2, 5, 8)
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], table)
    statuses = set(tables[0]["status"])
    assert statuses == {"COMPLETE", "PRUNED"}


def test_what_breaks_a_constraint_stops_at_once(folder: Path) -> None:
    ledger = begin(folder, config(constraints=["params <= 2900"]))
    draw = ledger.ask()
    assert draw is not None
    ledger.report(0, [], **FIELDS)
    reason = ledger.stops(0)
    assert reason == "breaks params <= 2900: 2940"
    assert ledger.finish(0, reason=reason) == "PRUNED"
    (row,) = ledger.run.trials.to_dict("records")
    assert (row["feasible"], row["stop_reason"], row["epochs"]) == (False, reason, 0)


def test_a_trial_is_not_drawn_before_those_it_must_know_have_ended(folder: Path) -> None:
    ledger = Ledger(config(), Run.create(folder, config().resolved(), {}), lag=2)
    draws = [ledger.ask() for _ in range(3)]
    assert draws[1] is not None
    assert draws[2] is None
    assert not ledger.ready
    ledger.report(1, [epoch_row(draws[1], epoch) for epoch in (1, 2, 3)], **FIELDS)
    ledger.finish(1)
    assert ledger.ask() is None
    assert draws[0] is not None
    ledger.report(0, [epoch_row(draws[0], epoch) for epoch in (1, 2, 3)], **FIELDS)
    ledger.finish(0)
    assert ledger.ready
    third = ledger.ask()
    assert third is not None
    assert third.number == 2
