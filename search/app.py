"""The command line: `odenas search`, `results`, `confirm`, `export`, `train`, `data`, `schemes`."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click

from odenas.space import OdenasError

USER_ERROR = 2
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="odenas")
def app() -> None:
    """Search over numerical schemes: how a residual network steps from layer to layer."""


@app.command("search")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--run", help="Run folder; the same command on it goes on.  [runs/DATA]")
@click.option("--data", help="Data set, or folder:PATH for images in class folders.  [digits]")
@click.option("--backbone", help="Network: residual, torchvision:NAME or timm:NAME.  [residual]")
@click.option("--trials", type=int, help="Schemes to try.")
@click.option("--epochs", type=int, help="Epochs of a trial.")
@click.option("--train-size", type=int, help="Training images.")
@click.option("--depth", type=int, help="Layers, 6n + 2; 9n + 2 with bottlenecks.")
@click.option("--width", type=int, help="First stage's channels of the Euler network that sets the budget.")
@click.option("--params", type=int, help="Parameters of every network; overrides --width.")
@click.option("--seed", type=int, help="Of everything random.  [0]")
@click.option("--objective", "objectives", multiple=True, help="To minimise: validation_error, params, latency …")
@click.option("--constraint", "constraints", multiple=True, help="To keep, such as 'params <= 300k'.")
@click.option("--sampler", help="tpe, gp, cmaes, nsga2, nsga3, qmc, random or grid.  [tpe]")
@click.option("--scheduler", help="asha, hyperband, median or none.  [asha]")
@click.option("--workers", type=int, help="Trials at a time.  [as many as fit]")
@click.option("--cpus", type=float, help="CPUs of a trial.  [1]")
@click.option("--gpus", type=float, help="GPUs of a trial, fractions allowed.  [0]")
@click.option("--timeout", type=float, help="Seconds that a trial may train.  [no limit]")
@click.option("--compile", "compiled", is_flag=True, default=None, help="Let torch.compile make the training steps.")
@click.option("--address", help="Ray cluster to join.  [one on this machine]")
@click.option("--storage", help="Folder or URL (s3://…) that all nodes reach, for checkpoints.  [the run folder]")
@click.option("--logger", "loggers", multiple=True, help="tensorboard or mlflow, beside the tables.")
def search_command(config: Path | None, **overrides: Any) -> None:
    """Search for the best scheme, then retrain the best over seeds beside their Euler twins and LM-ResNet.

    CONFIG is a TOML file (README.md lists its keys); an option given here goes before it.
    """
    from odenas.search.config import read_config
    from odenas.search.confirmation_report import show_confirmation
    from odenas.search.driver import search
    from odenas.search.terminal import console, show_next

    resolved = read_config(config, {name: value for name, value in overrides.items() if value != ()})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        found = search(resolved)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo(f"\nStopped. The same command goes on: the run is in {resolved.folder}", err=True)
        # The code is not `stop`'s: Ray, interrupted while it starts or waits, puts one of its own in place of it.
        raise SystemExit(TERMINATED if isinstance(stop, SystemExit) else INTERRUPTED) from None
    show_confirmation(found, console)
    show_next(found)


@app.command()
@click.argument("run")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the table: .csv, .parquet, .json; or Optuna's study: .journal.",
)
@click.option("--top", type=click.IntRange(1), default=15, show_default=True, help="Rows to print.")
def results(run: str, out: Path | None, top: int) -> None:
    """Print the trials of RUN, best first, and what retraining confirmed; or write the whole table."""
    from odenas.results import leaderboard, load, write_table
    from odenas.search.confirmation_report import show_confirmation
    from odenas.search.terminal import console, show_trials

    opened = load(run)
    if out is None:
        show_trials(opened, top)
        show_confirmation(opened, console)
        return
    if out.suffix == ".journal":
        from odenas.search.dashboard import write_study

        click.echo(f"{write_study(opened, out)} trials written to {out}; to look at them: optuna-dashboard {out}")
        return
    table = leaderboard(opened)
    write_table(table, out)
    click.echo(f"{len(table)} trials written to {out}")


@app.command("confirm")
@click.argument("run")
@click.option("--top", type=click.IntRange(1), help="How many of the best schemes.  [as in the search]")
@click.option("--seeds", type=click.IntRange(1), help="Trainings of each network.  [as in the search]")
@click.option("--epochs", type=int, help="Epochs of each training.  [as in the search]")
@click.option("--train-size", type=int, help="Training images.  [as in the search]")
@click.option("--workers", type=int, help="Trainings at a time.  [as many as fit]")
@click.option("--gpus", type=float, help="GPUs of a training, fractions allowed.  [as in the search]")
@click.option("--address", help="Ray cluster to join.  [as in the search]")
def confirm_command(run: str, **options: Any) -> None:
    """Retrain the best schemes of RUN, their Euler twins and LM-ResNet over seeds, and read their test error once.

    The same command goes on where it was stopped; with more seeds or schemes only what is missing is trained.
    """
    from odenas.search.confirmation_report import show_confirmation
    from odenas.search.reevaluation import reevaluate
    from odenas.search.terminal import console, show_next

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        found = reevaluate(run, **options)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo(f"\nStopped. The same command goes on: the run is in {run}", err=True)
        raise SystemExit(TERMINATED if isinstance(stop, SystemExit) else INTERRUPTED) from None
    show_confirmation(found, console)
    show_next(found)


@app.command()
@click.argument("run")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must be new or empty.")
@click.option("--trial", type=int, help="Number of the trial.  [the winner]")
def export(run: str, out: Path, trial: int | None) -> None:
    """Write the network of a trial of RUN as a folder that needs only torch and safetensors."""
    from odenas.search.exporting import export_trial

    number, differences = export_trial(run, trial, out)
    shown = ", ".join(f"{value:.1e} in {name}" for name, value in differences.items())
    click.echo(f"Trial {number} exported to {out}: net.py, config.json, model.safetensors, README.md.")
    click.echo(
        f"Largest relative difference of its output, computed in a fresh process, to the trained one's: {shown}."
    )


@app.command()
@click.argument("name")
@click.option("--data", default="cifar10", show_default=True, help="Data set; `odenas data` lists them.")
@click.option(
    "--recipe", type=click.Choice(["published", "fast"]), default="published", show_default=True,
    help="As published, or in 30 epochs of large batches.",
)  # fmt: skip
@click.option("--epochs", type=int, help="Epochs; where fewer than the recipe's, the rate falls earlier in proportion.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first training; others follow one by one.")
@click.option("--seeds", type=int, default=1, show_default=True, help="Trainings.")
@click.option("--twin", is_flag=True, help="Train its forward Euler twin too, with the same recipe and seeds.")
@click.option("--train-size", type=int, help="Training images.  [all]")
@click.option("--gpu/--no-gpu", default=None, help="Where to train.  [on a GPU, if there is one]")
@click.option("--compile", "compiled", is_flag=True, help="Let torch.compile make the training steps.")
@click.option("--run", help="Run folder; the same command on it goes on.  [runs/NAME-DATA or runs/NAME-DATA-fast]")
@click.option("--out", type=click.Path(path_type=Path), help="Export the trained network too: a new or empty folder.")
def train(name: str, out: Path | None, twin: bool, **options: Any) -> None:
    """Train the network NAME with its published recipe, and read its test error once, at the end.

    NAME is a published network, such as lm-resnet56, lm-resnet56-sd, preact-resnet110 or momentum-resnet18, or
    SCHEME-DEPTH, such as rk4-38 or ab2-20, for any of `odenas schemes`; capitals, - and _ are all one. A name that is
    none of them gets the list as an answer.
    """
    from odenas.nets.named import canonical, look_up
    from odenas.search import training_report
    from odenas.search.exporting import export_trial
    from odenas.search.terminal import console
    from odenas.search.training_run import configuration, train_named

    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OdenasError(f"`--out` is {out}, which exists already; an export needs a new or empty folder")
    if out is not None:
        try:  # now, and not after the training
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OdenasError(f"`--out` is {out}, which cannot be made: {error.strerror}") from None
    row, name = look_up(name), canonical(name)
    config = configuration(row, name, **options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        run = train_named(name, config, twin, console)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo(f"\nStopped. The same command goes on: the run is in {config.folder}", err=True)
        raise SystemExit(TERMINATED if isinstance(stop, SystemExit) else INTERRUPTED) from None
    training_report.show_test(name, row, run, config, console)
    training_report.show_next(run, console)
    if out is not None:
        export_trial(run.path, None, out)
        click.echo(f"Exported to {out}: net.py, config.json, model.safetensors, README.md.")


@app.command()
@click.argument("name", required=False)
@click.option("--list", "listing", is_flag=True, help="List the data sets and what is there of them, as without NAME.")
def data(name: str | None, listing: bool) -> None:
    """Obtain the data set NAME and verify it; what is there already, whole or begun, is not obtained again."""
    from odenas.search.data import prepare
    from odenas.search.terminal import console, show_data_sets
    from odenas.search.transfer import ConsoleReport

    if name is None or listing:
        show_data_sets()
        return
    try:
        prepare(name, report=ConsoleReport(console))
    except KeyboardInterrupt:
        click.echo("\nStopped. The same command goes on.", err=True)
        raise SystemExit(INTERRUPTED) from None


@app.command("schemes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the stability region: FILE.png, .pdf or .svg.")
def schemes_command(name: str | None, as_json: bool, plot: Path | None) -> None:
    """Print what is known of the named schemes, or of one."""
    from odenas.search import scheme_page

    if plot and not name:
        raise OdenasError("`--plot` draws one scheme, but no NAME is given")
    if plot and name:
        scheme_page.plot(name, plot)
    if as_json:
        click.echo(json.dumps(scheme_page.known(name), indent=1, ensure_ascii=False))
    else:
        scheme_page.show(name)
        if plot:
            click.echo(f"\nThe stability region: {plot}")


def main() -> None:
    """Run the command line; what the user got wrong becomes one line on stderr and exit status 2."""
    try:
        app(standalone_mode=False, prog_name="odenas")
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        raise SystemExit(0) from None
    except click.ClickException as error:
        _refuse(error.format_message())
    except OdenasError as error:
        _refuse(str(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        raise SystemExit(INTERRUPTED) from None


def _refuse(message: str) -> None:
    click.echo(f"odenas: {' '.join(message.split())}", err=True)
    raise SystemExit(USER_ERROR)
