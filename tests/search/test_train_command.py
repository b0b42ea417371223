"""`odenas train`: recipe, run folder, test error, twin, going on after a stop, what the user got wrong."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from odenas.nets.named import look_up, named, twin_of
from odenas.nets.named_networks import NETWORKS
from odenas.results import load, summary
from odenas.search import app, training_report, training_run
from odenas.search.budget import parameter_budget
from odenas.search.data import DATASETS, load_test
from odenas.search.progress import INTERVAL
from odenas.search.recipe import Recipe
from odenas.search.train import evaluate, network_state
from odenas.search.training_progress import TrainingProgress
from odenas.search.training_recipes import RECIPES, described, recipe_for, recipe_of
from odenas.search.training_run import configuration
from odenas.search.trial import read_checkpoint
from odenas.space import OdenasError

torch.set_num_threads(1)
SMALL = ["--data", "digits", "--train-size", "40"]


class Done:
    """How a command ended."""

    def __init__(self, code: Any, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run `odenas train` in this process."""
    before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["odenas", "train", *arguments]
    code: Any = 0
    try:
        app.main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_seeds_twin_results_and_export(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    exported = {}

    def export(network: Any, folder: Path, **about: Any) -> dict[str, float]:
        exported[str(folder)] = about["provenance"]
        assert network.architecture["widths"] == [16, 32, 64]
        return {}

    monkeypatch.setattr("odenas.search.exporting.export", export)  # its own tests wait for its fresh process
    done = call(capsys, "ab2-14", *SMALL, "--epochs", "1", "--seed", "3", "--seeds", "2", "--twin", "--out", "net")
    assert (done.code, done.err) == (0, "")
    run = load("runs/ab2-14-digits")
    trials, confirmed = run.trials, run.confirmations
    assert list(zip(trials["label"], trials["status"], trials["seed"], strict=True)) == [
        ("ab2-14", "COMPLETE", 3),
        ("ab2-14", "COMPLETE", 4),
    ]
    assert list(zip(confirmed["label"], confirmed["seed"], strict=True)) == [
        ("ab2-14", 3),
        ("twin of ab2-14", 3),
        ("ab2-14", 4),
        ("twin of ab2-14", 4),
    ]
    for column in ("epochs", "data", "seed", "params", "train_size", "version_odenas", "version_torch", "started"):
        assert trials[column].notna().all()
        assert confirmed[column].notna().all()
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
    ]
    # The test error is that of the weights that were kept, on the test images.
    test = load_test("digits")
    for number, row in confirmed[confirmed["role"] == "baseline"].reset_index(drop=True).iterrows():
        saved = read_checkpoint(run.checkpoint(int(str(number))))
        assert saved is not None
        network = named("ab2-14", 10, 1)
        network.load_state_dict(network_state(saved[0]))
        assert row["test_error"] == pytest.approx(evaluate(network, test, DATASETS["digits"])[1])
    mine = summary(confirmed).set_index("label").loc["ab2-14"]
    assert f"ab2-14: {mine['mean']:.2f} ± {mine['std']:.2f} % over 2 seeds" in done.out
    assert f"less its twin: {mine['difference']:+.2f} [{mine['difference_low']:+.2f}" in done.out
    for told in ("1 of the recipe's 160 epochs", "40 images", "torch 2.", "(seed 4)", f"{mine['params']} parameters"):
        assert told in done.out
    assert "Published" not in done.out
    (best,) = exported.values()
    errors = trials.set_index("number")["validation_error"]
    assert list(exported) == ["net"]
    assert best["validation error (%)"] == pytest.approx(errors.min(), abs=1e-4)
    # The same command trains nothing more; more seeds are added to those there are.
    assert call(capsys, "ab2-14", *SMALL, "--epochs", "1", "--seed", "3", "--seeds", "2", "--twin").code == 0
    assert len(load(run.path).epochs) == 2
    assert len((run.path / "confirm.jsonl").read_text().splitlines()) == 4


def test_the_test_images_are_read_once_after_the_last_epoch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs_done = []

    def reading(name: str) -> Any:
        epochs_done.append(len(load("r").epochs))
        return load_test(name)

    monkeypatch.setattr(training_run, "load_test", reading)
    assert call(capsys, "euler-8", *SMALL, "--epochs", "3", "--run", "r").code == 0
    assert epochs_done == [3]


