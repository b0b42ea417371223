import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from odenas.results import Run, published, write_table
from odenas.results.columns import DATE, TRIALS
from odenas.results.frames import frame
from odenas.space import OdenasError


@pytest.fixture(params=[0, 1, 3])
def trials(request: pytest.FixtureRequest, tmp_path: Path) -> pd.DataFrame:
    run = Run.create(tmp_path / "run", {}, {})
    for number in range(request.param):
        row = {"number": number, "status": "COMPLETE", "validation_error": 1 / (3 + number), "zero_stable": True}
        run.record_trial({**row, "started": datetime.now(UTC), "failure": 'a "quote",\nand β' if number else None})
    return run.trials


def test_parquet_keeps_values_and_dtypes(trials: pd.DataFrame, tmp_path: Path) -> None:
    write_table(trials, tmp_path / "t.parquet")
    assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), trials)


def test_json_keeps_values(trials: pd.DataFrame, tmp_path: Path) -> None:
    write_table(trials, tmp_path / "t.JSON")
    assert_frame_equal(frame(json.loads((tmp_path / "t.JSON").read_text()), TRIALS), trials)


def test_csv_keeps_values(trials: pd.DataFrame, tmp_path: Path) -> None:
    write_table(trials, str(tmp_path / "t.csv"))
    kinds = {name: dtype for name, (dtype, _) in TRIALS.items() if dtype != DATE}
    back = pd.read_csv(tmp_path / "t.csv", dtype=kinds)
    for name, (dtype, _) in TRIALS.items():
        if dtype == DATE:
            back[name] = pd.DatetimeIndex(pd.to_datetime(back[name], utc=True, format="ISO8601")).as_unit("us")
    assert_frame_equal(back, trials)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name in ("t.xlsx", "t", "t.csv.gz"):
        with pytest.raises(OdenasError, match=r"`--out` is .*, but must end in one of .csv, .parquet, .json"):
            write_table(published(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path, match in [("gone/t.csv", "its folder does not exist"), ("folder.csv", "cannot be written")]:
        with pytest.raises(OdenasError, match=match):
            write_table(published(), tmp_path / path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.json"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OdenasError, match="No space left"):
            write_table(published(), tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    write_table(published(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
