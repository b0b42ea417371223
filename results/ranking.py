"""Which trial is best."""

from __future__ import annotations

import numpy as np
import pandas as pd

from odenas.results.run import Run


def leaderboard(run: Run) -> pd.DataFrame:
    """Return the trials of a run, best first, with a column `rank` before those of TRIALS.

    Trials that had their whole budget come first, by validation error, then fewer parameters, then number; they alone
    have a rank (1, 2, …). Then those stopped early, the longest trained first; then those still running; last the
    failed ones, and those whose validation error is missing.
    """
    trials = run.trials
    is_ = {name: trials["status"].eq(name).fillna(False).to_numpy(bool) for name in ("COMPLETE", "PRUNED", "RUNNING")}
    ranked = is_["COMPLETE"] & trials["validation_error"].notna().to_numpy(bool)
    group = np.select([ranked, is_["PRUNED"], is_["RUNNING"]], [0, 1, 2], 3)
    order = pd.DataFrame(
        {
            "group": group,
            "epochs": (-trials["epochs"]).mask((group == 0) | (group == 3)),
            "error": trials["validation_error"].mask(group == 3),
            "params": trials["params"].mask(group == 3),
            "number": trials["number"],
        }
    )
    board = trials.loc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)
    places = pd.Series(range(1, len(board) + 1), dtype="Int64")
    board.insert(0, "rank", places.where(places <= ranked.sum()))
    return board
