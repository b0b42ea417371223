import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from odenas.results import Run, leaderboard
from odenas.results.columns import TRIALS
from odenas.results.ranking import objectives
from odenas.space import OdenasError


def test_only_finished_trials_have_a_rank(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {}, {})
    assert list(leaderboard(run).columns) == ["rank", *TRIALS]
    rows = [
        # status, validation error, epochs, params
        ("FAIL", 0.1, 9, 1),
        ("COMPLETE", 8.0, 9, 500),
        ("PRUNED", 1.0, 1, 1),
        ("RUNNING", 0.5, 8, 1),
        ("COMPLETE", 7.0, 9, 900),
        ("PRUNED", 9.0, 3, 1),
        ("COMPLETE", 8.0, 9, 400),
        ("PRUNED", 8.5, 3, 1),
        ("COMPLETE", None, 9, 1),
        ("COMPLETE", 8.0, 9, 400),
        ("RUNNING", None, None, None),
    ]
    for number, (status, error, epochs, params) in enumerate(rows):
        row = {"number": number, "status": status, "validation_error": error, "epochs": epochs, "params": params}
        run.record_trial(row)
    board = leaderboard(run)
    assert board["number"].tolist() == [4, 6, 9, 1, 7, 5, 2, 3, 10, 0, 8]
    assert board["rank"].tolist() == [1, 2, 3, 4, *[pd.NA] * 7]
    assert board.dtypes.astype(str).to_dict() == {"rank": "Int64"} | {n: dtype for n, (dtype, _) in TRIALS.items()}


def test_a_run_of_failures_alone_has_no_rank(tmp_path: Path) -> None:
    run = Run.create(tmp_path, {}, {})
    run.record_trial({"number": 0, "status": "FAIL"})
    assert leaderboard(run)["rank"].isna().all()


def random_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Return trials in every state, of few values, so that ties are frequent."""
    return [
        {
            "number": number,
            "status": rng.choice(["COMPLETE"] * 6 + ["PRUNED", "RUNNING", "FAIL"]),
            "validation_error": rng.choice([None, 5.0, 6.0, 7.0, 8.0, 9.0]),
            "params": rng.choice([None, 100, 200, 300, 400]),
            "latency": rng.choice([None, 1.5, 2.5, 3.5]),
            "epochs": rng.choice([1, 2, 3]),
            "feasible": rng.choice([None, True, True, False]),
        }
        for number in range(count)
    ]


def recorded(path: Path, names: list[str], rows: list[dict[str, Any]]) -> Run:
    run = Run.create(path, {"objectives": names}, {})
    for row in rows:
        run.record_trial(row)
    return run


@pytest.mark.parametrize("names", [["validation_error"], ["latency"], ["validation_error", "params"],
                                   ["latency", "validation_error", "params"]])  # fmt: skip
@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_the_one_described(tmp_path: Path, names: list[str], seed: int) -> None:
    rows = random_rows(random.Random(seed), 30)
    board = leaderboard(recorded(tmp_path, names, rows))

    def scored(row: dict[str, Any]) -> bool:
        return row["status"] == "COMPLETE" and all(row[name] is not None for name in names)

    able = [row for row in rows if scored(row) and row["feasible"] is not False]

    def better(a: dict[str, Any], b: dict[str, Any]) -> bool:
        return all(a[name] <= b[name] for name in names) and any(a[name] < b[name] for name in names)

    def front(row: dict[str, Any]) -> int:
        return 1 + max((front(other) for other in able if better(other, row)), default=0)

    def last_if_missing(row: dict[str, Any], *of: str) -> list[Any]:
        return [item for name in of for item in (row[name] is None, row[name] or 0)]

    def key(row: dict[str, Any]) -> list[Any]:
        values = last_if_missing(row, *names, "params", "number")
        if row in able:
            return [0, front(row) if len(names) > 1 else 0, *values]
        if scored(row):
            return [1, 0, *values]
        if row["status"] in ("PRUNED", "RUNNING"):
            return [2 + (row["status"] == "RUNNING"), -row["epochs"], *values]
        return [4, 0, row["number"]]

    expected = sorted(rows, key=key)
    assert board["number"].tolist() == [row["number"] for row in expected]
    places = range(1, len(rows) + 1) if len(names) == 1 else [row in able and front(row) for row in expected]
    ranks = [place if row in able else pd.NA for row, place in zip(expected, places, strict=True)]
    assert board["rank"].tolist() == ranks
    assert board.dtypes.astype(str).to_dict() == {"rank": "Int64"} | {n: dtype for n, (dtype, _) in TRIALS.items()}


def test_what_breaks_a_constraint_is_never_first(tmp_path: Path) -> None:
    rows = [
        {"number": 0, "status": "COMPLETE", "validation_error": 1.0, "feasible": False},
        {"number": 1, "status": "COMPLETE", "validation_error": 9.0, "feasible": True},
        {"number": 2, "status": "PRUNED", "validation_error": 2.0, "epochs": 1, "feasible": True},
    ]
    board = leaderboard(recorded(tmp_path, ["validation_error"], rows))
    assert board["number"].tolist() == [1, 0, 2]
    assert board["rank"].tolist() == [1, pd.NA, pd.NA]


def test_a_strange_objective_is_refused(tmp_path: Path) -> None:
    assert objectives(Run.create(tmp_path / "a", {}, {})) == ("validation_error",)
    run = recorded(tmp_path / "b", ["validation_eror"], [])
    with pytest.raises(OdenasError, match="did you mean 'validation_error'"):
        leaderboard(run)
