"""What a user reads of a confirmation, in a narrow console and in a wide one."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.confirmation_report import show_confirmation
from odenas.space import Scheme, describe, scheme

AB2, LM, MOMENTUM = (scheme(name) for name in ("ab2", "lm", "momentum"))
TWIN = [10.0, 10.5, 9.5, 10.25]
Errors = list[float | None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run", SearchConfig(train_size=60, epochs=2).resolved(), {})
    for number, (value, error) in enumerate([(AB2, 6.0), (MOMENTUM, 7.0), (LM, 8.0)]):
        run.record_trial(
            {
                "number": number, "status": "COMPLETE", "label": describe(value), "validation_error": error,
                "scheme": json.dumps(value.to_dict()), "budget": 2, "epochs": 2, "train_size": 60, "params": 100,
            }
        )  # fmt: skip
    return run


def retrained(run: Run, label: str, value: Scheme, errors: Errors, **fields: Any) -> None:
    """Record trainings of a network; their validation error is 1 above the test error. None is one that failed."""
    for seed, error in enumerate(errors):
        ended = {"test_error": error, "validation_error": error + 1} if error is not None else {}
        failed = {"failure": "Traceback\nx", "stop_reason": "non-finite loss in epoch 1"} if error is None else {}
        run.record_confirmation(
            {
                "label": label, "role": "candidate", "status": "FAIL" if failed else "COMPLETE", "data": "digits",
                "train_size": 60, "budget": 2, "seed": seed, "scheme": json.dumps(value.to_dict()), "params": 100,
                **ended, **failed, **fields,
            }
        )  # fmt: skip


def candidate(run: Run, number: int, value: Scheme, errors: Errors, twin: Errors | None = None, **fields: Any) -> str:
    label = f"trial {number}: {describe(value)}"
    retrained(run, label, value, errors, number=number, **fields)
    of = {"role": "twin", "twin_of": label, "number": number}
    retrained(run, f"twin of {label}", value.twin(), twin or list(TWIN), **of, **fields)
    return label


def said(run: Run, width: int = 120, terminal: bool = False) -> str:
    text = io.StringIO()
    show_confirmation(run, Console(file=text, width=width, markup=False, force_terminal=terminal, color_system=None))
    return text.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


def test_without_retrainings_nothing_is_said(run: Run) -> None:
    assert said(run) == ""


def test_a_real_gain(run: Run) -> None:
    label = candidate(run, 0, AB2, [7.0, 7.6, 6.4, 7.2])
    out = flat(said(run))
    assert "Retrained over 4 seeds: 2 epochs, 60 images, 100 to 100 parameters" in out
    # Mean and deviation of the differences −3, −2.9, −3.1, −3.05: −3.0125 ± 0.0854; t₀.₉₇₅ of 3 degrees is 3.182.
    assert "ab2 (trial 0) 6.00 8.05 7.05 ± 0.50 [6.25, 7.85] -3.01 [-3.15, -2.88] better" in out
    assert "euler 11.06 10.06 ± 0.43 [9.38, 10.74] twin" in out
    assert f"Best of those found: {label} (by its mean validation error over the seeds)." in out
    assert ("The gain is real: on the test images it is 3.01 percentage points better than its Euler twin "
            "(95% confidence, 4 seeds, 1 comparison).") in out  # fmt: skip
    assert ("Winner's curse: for the best, the search saw a validation error of 6.00 %; with new seeds it is 8.05 %, "
            "2.05 percentage points worse.") in out  # fmt: skip


def test_no_gain_says_what_it_would_take(run: Run) -> None:
    candidate(run, 0, AB2, [9.0, 11.0, 9.0, 10.0])
    candidate(run, 1, MOMENTUM, [12.5, 13.5, 12.2, 13.1])
    out = flat(said(run))
    assert "No gain is proved: on the test images it is within noise" in out
    assert "4 seeds cannot tell a difference of 0.31 percentage points from none; to see one of this size" in out
    # The deviation is twice the difference: (2.2414 + 0.8416)² · 2² + 2.2414² / 2 = 40.5, for 2 comparisons.
    assert "chance of 80%, some 41 seeds would be needed." in out
    assert (
        "for the best 2, in the mean, the search saw a validation error of 6.50 %; with new seeds it is 12.29 %" in out
    )
    assert "momentum (trial 1) 7.00 13.82" in out
    assert out.count(" worse ") == 1


def test_a_loss_and_nothing_to_say(run: Run) -> None:
    candidate(run, 1, MOMENTUM, [12.5, 13.0, 12.1, 12.7])
    assert "There is no gain: on the test images it is 2.51 percentage points worse than its Euler twin" in flat(
        said(run)
    )


def test_one_seed_says_so(run: Run) -> None:
    candidate(run, 0, AB2, [7.0], twin=[10.0])
    out = flat(said(run))
    assert "ab2 (trial 0) 6.00 8.00 7.00 -3.00 one seed" in out
    assert "Nothing can be said of its gain over its Euler twin: one seed: nothing to say. More seeds (--seeds)" in out
    assert "±" not in out.split("Best of those")[0]


def test_failures_are_told_and_the_winner_is_one_that_has_none(run: Run) -> None:
    candidate(run, 0, AB2, [7.0, None, 6.4, 7.2])
    other = candidate(run, 1, MOMENTUM, [8.0, 8.6, 7.4, 8.2])
    out = flat(said(run))
    assert "ab2 (trial 0): 1 of 4 trainings failed (1× non-finite loss in epoch 1)." in out
    assert f"Best of those found: {other}" in out
    assert "Better than its Euler twin, too: trial 0: ab2." in out
    candidate(run, 1, MOMENTUM, [8.0, None, 7.4, 8.2])
    out = flat(said(run))
    assert "None of the schemes that were found ended its training with every seed." in out
    assert "Best of those" not in out


def test_each_network_is_one_row_under_its_present_name(run: Run) -> None:
    for label, role, value in (("lm", "baseline", LM), ("twin of lm", "twin", LM.twin())):
        of = {"twin_of": "lm"} if role == "twin" else {}
        retrained(run, label, value, list(TWIN), role=role, **of)
    candidate(run, 2, LM, list(TWIN))
    candidate(run, 0, AB2, [7.0, 7.6, 6.4, 7.2])
    lines = said(run).split("Best of")[0].splitlines()
    assert sorted(line.split("  ")[0] for line in lines[3:-1]) == ["ab2 (trial 0)", "euler", "lm (trial 2)"]


def test_each_fidelity_has_its_own_table_the_longest_last(run: Run) -> None:
    candidate(run, 0, AB2, [3.0, 3.6, 2.4, 3.2], budget=50)
    candidate(run, 0, AB2, [7.0, 7.6, 6.4, 7.2])
    first, second = said(run).split("Retrained over ")[1:]
    assert first.startswith("4 seeds: 2 epochs")
    assert second.startswith("4 seeds: 50 epochs")
    assert "Winner's curse" in first
    assert "Winner's curse" not in second
    assert "so that its numbers are not comparable" in flat(second)
    assert "so that its numbers are not comparable" not in flat(first)


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(run: Run, width: int) -> None:
    candidate(run, 0, AB2, [7.0, 7.6, 6.4, None])
    candidate(run, 1, MOMENTUM, [9.0, 11.0, 9.0, 10.0])
    shown = said(run, width, terminal=True)
    assert max(map(len, shown.splitlines())) <= width
    assert "[-3.25, -2.75]" in shown  # in one piece
    # In a file a sentence is one line, whatever its length.
    assert any(len(line) > width and line.endswith("would be needed.") for line in said(run, width).splitlines())
