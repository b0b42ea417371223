"""The command line: exit status 2 and one line for what the user got wrong; help, schemes, tables."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock

from odenas.results import Run, load
from odenas.search import app
from odenas.search.config import SearchConfig
from odenas.search.terminal import show_trials
from odenas.space import describe, scheme, schemes
from odenas.space.implicit import IMPLICIT, implicit
from odenas.space.properties import PROPERTIES

SMALL = ["--trials", "1", "--epochs", "1", "--train-size", "60", "--depth", "14", "--width", "2"]


class Done:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and leave the signals as they were."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def odenas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""

    def call(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["odenas", *map(str, arguments)])
        code: Any = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a run of two trials whose weights are gone."""
    made = Run.create(tmp_path / "runs" / "a", SearchConfig().resolved(), {"odenas": "0"})
    for number, (name, status) in enumerate([("ab2", "COMPLETE"), ("lm", "FAIL")]):
        value = scheme(name)
        made.record_trial(
            {
                "number": number, "status": status, "label": describe(value), "scheme": json.dumps(value.to_dict()),
                "validation_error": 5.5 if number == 0 else None, "params": 100, "epochs": 2, "budget": 2, "order": 1,
                "stop_reason": "RuntimeError: [/tmp/x] [enforce fail]" if number else "budget reached",
            }
        )  # fmt: skip
    return made


WRONG = [
    (["search", "--data", "cifar-10"], r"`data` is 'cifar-10', but must be one of .* did you mean 'cifar10'\?"),
    (["search", "--trials", "0"], "`trials` is 0, but must be greater than or equal to 1"),
    (["search", "--trials", "many"], "Invalid value for '--trials': 'many' is not a valid integer"),
    (["search", "--trails", "3"], "No such option '--trails'"),
    (["search", "--params", "10"], "`params` is 10, but the narrowest network of this depth has"),
    (["search", "--depth", "21"], "`depth` is 21, but must be 6n [+] 2 .* the nearest is 20"),
    (["search", "--depth", "8"], "`depth` is 8 with 1 blocks a stage, but a scheme of 2 steps needs"),
    (["search", "--train-size", "5000"], "`train_size` is 5000, but must be an integer from 10 to 1000"),
    (["search", "--seed", "-1"], "`seed` is -1"),
    (["search", "--sampler", "hill"], "`sampler` is 'hill', but must be 'tpe'"),
    (["search", "--sampler", "grid"], "`sampler` is 'grid', but the space draws real numbers"),
    (["search", "none.toml"], "`CONFIG` is none.toml, which cannot be read: No such file"),
    (["search", "--address", "nowhere"], "`--address` is 'nowhere', but must be HOST:PORT"),
    (["search", "a.toml", "b.toml"], "unexpected extra argument"),
    (["schemes", "am2"], r"`scheme` is 'am2', but must be one of .* did you mean 'ab2'\?"),
    (["schemes", "am2", "--json"], "`scheme` is 'am2'"),
    (["schemes", "--plot", "a.png"], "`--plot` draws one scheme, but no NAME is given"),
    (["schemes", "ab2", "--plot", "a.doc"], r"a\.doc"),
    (["results", "none"], "`none` is no folder"),
    (["results", "."], "`.` is no run folder: it has no run.json"),
    (["results"], "Missing argument 'RUN'"),
    (["confirm", "none"], "`none` is no folder"),
    (["confirm", "."], "`.` is no run folder: it has no run.json"),
    (["confirm", ".", "--seeds", "0"], "Invalid value for '--seeds': 0 is not in the range x>=1"),
    (["export", ".", "--out", "x"], "`.` is no run folder"),
    (["export", "."], "Missing option '--out'"),
    (["data", "minst"], r"`data` is 'minst', but must be one of .* did you mean 'mnist'\?"),
    (["serach"], "No such command 'serach'"),
    (["--verbose"], "No such option '--verbose'"),
]