def test_a_stopped_training_goes_on_as_if_never_stopped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["lm-14", *SMALL, "--epochs", "3"]
    with monkeypatch.context() as patch:

        def stop(progress: TrainingProgress, row: dict[str, Any]) -> None:
            if row["epoch"] == 2:
                raise KeyboardInterrupt

        patch.setattr(TrainingProgress, "epoch", stop)
        done = call(capsys, *arguments, "--run", "stopped")
    assert done.code == 130
    assert done.err.strip() == "Stopped. The same command goes on: the run is in stopped"
    (row,) = load("stopped").trials.to_dict("records")
    assert (row["status"], row["epochs"], len(load("stopped").confirmations)) == ("RUNNING", 2, 0)
    assert call(capsys, *arguments, "--run", "stopped").code == 0
    assert call(capsys, *arguments, "--run", "whole").code == 0
    stopped, whole = load("stopped"), load("whole")
    for column in ("train_loss", "validation_error"):
        assert stopped.epochs[column].to_list() == whole.epochs[column].to_list()
    assert stopped.confirmations["test_error"].to_list() == whole.confirmations["test_error"].to_list()
    assert stopped.trials["epochs"].to_list() == [3]
    assert len((stopped.path / "epochs.jsonl").read_text().splitlines()) == 3  # nothing is noted twice
    assert stopped.coefficients["value"].to_list() == whole.coefficients["value"].to_list()
    assert len(whole.coefficients) > 0


