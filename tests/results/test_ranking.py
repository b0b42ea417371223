from pathlib import Path

import pandas as pd

from odenas.results import Run, leaderboard
from odenas.results.columns import TRIALS


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