@pytest.mark.parametrize(("arguments", "match"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_what_the_user_got_wrong(odenas: Any, arguments: list[str], match: str, tmp_path: Path) -> None:
    done = odenas(*arguments)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("odenas: ")
    assert re.search(match, line)
    assert done.out == ""
    assert not list(tmp_path.iterdir())


def test_nobody_listens(odenas: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    begun = time.monotonic()
    done = odenas("search", "--address", address, *SMALL)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert address in done.err
    assert time.monotonic() - begun < 10
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_search_is_left_alone(odenas: Any, run: Run) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    done = odenas("search", "--run", run.path, "--seed", "3")
    assert done.code == 2
    assert "holds another search: there `seed` is 0, here 3; choose another folder" in done.err
    assert done.err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_folder_with_other_files_is_left_alone(odenas: Any, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("precious")
    done = odenas("search", "--run", thesis, *SMALL)
    assert done.code == 2
    assert done.err == f"odenas: `{thesis}` is not empty; a new run needs a folder that is empty or does not exist\n"
    assert [path.name for path in thesis.iterdir()] == ["thesis.tex"]
    assert (thesis / "thesis.tex").read_text() == "precious"
    for arguments in (["results", thesis], ["export", thesis, "--out", tmp_path / "x"]):
        assert odenas(*arguments).code == 2


def test_a_run_folder_has_one_search_at_a_time(odenas: Any, run: Run) -> None:
    with FileLock(run.path / ".lock"):
        done = odenas("search", "--run", run.path)
    assert done.code == 2
    assert "where another process is at work" in done.err
    assert done.err.count("\n") == 1


def test_export_needs_weights_and_an_empty_folder(odenas: Any, run: Run, tmp_path: Path) -> None:
    for trial, match in [
        ("7", "`--trial` is 7, but .* has the trials 0 to 1"),
        ("-1", "`--trial` is -1, but .* has the trials 0 to 1"),
        ("1", "`--trial` is 1, which has no weights to export .FAIL.; kept are those of none"),
        ("0", "`--trial` is 0, which has no weights to export .COMPLETE."),
    ]:
        done = odenas("export", run.path, "--trial", trial, "--out", tmp_path / "x")
        assert done.code == 2
        assert re.search(match, done.err)
        assert done.err.count("\n") == 1
    assert odenas("export", run.path, "--trial", "x", "--out", "y").code == 2
    assert not (tmp_path / "x").exists()
    empty = Run.create(tmp_path / "empty", SearchConfig().resolved(), {})
    assert "has no finished trial" in odenas("export", empty.path, "--out", "y").err
    assert "has no trials" in odenas("export", empty.path, "--out", "y", "--trial", "0").err


def test_results_are_printed_and_written(odenas: Any, run: Run, tmp_path: Path) -> None:
    done = odenas("results", run.path)
    assert done.code == 0
    assert "2 trials (1 done, 1 failed)" in " ".join(done.out.split())
    assert "ab2" in done.out
    assert "5.50" in done.out
    assert "[/tmp/x] [enforce fail]" in " ".join(done.out.split())
    for suffix in ("csv", "parquet", "json"):
        assert odenas("results", run.path, "--out", f"table.{suffix}").out == f"2 trials written to table.{suffix}\n"
    assert pd.read_parquet("table.parquet")["label"].tolist() == ["ab2", "lm"]
    assert json.loads(Path("table.json").read_text())[0]["validation_error"] == 5.5
    done = odenas("results", run.path, "--out", "table.xlsx")
    assert done.code == 2
    assert "`--out` is 'table.xlsx', but must end in one of .csv, .parquet, .json" in done.err
    assert odenas("results", run.path, "--top", "0").code == 2
    assert "1 more" in odenas("results", run.path, "--top", "1").out


def test_a_run_in_brackets_is_printed_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.create(tmp_path / "[bold]x[" / "b]", {}, {})
    show_trials(load(run.path), 3)
    assert "[bold]x[/b]" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    "command", [[], ["search"], ["results"], ["confirm"], ["export"], ["train"], ["data"], ["schemes"]]
)
def test_help(odenas: Any, command: list[str]) -> None:
    for option in ("--help", "-h"):
        done = odenas(*command, option)
        assert done.code == 0
        assert done.out.startswith("Usage: odenas")
        assert not done.err
    assert set(app.app.commands) == {"search", "results", "confirm", "export", "train", "data", "schemes"}


def test_version_and_no_command(odenas: Any) -> None:
    assert odenas("--version").out.startswith("odenas")
    done = odenas()
    assert (done.code, done.out.startswith("Usage: odenas")) == (0, True)


def test_schemes_as_json_are_their_properties(odenas: Any) -> None:
    known = json.loads(odenas("schemes", "--json").out)
    assert list(known) == [*schemes(), *IMPLICIT]
    for name, found in known.items():
        value = implicit(name) if name in IMPLICIT else scheme(name)
        assert set(found) == {"name", "family", "about", *PROPERTIES}
        assert type(value).from_dict(found["definition"]) == value
        assert (found["order"], found["zero_stable"]) == (value.order, value.zero_stable)
        for key in ("error_constant", "real_interval", "imaginary_interval"):
            assert float(found[key]) == getattr(value, key)
    one = json.loads(odenas("schemes", "ab2", "--json").out)
    assert (one["order"], one["error_constant"]) == (2, pytest.approx(5 / 12))


def test_schemes_are_printed(odenas: Any) -> None:
    done = odenas("schemes")
    assert done.code == 0
    assert all(f"  {name} " in done.out for name in [*schemes(), *IMPLICIT])
    for name in [*schemes(), *IMPLICIT]:
        assert odenas("schemes", name).out.startswith(name)


def test_a_step_is_written_out(odenas: Any) -> None:
    out = odenas("schemes", "lm").out
    assert "xₙ₊₁ = 21/20 xₙ − 1/20 xₙ₋₁ + 19/20 h f(xₙ)" in out
    assert "u' + 21/38 Δt u'' = f" in out
    assert "xₙ₊₁ = 18/11 xₙ − 9/11 xₙ₋₁ + 2/11 xₙ₋₂ + 6/11 h f(xₙ₊₁)" in odenas("schemes", "bdf3").out
    out = odenas("schemes", "rk4").out
    assert "Y₄ = xₙ + h f(Y₃)" in out
    assert "xₙ₊₁ = xₙ + 1/6 h f(Y₁) + 1/3 h f(Y₂) + 1/3 h f(Y₃) + 1/6 h f(Y₄)" in out
    assert "ζ + (−1 − z − 1/2z² − 1/6z³ − 1/24z⁴)" in out
    out = odenas("schemes", "symplectic_euler").out
    assert "zₙ₊₁ = zₙ + h g(Y₁)" in out


def test_a_stability_region_is_drawn(odenas: Any, tmp_path: Path) -> None:
    for name in ("ab3", "bdf2"):
        done = odenas("schemes", name, "--plot", str(tmp_path / f"{name}.png"))
        assert (done.code, str(tmp_path / f"{name}.png") in done.out) == (0, True)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_program_itself_fails_in_one_line() -> None:
    command = [sys.executable, "-c", "from odenas.search.app import main; main()", "schemes", "am2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(15), 143), (SystemExit(1), 143)],
)
def test_a_stopped_search_says_how_to_go_on(
    odenas: Any, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    """Ray may put a code of its own in place of that of the handler of SIGTERM."""

    def stopped(config: SearchConfig) -> Run:
        raise raised

    monkeypatch.setattr("odenas.search.driver.search", stopped)
    done = odenas("search", "--run", "x")
    assert (done.code, done.out) == (code, "")
    assert done.err == "\nStopped. The same command goes on: the run is in x\n"
