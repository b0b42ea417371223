"""The run folder: plain files, written by one search, read by anyone at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from odenas.results.columns import COEFFICIENTS, CONFIRMATIONS, EPOCHS, ROLES, STATUSES, TRIALS, Columns
from odenas.results.files import TEMPORARY, replacing
from odenas.results.frames import frame, plain_row
from odenas.results.journal import Journal
from odenas.space.errors import OdenasError, unknown

FORMAT = 1
WITHIN = ["stage", "block", "channel", "symbol", "index", "value"]
"""The columns of COEFFICIENTS that each row of a line of coefficients.jsonl lists, in this order."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder: what was asked, and tables of what happened, read afresh at each access.

    | file | holds |
    |---|---|
    | run.json | format, created, config, versions; written once |
    | trials.jsonl | a line for each event of a trial; the last one of a number counts |
    | epochs.jsonl | a line for each trial and epoch; the last one counts |
    | coefficients.jsonl | a line for each trial and epoch with the list of its weights; the last one counts |
    | confirm.jsonl | a line for each event of a retraining; the last one of a network, budget and seed counts |
    | checkpoints/00012.safetensors | weights of the trials that were kept |
    | log.txt | the full log |

    Only JSON is read, so opening a run executes nothing from it. The columns are those of `odenas.results.columns`.
    """

    path: Path
    created: str
    config: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def create(cls, path: str | PathLike[str], config: Mapping[str, Any], versions: Mapping[str, str]) -> Run:
        """Make the folder of a new run.

        Args:
            path: a folder that does not exist yet or is empty.
            config: the resolved settings of the search, JSON-ready.
            versions: package -> version.

        Raises:
            OdenasError: the folder holds something, cannot be made or written, or `config` is not JSON.
        """
        folder = Path(path)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"format": FORMAT, "created": created, "config": dict(config), "versions": dict(versions)}
        try:
            text = json.dumps(content, allow_nan=False, indent=2)
        except (TypeError, ValueError) as error:
            raise OdenasError(f"`config` or `versions` holds what JSON cannot: {error}") from None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not _vacant(folder):
                raise OdenasError(f"`{folder}` is not empty; a new run needs a folder that is empty or does not exist")
            (folder / "checkpoints").mkdir(exist_ok=True)
            with replacing(folder / "run.json") as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OdenasError(f"`{folder}` cannot be made a run folder: {error.strerror}") from None
        return load(folder)

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each trial, by number; the columns are TRIALS."""
        return self._latest("trials.jsonl", TRIALS, ["number"])

    @property
    def epochs(self) -> pd.DataFrame:
        """One row for each trial and epoch, by number and epoch; the columns are EPOCHS."""
        return self._latest("epochs.jsonl", EPOCHS, ["number", "epoch"])

    @property
    def coefficients(self) -> pd.DataFrame:
        """One row for each weight of a trial's scheme and epoch, by number and epoch; the columns are COEFFICIENTS."""
        journal = Journal(self.path / "coefficients.jsonl")
        try:
            latest = {(int(line["number"]), int(line["epoch"])): line["rows"] for line in journal.read()}
            rows = [
                {"number": number, "epoch": epoch, **dict(zip(WITHIN, row, strict=True))}
                for (number, epoch), listed in sorted(latest.items())
                for row in listed
            ]
            return frame(rows, COEFFICIENTS)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(journal, error) from None

    @property
    def confirmations(self) -> pd.DataFrame:
        """One row for each network, budget and seed retrained, as they came; the columns are CONFIRMATIONS."""
        keys = ["label", "role", "number", "twin_of", "data", "train_size", "budget", "seed"]
        return self._latest("confirm.jsonl", CONFIRMATIONS, keys, sort=False)

    @property
    def log(self) -> Path:
        """Where the full log is."""
        return self.path / "log.txt"

    def checkpoint(self, number: int) -> Path:
        """Return where the weights of a trial are, if they were kept."""
        return self.path / "checkpoints" / f"{number:05d}.safetensors"

    def record_trial(self, row: Mapping[str, Any]) -> None:
        """Add an event of a trial: a whole row of TRIALS, since it replaces the earlier one of this number.

        A column left out is NA. A loss or an error that is not finite is stored as NA, and the row's `failure` says so.

        Raises:
            TypeError: a key is no column, `number` or `status` is missing, or a value is not of its column's kind.
            OdenasError: the status is unknown, or the file cannot be written.
        """
        self._record("trials.jsonl", row, TRIALS, ["number", "status"], sync=True)

    def record_epoch(self, row: Mapping[str, Any]) -> None:
        """Add an epoch of a trial: a row of EPOCHS. Raises as `record_trial`, with `number` and `epoch` needed."""
        self._record("epochs.jsonl", row, EPOCHS, ["number", "epoch"])

    def record_coefficients(self, number: int, epoch: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the weights of a trial's scheme after an epoch: rows of COEFFICIENTS without `number` and `epoch`."""
        columns = {name: COEFFICIENTS[name] for name in WITHIN}
        plain = [plain_row(row, columns) for row in rows]
        listed = [[row.get(name) for name in WITHIN] for row in plain]
        Journal(self.path / "coefficients.jsonl").append({"number": int(number), "epoch": int(epoch), "rows": listed})

    def record_confirmation(self, row: Mapping[str, Any]) -> None:
        """Add an event of a retraining: a whole row of CONFIRMATIONS. Raises as `record_trial`.

        A twin has the label of its network in `twin_of`, and its network's `number`, `data`, `train_size`, `budget`.
        """
        required = ["label", "role", "status", "data", "budget", "seed"]
        self._record("confirm.jsonl", row, CONFIRMATIONS, required, sync=True)

    def _record(
        self, file: str, row: Mapping[str, Any], columns: Columns, required: list[str], *, sync: bool = False
    ) -> None:
        for field, valid in (("status", STATUSES), ("role", ROLES)):
            if field in required and row.get(field) is not None and row[field] not in valid:
                raise unknown(field, row[field], valid)
        Journal(self.path / file).append(plain_row(row, columns, required), sync=sync)

    def _latest(self, file: str, columns: Columns, keys: list[str], *, sort: bool = True) -> pd.DataFrame:
        journal = Journal(self.path / file)
        try:
            rows = frame(journal.read(), columns)
            if rows[keys[0]].isna().any():
                raise ValueError(f"a line has no `{keys[0]}`")
        except ValueError as error:
            raise _damaged(journal, error) from None
        rows = rows.drop_duplicates(keys, keep="last")
        return rows.sort_values(keys, ignore_index=True) if sort else rows.reset_index(drop=True)


def load(path: str | PathLike[str]) -> Run:
    """Open a run folder to read it, or to go on writing it.

    Raises:
        OdenasError: the folder does not exist, is no run folder, or was written by a newer odenas.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise OdenasError(f"`{folder}` is no folder; give the folder that `odenas search --run` wrote")
    try:
        content = json.loads((folder / "run.json").read_bytes())
    except FileNotFoundError:
        raise OdenasError(
            f"`{folder}` is no run folder: it has no run.json; give the folder that `odenas search --run` wrote"
        ) from None
    except OSError as error:
        raise OdenasError(f"`{folder / 'run.json'}` cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise OdenasError(f"`{folder / 'run.json'}` is damaged: no JSON object with a `format`")
    if content["format"] > FORMAT:
        raise OdenasError(
            f"`{folder}` has the run format {content['format']}, but this odenas reads up to {FORMAT}; upgrade odenas"
        )
    created, config, versions = (content.get(name) for name in ("created", "config", "versions"))
    if not (isinstance(created, str) and isinstance(config, dict) and isinstance(versions, dict)):
        raise OdenasError(f"`{folder / 'run.json'}` is damaged: it needs created, config and versions")
    return Run(folder, created, config, versions)


def _vacant(folder: Path) -> bool:
    """Return whether the folder holds nothing but what a `create` that was killed may have left."""
    return not any(
        any(entry.iterdir()) if entry.name == "checkpoints" and entry.is_dir() else entry.suffix != TEMPORARY
        for entry in folder.iterdir()
    )


def _damaged(journal: Journal, error: Exception) -> OdenasError:
    if isinstance(error, OdenasError):
        return error
    what = f"a line has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    return OdenasError(f"`{journal.path}` is damaged: {what}")
