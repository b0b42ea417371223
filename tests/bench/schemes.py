"""Time `odenas.space`: many schemes at once against nodepy one by one, a draw, a stability region, and the import.

Contenders take turns in one run, and a ratio is that of two times of the same round; the table gives medians and
quartiles. Times of nodepy start from the coefficients, which it cannot draw; those of odenas include the drawing.

nodepy has no stability intervals for a linear multistep method. What its user would do stands in: take its boundary
locus (`_boundary_locus`, 1001 points), where that crosses the axis by linear interpolation, and ask its
`_root_condition` between the crossings. The share of the answers that agree is printed with the times.

    make bench ARGS="--rounds 9"
"""

from __future__ import annotations

import argparse
import cProfile
import importlib.metadata
import platform
import pstats
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import nodepy.linear_multistep_method as lmm
import numpy as np
import optuna
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from odenas.space import SearchSpace, scheme
from odenas.space.stability_region import stability_region
from odenas.space.vectorised import draw, feasibility, properties

Array = NDArray[Any]
Row = tuple[str, str, str, str, str]

STEPS = 3
AT_ONCE, ONE_BY_ONE = 100_000, 100
HEAVY = ("torch", "ray", "optuna", "pandas", "scipy")


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def spread(values: list[float], digits: int = 2) -> str:
    low, middle, high = quantiles(values, n=4)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}, {high:,.{digits}f})"


def drawn(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return random 3-step methods, as many of each order from 1 to 3."""
    parts = [draw(rng, count // STEPS + (order <= count % STEPS), STEPS, order) for order in range(1, STEPS + 1)]
    return np.concatenate([states for states, _ in parts]), np.concatenate([slopes for _, slopes in parts])


def nodepy_method(states: Array, slopes: Array) -> lmm.LinearMultistepMethod:
    # Without a description nodepy would compute the order once more, to write one.
    return lmm.LinearMultistepMethod(np.r_[-states[::-1], 1.0], np.r_[slopes[::-1], 0.0], description="-")


def nodepy_feasibility(method: lmm.LinearMultistepMethod) -> tuple[bool, int]:
    return method.is_zero_stable(tol=1e-5), method.order(tol=1e-10)


def nodepy_intervals(method: lmm.LinearMultistepMethod) -> tuple[float, float]:
    rho, sigma = method.characteristic_polynomials()
    z = method._boundary_locus(N=1001)[:501]  # the upper half circle; the other half is its mirror image

    def interval(along: Array, across: Array, direction: complex) -> float:
        here, there = across[:-1], across[1:]
        at = np.flatnonzero((here < 0) != (there < 0))
        ends = along[at] + here[at] / (here[at] - there[at]) * (along[at + 1] - along[at])
        ends = np.sort(ends[ends > 1e-3])  # every locus starts at 0
        stable_to = 0.0
        for end in ends:
            if not lmm._root_condition(rho - direction * (stable_to + end) / 2 * sigma, 1e-13):
                break
            stable_to = float(end)
        return stable_to

    z[-1] = z[-1].real  # ζ = −1
    # The last point is an end by itself: the mirror image lies beyond the axis.
    mirrored = np.r_[z, z[-2].conj()]
    return interval(-mirrored.real, mirrored.imag, -1), interval(abs(z.imag), z.real, 1j)


def many(rounds: int) -> list[Row]:
    """Return the rows that compare samples of 3-step methods."""
    rng = np.random.default_rng(0)
    sample = drawn(rng, ONE_BY_ONE)
    tasks: dict[str, tuple[Callable[[Array, Array], object], tuple[Callable[[Any], object], ...]]] = {
        "feasibility and order": (feasibility, (nodepy_feasibility,)),
        "feasibility, order, both intervals": (properties, (nodepy_feasibility, nodepy_intervals)),
    }
    own: dict[str, list[float]] = {name: [] for name in tasks}
    peer: dict[str, list[float]] = {name: [] for name in tasks}
    for round_number in range(-1, rounds):
        for name, (at_once, one_by_one) in tasks.items():
            mine = seconds(lambda at_once=at_once: at_once(*drawn(rng, AT_ONCE))) / AT_ONCE  # type: ignore[misc]
            start = time.perf_counter()
            for states, slopes in zip(*sample, strict=True):
                method = nodepy_method(states, slopes)
                for measure in one_by_one:
                    measure(method)
            theirs = (time.perf_counter() - start) / ONE_BY_ONE
            if round_number >= 0:  # the first round warms up
                own[name].append(1e6 * mine)
                peer[name].append(1e6 * theirs)
    rows: list[Row] = []
    for name in tasks:
        ratios = [theirs / mine for theirs, mine in zip(peer[name], own[name], strict=True)]
        rows += [
            (f"{name}: odenas, {AT_ONCE:,} at once", f"{rounds}", spread(own[name]), "µs a scheme", ""),
            (f"{name}: nodepy, {ONE_BY_ONE} one by one", f"{rounds}", spread(peer[name], 0), "µs a scheme", ""),
            (f"{name}: ratio", f"{rounds}", spread(ratios, 0), "×", "≥ 1,000"),
        ]
    return [*rows, *agreement(*sample)]


def agreement(states: Array, slopes: Array) -> list[Row]:
    found = properties(states, slopes)
    methods = map(nodepy_method, states, slopes)
    theirs = [(*nodepy_feasibility(method), *nodepy_intervals(method)) for method in methods]
    stable, order, real, imaginary = map(np.array, zip(*theirs, strict=True))
    same = {
        "zero-stability": stable == found.zero_stable,
        "order": order == found.order,
        "real interval within 1 %": np.isclose(real, found.real_interval, rtol=0.01, atol=2e-3),
        "imaginary interval within 1 %": np.isclose(imaginary, found.imaginary_interval, rtol=0.01, atol=2e-3),
    }
    return [
        (f"as nodepy: {name}", f"{len(order)}", f"{100 * agree.mean():.0f}", "%", "") for name, agree in same.items()
    ]


class Recorded:
    """A trial that passes calls on and keeps them."""

    def __init__(self, trial: optuna.trial.BaseTrial) -> None:
        self.trial = trial
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.calls.append(("suggest_categorical", (name, choices)))
        return self.trial.suggest_categorical(name, choices)

    def suggest_float(self, name: str, low: float, high: float) -> float:
        self.calls.append(("suggest_float", (name, low, high)))
        return self.trial.suggest_float(name, low, high)


def suggesting(draws: int, profile: bool) -> list[Row]:
    """Return the rows that compare a trial of `suggest` with the same calls of Optuna made bare.

    The scheme drawn is new to every cache that odenas keeps, save where the draw repeats one (a named scheme).
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace()
    with_suggest, bare = (optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)) for seed in (0, 1))
    added: list[float] = []
    optunas: list[float] = []
    profiler = cProfile.Profile()
    for number in range(-20, draws):
        trial, twin = with_suggest.ask(), bare.ask()
        own = seconds(lambda trial=trial: space.suggest(trial))  # type: ignore[misc]
        recorded = Recorded(optuna.trial.FixedTrial(trial.params))
        space.suggest(recorded)  # the same calls again, for their names and arguments

        def alone(calls: list[tuple[str, tuple[Any, ...]]] = recorded.calls, twin: Any = twin) -> None:
            for method, arguments in calls:
                getattr(twin, method)(*arguments)

        calls = seconds(alone)
        if number >= 0:  # the first warm up
            added.append(1e3 * (own - calls))
            optunas.append(1e3 * calls)
        if profile and number >= 0:
            profiler.runcall(space.suggest, with_suggest.ask())
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
    above = sum(ms > 1 for ms in added) / len(added)
    worst = max(added)
    return [
        ("suggest: Optuna's own calls", f"{draws}", spread(optunas, 3), "ms a trial", ""),
        ("suggest: added, the scheme included", f"{draws}", spread(added, 3), "ms a trial", "< 1"),
        ("suggest: mean added", f"{draws}", f"{sum(added) / len(added):.3f}", "ms a trial", ""),
        ("suggest: draws that add more than 1 ms", f"{draws}", f"{100 * above:.1f}", "%", ""),
        ("suggest: worst added", f"{draws}", f"{worst:.2f}", "ms a trial", ""),
    ]