def spoil(path: Path) -> None:
    """Change one bit in the midst of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (["00000"], "; its training goes on after epoch 2"),
        (["00000", "00000.previous"], "; its training starts again"),
    ],
)
def test_a_damaged_checkpoint_costs_what_it_held_and_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spoilt: list[str], told: str
) -> None:
    arguments = ["lm-14", *SMALL, "--epochs", "4", "--seeds", "2", "--recipe", "fast"]
    with monkeypatch.context() as patch:

        def stop(progress: TrainingProgress, row: dict[str, Any]) -> None:
            if progress.title.endswith("seed 1") and row["epoch"] == 3:
                raise KeyboardInterrupt

        patch.setattr(TrainingProgress, "epoch", stop)
        assert call(capsys, *arguments, "--run", "r").code == 130
    before = load("r")
    for name in spoilt:
        spoil(before.path / "checkpoints" / f"{name.replace('00000', '00001')}.safetensors")
    done = call(capsys, *arguments, "--run", "r")
    assert (done.code, done.err) == (0, "")
    (line,) = [line for line in done.out.splitlines() if "checkpoint" in line]
    assert line == f"lm-14, seed 1: the last checkpoint is damaged or gone{told}"
    assert "damaged" in (before.path / "log.txt").read_text()
    assert call(capsys, *arguments, "--run", "whole").code == 0
    after, whole = load("r"), load("whole")
    for table in ("epochs", "coefficients", "confirmations"):
        left = ["seconds", "started", "finished"]
        here, there = (getattr(run, table).drop(columns=left, errors="ignore") for run in (after, whole))
        assert here.equals(there), table
    # What was finished before is as it was, to the second.
    assert after.confirmations.iloc[0].equals(before.confirmations.iloc[0])
    assert sorted(path.name for path in (after.path / "checkpoints").iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
    ]


def test_a_loss_that_is_not_finite_is_a_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(task: Any, report: Any) -> None:
        report({"epoch": 1, "objective": 100.0, "rows": [], "reason": "non-finite loss", "failure": "non-finite loss"})

    monkeypatch.setattr(training_run, "train_trial", diverging)
    done = call(capsys, "euler-8", *SMALL, "--epochs", "1", "--run", "r")
    assert (done.code, done.err) == (2, "odenas: no training of euler-8 succeeded: non-finite loss; see r\n")
    assert load("r").trials["status"].to_list() == load("r").confirmations["status"].to_list() == ["FAIL"]


def test_what_breaks_from_outside_is_tried_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(task: Any, report: Any) -> None:
        report({"epoch": 1, "objective": 100.0, "rows": [], "reason": "OSError: no room", "failure": "…", "errno": 28})

    arguments = ["euler-8", *SMALL, "--epochs", "1", "--run", "r"]
    with monkeypatch.context() as patch:
        patch.setattr(training_run, "train_trial", full)
        done = call(capsys, *arguments)
    assert (done.code, done.err) == (2, "odenas: the training of euler-8 with seed 0 stopped: OSError: no room\n")
    assert call(capsys, *arguments).code == 0
    assert load("r").trials["status"].to_list() == ["COMPLETE"]


WRONG = [
    (["lm_resnet21"], r"`NAME` is 'lm_resnet21', .* did you mean 'lm_resnet20'\?$"),
    (["rk4-37"], "`depth` is 37, but must be 6n [+] 2 .* the nearest is 38"),
    (["stormer_verlet-20", "--data", "digits", "--width", "1"], "No such option '--width'"),
    (["preact_resnet20", "--twin"], "`--twin` is given, but preact_resnet20 steps by forward Euler"),
    (["preact_resnet1001", "--twin"], "it is its own twin"),
    (["lm_resnet20", "--data", "cifar"], r"`data` is 'cifar', .* did you mean 'cifar10'\?"),
    (["lm_resnet20", "--recipe", "quick"], "Invalid value for '--recipe': 'quick' is not one of 'published', 'fast'"),
    (["multigrid22", "--data", "denoise", "--recipe", "fast"], "`--recipe` is 'fast', which is for classifiers, but"),
    (["lm_resnet20", "--epochs", "0"], "`epochs` is 0, but must be greater than or equal to 1"),
    (["lm_resnet20", "--seeds", "0"], "`seeds` is 0, but must be an integer from 1"),
    (["lm_resnet20", "--seed", "-1"], "`seed` is -1"),
    (["lm_resnet20", "--data", "digits", "--train-size", "5000"], "`train_size` is 5000, but must be an integer"),
    (["lm_resnet20", "--out", "full"], "`--out` is full, which exists already"),
    ([], "Missing argument 'NAME'"),
]


@pytest.mark.parametrize(("arguments", "match"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_what_the_user_got_wrong(capsys: pytest.CaptureFixture[str], arguments: list[str], match: str) -> None:
    Path("full").write_text("")
    done = call(capsys, *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert re.search(match, line), line
    assert not Path("runs").exists()


def test_a_folder_of_another_training_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--epochs", "1", "--run", "r"]
    assert call(capsys, "ab2-14", *arguments).code == 0
    done = call(capsys, "midpoint-14", *arguments)
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "odenas: `--run` is r, which holds another search: there `network` is 'ab2-14', here 'midpoint-14'; choose "
            "another folder"
        ],
    )
    done = call(capsys, "ab2-14", *SMALL, "--epochs", "2", "--run", "r")
    assert done.code == 2
    assert "there `epochs` is 1, here 2" in done.err


@pytest.mark.parametrize("name", NETWORKS)
def test_the_learning_rate_falls_at_the_published_epochs(name: str) -> None:
    row = NETWORKS[name]
    config = configuration(row, name, gpu=False)
    assert config.epochs == row.recipe.epochs
    for epoch in range(config.epochs):
        fallen = sum(epoch >= milestone for milestone in row.recipe.milestones)
        rate = row.recipe.learning_rate / 10**fallen
        assert config.recipe.rate(epoch / config.epochs) == pytest.approx(rate), epoch
    short = configuration(row, name, epochs=10, gpu=False)
    assert short.recipe == config.recipe


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fast_recipe_scales_the_rate_with_the_batch(name: str) -> None:
    row = NETWORKS[name]
    config = configuration(row, name, recipe="fast", gpu=False)
    recipe = config.recipe
    assert (config.epochs, recipe.batch_size, recipe.schedule, recipe.warmup) == (30, 512, "one-cycle", 0.2)
    assert (recipe.label_smoothing, recipe.ema, recipe.nesterov, recipe.weight_decay) == (0.1, 0.99, True, 5e-4)
    assert recipe.learning_rate == pytest.approx(row.recipe.learning_rate * 512 / row.recipe.batch_size)
    assert str(config.folder) == f"runs/{name}-cifar10-fast"
    assert configuration(row, name, recipe="fast", epochs=3, gpu=False).recipe == recipe


@pytest.mark.parametrize(
    ("images", "batch"), [(1, 16), (600, 16), (1023, 16), (1024, 32), (2000, 32), (10_000, 256), (45_000, 512)]
)
def test_a_fast_epoch_of_few_images_still_has_steps(images: int, batch: int) -> None:
    row = NETWORKS["lm_resnet20"]
    recipe = recipe_for(row, "cifar10", "fast", images).recipe
    assert recipe.batch_size == batch
    assert recipe.learning_rate == pytest.approx(0.1 * batch / 128)
    assert images // batch >= 32 or batch == 16


def test_every_recipe_is_known_again_and_said_in_words() -> None:
    row = NETWORKS["lm_resnet20"]
    for data in ("cifar10", "cifar100", "denoise"):
        for name in RECIPES if data != "denoise" else ["published"]:
            known = recipe_for(row, data, name, 2000)
            assert recipe_of(row, data, known.recipe, 2000) == known
            assert f"batch {known.recipe.batch_size}" in described(known.recipe)
    assert recipe_of(row, "cifar10", Recipe(batch_size=7)) is None
    fast = described(recipe_for(row, "cifar10", "fast").recipe)
    for told in ("momentum 0.9 (Nesterov)", "rate 0.4", "first 20 %", "smoothing 0.1", "decay 0.99"):
        assert told in fast
    assert "falls to 0 in the last 20 %, reached in the first 5 %" in described(Recipe(schedule="trapezoid"))


def test_on_cifar100_lu_et_al_train_longer() -> None:
    for name, decay in (("lm_resnet56", 1e-4), ("lm_resnext29_8x64d", 5e-4)):
        config = configuration(NETWORKS[name], name, data="cifar100", gpu=False)
        assert (config.epochs, config.recipe.milestones, config.recipe.weight_decay) == (300, (0.5, 0.75), decay)
    config = configuration(NETWORKS["lm_resnet56_sd"], "lm_resnet56_sd", data="cifar100", gpu=False)
    assert config.epochs == 500


def test_a_name_is_one_folder_however_it_is_written() -> None:
    written = ["lm_resnet56", "lm-resnet56", "LM-ResNet-56"]
    configs = [configuration(look_up(name), name, gpu=False) for name in written]
    assert {config.network for config in configs} == {"lm_resnet56"}
    assert {str(config.folder) for config in configs} == {"runs/lm_resnet56-cifar10"}


def test_a_folder_begun_by_the_other_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["AB2-14", *SMALL, "--epochs", "1"]
    assert call(capsys, *arguments, "--run", "r").code == 0
    done = call(capsys, *arguments, "--run", "r", "--recipe", "fast")
    assert (done.code, done.err) == (
        2,
        "odenas: `--recipe` is 'fast', but r holds a training by the recipe 'published': give that one, or another "
        "folder to `--run`\n",
    )
    assert call(capsys, *arguments, "--recipe", "fast").code == 0
    run = load("runs/ab2-14-digits-fast")
    assert run.config["recipe"]["ema"] == 0.99
    done = call(capsys, *arguments, "--run", str(run.path))
    assert done.err.startswith("odenas: `--recipe` is 'published', but runs/ab2-14-digits-fast holds a training by")
    # What else differs is said as it always was.
    done = call(capsys, "ab2-14", "--data", "digits", "--train-size", "50", "--run", "r", "--recipe", "fast")
    assert "which holds another" in done.err


def test_the_weights_that_are_kept_and_judged_are_the_averaged_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "euler-8", *SMALL, "--epochs", "2", "--run", "r", "--recipe", "fast").code == 0
    saved = read_checkpoint(load("r").checkpoint(0))
    assert saved is not None
    raw = {name.removeprefix("average.raw."): value for name, value in saved[0].items() if "average.raw." in name}
    kept = network_state(saved[0])
    assert set(raw) == set(kept)
    assert not torch.equal(raw["stem.weight"], kept["stem.weight"])
    network = named("euler-8", 10, 1)
    network.load_state_dict(kept)
    (error,) = load("r").confirmations["test_error"]
    assert error == pytest.approx(evaluate(network, load_test("digits"), DATASETS["digits"]).error)


def test_milestones() -> None:
    recipe = Recipe(learning_rate=1, schedule="step", milestones=(0.25, 0.5, 0.9))
    assert [recipe.rate(at) for at in (0, 0.24, 0.25, 0.5, 0.89, 0.9)] == pytest.approx([1, 1, 0.1, 0.01, 0.01, 0.001])
    assert Recipe(schedule="step", milestones=()).rate(0.99) == 0.1
    assert Recipe(**json.loads(recipe.model_dump_json())) == recipe
    refused: list[Any] = [(0.5, 0.5), (0.5, 0.2), (0.0,), (1.0,), ("0.5",), (True,)]
    for wrong in refused:
        with pytest.raises(ValueError, match="milestones"):
            Recipe(milestones=wrong)
    network = torch.nn.Linear(1, 1)
    assert [Recipe(nesterov=on).optimizer(network).param_groups[0]["nesterov"] for on in (True, False)] == [True, False]


@pytest.mark.parametrize("name", ["lm_resnet20", "lm_resnet164", "momentum_resnet18", "rk4-38", "revnet38"])
def test_the_budget_is_the_networks_and_near_to_it_the_twins(name: str) -> None:
    config = configuration(look_up(name), name, gpu=False)
    budget, (of_twin, other) = parameter_budget(config), twin_of(name)
    with torch.device("meta"):
        own, twin = named(name), named(of_twin, scheme=other, params=budget)
    scheme_own = sum(weight.numel() for weight in own.weights.parameters())
    assert sum(weight.numel() for weight in own.parameters()) - scheme_own == budget
    if name.startswith("lm"):
        assert twin.architecture["widths"] == own.architecture["widths"]
    assert sum(weight.numel() for weight in twin.parameters()) == pytest.approx(budget, rel=0.02)


def test_what_is_published_of_a_network() -> None:
    (line,) = training_report.published_errors(NETWORKS["lm_resnet20"])
    assert line.startswith("8.33 % (project page of Lu et al. 2018")
    first, second = training_report.published_errors(NETWORKS["preact_resnet164"])
    assert first.startswith("5.46 %, median, 5 runs")
    assert second.startswith("5.90 %, median, 3 runs")
    assert training_report.published_errors(NETWORKS["lm_resnet56_sd"]) == []


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OdenasError, match="`--gpu` is given, but torch finds no GPU here"):
        configuration(NETWORKS["lm_resnet20"], "lm_resnet20", gpu=True)
    assert configuration(NETWORKS["lm_resnet20"], "lm_resnet20").gpus == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert configuration(NETWORKS["lm_resnet20"], "lm_resnet20").gpus == 1


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "train_loss": 1.5, "validation_error": 20.0, "seconds": 60.0}


def test_few_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    text = io.StringIO()
    with TrainingProgress(2, 50, Console(file=text, width=200)) as progress:
        for title in ("net, seed 0", "twin, seed 0"):
            progress.begin(title)
            for epoch in range(1, 51):
                progress.epoch(row(epoch))
                now[0] += INTERVAL / 20
            progress.end()
    lines = text.getvalue().splitlines()
    # One at once, then one after every 20 epochs, and the last one of each training.
    assert [int(re.findall(r"epoch (\d+)/50", line)[0]) for line in lines] == [1, 21, 41, 50, 21, 41, 50]
    first = "1/2 net, seed 0 · epoch 1/50 · loss 1.500 · validation error 20.00 %"
    assert lines[0] == f"{first} · 0:00:00 gone, about 1:39:00 left"
    assert lines[-1].startswith("2/2 twin, seed 0 · epoch 50/50")
    assert lines[-1].endswith("gone")


def test_one_live_line_in_a_terminal() -> None:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    with TrainingProgress(1, 2, console) as progress:
        progress.begin("net, seed 0")
        progress.epoch(row(1))
        assert progress.live is not None
        progress.live.refresh()
        progress.end()
    assert "net, seed 0 · epoch 1/2" in text.getvalue()
