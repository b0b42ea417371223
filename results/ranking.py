"""Which trial is best."""

from __future__ import annotations

import numpy as np
import pandas as pd

from odenas.results.columns import TRIALS
from odenas.results.pareto import fronts
from odenas.results.run import Run
from odenas.space.errors import unknown


def leaderboard(run: Run) -> pd.DataFrame:
    """Return the trials of a run, best first, with a column `rank` before those of TRIALS.

    Trials that had their whole budget and keep the constraints of the search come first; they alone have a rank. With
    one objective the rank is their place (1, 2, …): by the objective, then fewer parameters, then number. With several
    it is their front: 1 for the Pareto front, which no trial dominates, 2 for what only the first one dominates, and
    so on (`odenas.results.pareto.fronts`); within a front they go by the first objective, then the others. After them
    come those that had their whole budget but break a constraint; then those stopped early, the longest trained
    first; then those still running; last the failed ones, and those that lack an objective.

    Raises:
        OdenasError: the run names an objective that is no number of TRIALS.
    """
    trials, names = run.trials, objectives(run)
    values = trials[list(names)].to_numpy(np.float64, na_value=np.nan)
    state = trials["status"].fillna("FAIL")
    complete = state.eq("COMPLETE").to_numpy(bool) & ~np.isnan(values).any(axis=1)
    ranked = complete & trials["feasible"].fillna(True).to_numpy(bool)
    group = np.select([ranked, complete, state.eq("PRUNED"), state.eq("RUNNING")], range(4), 4)
    front = np.zeros(len(trials), dtype=np.int64)
    front[ranked] = fronts(values[ranked]) if len(names) > 1 else 0
    order = pd.DataFrame(
        {
            "group": group,
            "front": front,
            "epochs": (-trials["epochs"]).where((group == 2) | (group == 3)),
            **{f"by {name}": trials[name].mask(group == 4) for name in names},
            "params": trials["params"].mask(group == 4),
            "number": trials["number"],
        }
    )
    first = order.sort_values(list(order.columns), kind="stable").index
    places = np.arange(len(trials)) if len(names) == 1 else front[first]
    board = trials.loc[first].reset_index(drop=True)
    board.insert(0, "rank", pd.Series(places + 1, dtype="Int64").where(ranked[first]))
    return board


def objectives(run: Run) -> tuple[str, ...]:
    """Return the columns of TRIALS that the search of this run minimises, the first one first.

    Raises:
        OdenasError: the run names one that is no number of TRIALS.
    """
    named = tuple(run.config.get("objectives", ("validation_error",)))
    for name in named:
        if name not in NUMBERS:
            raise unknown("objective", name, NUMBERS)
    return named


NUMBERS = [name for name, (dtype, _) in TRIALS.items() if dtype in ("Float64", "Int64")]