def region(rounds: int) -> Row:
    tableau = scheme("ab5").tableau
    real, imaginary = np.linspace(-1, 0.5, 1000), np.linspace(-1, 1, 1000)
    times = [seconds(lambda: stability_region(tableau, real, imaginary)) for _ in range(rounds + 1)][1:]
    return ("stability region of ab5, 1000 × 1000", f"{rounds}", spread(times), "s", "< 2")


def importing(rounds: int) -> list[Row]:
    code = (
        "import time; start = time.perf_counter(); import odenas.space; import sys; "
        f"print(time.perf_counter() - start, *[name for name in {HEAVY} if name in sys.modules])"
    )
    answers = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(rounds + 1)
    ][1:]
    times, loaded = (
        [float(answer[0]) for answer in answers],
        sorted({name for answer in answers for name in answer[1:]}),
    )
    return [
        ("import odenas.space in a new process", f"{rounds}", spread(times, 3), "s", "< 0.3"),
        (f"of {', '.join(HEAVY)} it loads", f"{rounds}", ", ".join(loaded) or "none", "", "none"),
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=9, help="repeats of each timing (2 or more)")
    arguments.add_argument("--draws", type=int, default=500, help="trials of `suggest`")
    arguments.add_argument("--profile", action="store_true", help="print where the time of `suggest` goes")
    given, _ = arguments.parse_known_args()  # `make bench` gives the same ARGS to every benchmark
    rows = [
        *many(given.rounds),
        *suggesting(given.draws, given.profile),
        region(given.rounds),
        *importing(given.rounds),
    ]
    table = Table(box=None, pad_edge=False, title_justify="left", title="median (quartiles) of n")
    for column in ("what", "n", "median", "unit", "aim"):
        table.add_column(column, justify="left" if column in ("what", "unit") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=140, markup=False, highlight=False)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "nodepy", "optuna"))
    console.print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}")
    console.print(table)


if __name__ == "__main__":
    main()
