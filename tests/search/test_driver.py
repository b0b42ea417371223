"""Opening a run folder, and a search that has nothing left to do."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from odenas.results import Run
from odenas.search import driver
from odenas.search.config import SearchConfig
from odenas.space import OdenasError, SearchSpace, scheme


def without(config: SearchConfig, **keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what an older version wrote, which had not these keys of these tables."""
    values = config.resolved()
    for table, missing in keys.items():
        values[table] = {name: value for name, value in values[table].items() if name not in missing}
    return values


def test_a_folder_of_an_older_version_goes_on(tmp_path: Path) -> None:
    config = SearchConfig(run=str(tmp_path / "run"))
    old = without(config, space=("per", "shake"), recipe=("algorithm",))
    Run.create(config.folder, {name: value for name, value in old.items() if name != "compiled"}, {})
    assert driver.open_run(config).path == config.folder
    other = SearchConfig(run=str(tmp_path / "run"), space=SearchSpace(per=("image",)))
    with pytest.raises(OdenasError) as caught:
        driver.open_run(other)
    line = str(caught.value)
    assert "there `space." in line
    assert len(line) < 300
    with pytest.raises(OdenasError, match=r"there `recipe.momentum` is 0.9, here 0.5; choose another folder$"):
        driver.open_run(SearchConfig(run=str(tmp_path / "run"), recipe={"momentum": 0.5}))


def test_a_search_that_is_done_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SearchConfig(run=str(tmp_path / "run"), trials=2, confirm={"seeds": 0})
    started = []

    @contextmanager
    def cluster(address: str | None) -> Any:
        started.append(address)
        raise OdenasError("Ray would start here")
        yield

    monkeypatch.setattr(driver, "cluster", cluster)
    run = driver.open_run(config)
    for number, status in enumerate(("COMPLETE", "PRUNED")):
        with pytest.raises(OdenasError, match="would start"):
            driver.search(config, Console(quiet=True))
        run.record_trial(
            {"number": number, "status": status, "scheme": json.dumps(scheme("ab2").to_dict()), "validation_error": 1.0}
        )
    assert len(started) == 2
    assert driver.search(config, Console(quiet=True)).path == run.path
    assert len(started) == 2
    with pytest.raises(OdenasError, match="would start"):
        driver.search(config.model_copy(update={"trials": 3}), Console(quiet=True))
