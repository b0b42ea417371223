"""TensorBoard and MLflow beside the run folder: they follow the trials through Ray Tune's own callbacks."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from odenas.results import Run
from odenas.search.config import SearchConfig
from odenas.search.tracker import TrackedTrial, Tracker
from odenas.space import OdenasError

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is sent anywhere but to the server that the user names
    "MLFLOW_CONFIGURE_LOGGING": "false",  # what MLflow logs goes where all logs go
    "MLFLOW_ALLOW_FILE_STORE": "true",  # newer versions take a folder for a store only where this is said
}
"""What MLflow is told where the environment does not say it."""


def callbacks(config: SearchConfig, run: Run) -> list[Tracker]:
    """Return a callback for Ray Tune for each of the configuration's loggers.

    TensorBoard's event files lie in the run folder's `tensorboard`, a folder for each trial. MLflow's runs lie in its
    `mlruns`, or where the environment's MLFLOW_TRACKING_URI says.

    Raises:
        OdenasError: a package is missing, or the place cannot be written or reached.
    """
    return [TRACKERS[name](config, run) for name in dict.fromkeys(config.loggers)]


def _tensorboard(config: SearchConfig, run: Run) -> Tracker:
    from ray.tune.logger import TBXLoggerCallback

    folder = run.path / "tensorboard"
    try:
        inner = TBXLoggerCallback()  # type: ignore[no-untyped-call]
        folder.mkdir(exist_ok=True)
    except ImportError as error:
        raise _missing("tensorboard", error) from None
    except OSError as error:
        raise OdenasError(f"`loggers` writes to {folder}, which cannot be made: {error.strerror}") from None
    return Tracker(inner, config, run, folder, lambda one: Path(one.local_path).is_dir())


def _mlflow(config: SearchConfig, run: Run) -> Tracker:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        mlflow = import_module("mlflow")
        from ray.air.integrations.mlflow import MLflowLoggerCallback
    except ImportError as error:
        raise _missing("mlflow", error) from None

    folder = run.path.absolute() / "mlruns"
    named = os.environ.get("MLFLOW_TRACKING_URI")
    place = named or folder.as_uri()
    # The folder of the run may be moved or renamed; when it was made stays.
    tags = {"odenas_run": run.created, "data": config.data}
    try:
        inner = MLflowLoggerCallback(tracking_uri=place, experiment_name=f"odenas-{config.data}", tags=tags)
        inner.setup()  # type: ignore[no-untyped-call]
        client = mlflow.MlflowClient(tracking_uri=place)
        experiment, token = str(inner.mlflow_util.experiment_id), None
        earlier: dict[str, str] = {}
        while True:
            page = client.search_runs([experiment], f"tags.odenas_run = '{run.created}'", page_token=token)
            earlier |= {found.data.tags["trial_name"]: found.info.run_id for found in page}
            if not (token := page.token):
                break
        if not named:  # MLflow has written it there
            os.environ.pop("MLFLOW_TRACKING_URI", None)
    except Exception as error:  # MLflow has its own errors, and so have its stores and requests
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OdenasError(f"`loggers` names mlflow, but its store {place} cannot be used: {text}") from None

    def began(one: TrackedTrial) -> bool:
        if one not in inner._trial_runs and str(one) in earlier:
            inner._trial_runs[one] = earlier[str(one)]
        if one in inner._trial_runs:
            client.update_run(inner._trial_runs[one], status="RUNNING")
        return one in inner._trial_runs

    return Tracker(inner, config, run, folder, began)


TRACKERS: dict[str, Callable[[SearchConfig, Run], Tracker]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}


def _missing(name: str, error: ImportError) -> OdenasError:
    return OdenasError(f"`loggers` names {name}, which needs a package: pip install 'odenas[{name}]' ({error})")
