"""Denoising as the user runs it: a search, its tables, its export; and the classical denoisers beside it."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from odenas.results import load
from odenas.results.summary import parts
from odenas.search.data import load_test
from odenas.search.gaussian_noise import SIGMAS, fixed_noise
from odenas.search.psnr import psnr

SMALL = ["--trials", "3", "--epochs", "2", "--train-size", "40", "--depth", "8", "--width", "2", "--workers", "2"]
PATIENCE = 500.0


def odenas(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", "from odenas.search.app import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_search_ends_in_positive_decibels_and_in_a_network(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'data = "denoise"\nenqueue = ["euler", "lm", "ab2"]\n[confirm]\ntop = 1\nseeds = 2\n'
    )
    said = odenas(tmp_path, "search", "c.toml", "--run", "run", *SMALL)
    run = load(tmp_path / "run")
    assert run.config["backbone"] == "dense"
    assert run.trials["status"].tolist() == ["COMPLETE"] * 3
    assert run.trials["validation_error"].lt(-19.7).all()  # better than the noisy images
    assert set(run.trials["widths"]) == {"2"}
    assert (run.trials["validation_size"] == 234).all()
    retrained = run.confirmations
    assert retrained["status"].eq("COMPLETE").all()
    searched = run.trials.set_index("number")["validation_error"]
    for number in retrained.loc[retrained["role"] == "candidate", "number"].unique():
        assert f"{-searched[number]:.2f}" in said
    for row in retrained.to_dict("records"):
        each = json.loads(row["test_parts"])
        assert list(each) == ["σ 15", "σ 25", "σ 50"]
        assert sum(each.values()) / 3 == pytest.approx(row["test_error"])
        assert each["σ 15"] < each["σ 25"] < each["σ 50"] < 0
    shown = parts(retrained)
    assert f"{-shown.iloc[0]['σ 25']:.2f}" in said
    assert "test PSNR dB" in said

    # The same command finds nothing to do, and shows the same.
    again = odenas(tmp_path, "search", "c.toml", "--run", "run", *SMALL)
    assert again[again.index("Retrained") :] == said[said.index("Retrained") :]
    odenas(tmp_path, "export", "run", "--out", "network")
    assert "| validation PSNR (dB) | 2" in (tmp_path / "network" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_named_network_is_trained_as_a_dense_one(tmp_path: Path) -> None:
    said = odenas(tmp_path, "train", "ab2-8", "--data", "denoise", "--epochs", "1", "--train-size", "40", "--no-gpu")
    assert "Here: a dense network, 1 epoch, 40 training images, 234 others kept to validate." in said
    assert "PSNR on the 512 test images of denoise, read once, at the end:" in said
    error = load(tmp_path / "runs" / "ab2-8-denoise").confirmations["test_error"].item()
    assert f"ab2-8: {-error:.2f} dB, seed 0" in said


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "expected"), list(zip(SIGMAS, (30.96, 28.18, 24.54), strict=True)))
def test_what_non_local_means_gain_on_the_test_images(sigma: int, expected: float) -> None:
    """A classical baseline (Buades et al. 2005) that anyone can compute, on the very images that networks get."""
    restoration = import_module("skimage.restoration")
    clean = load_test("denoise").images
    (noisy,) = fixed_noise(iter([clean]), sigma)
    share = sigma / 255
    options = {"patch_size": 5, "patch_distance": 6, "h": 0.8 * share, "sigma": share, "fast_mode": True}
    restored = np.stack([restoration.denoise_nl_means(image[0].numpy() / 255, **options) for image in noisy])
    found = psnr(255 * torch.from_numpy(restored)[:, None], clean).mean().item()
    assert found == pytest.approx(expected, abs=0.02)
