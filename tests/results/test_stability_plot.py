"""Pictures of stability regions: what is drawn where, file kinds, and bad input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from odenas.results.stability_plot import BLUE, OUTLINES, PALE, WHOLE, _window, plot_stability
from odenas.space import OdenasError, Scheme, Tableau, scheme
from odenas.space.implicit import ImplicitMultistep
from odenas.space.integrate import RK4
from odenas.space.method import Method
from odenas.space.stability import imaginary_interval, real_interval
from odenas.space.stability_region import stability_margin

FIVE_STEP = Tableau.multistep(("1/2", "1/5", "1/10", "1/10", "1/10"), ("3/2", "1/3", "1/4", "1/5", "1/6"))
NOWHERE = Tableau.multistep((3, -2), (1,))
METHODS: dict[str, Scheme | Method] = {
    **{name: scheme(name) for name in ("euler", "ab3", "midpoint", "momentum")},
    "rk4": RK4,
    "five steps": FIVE_STEP,
    "ab5": Tableau.multistep((1,), ("1901/720", "-1387/360", "109/30", "-637/360", "251/720")),
    "backward euler": ImplicitMultistep((1,), (1,)),  # type: ignore[arg-type]
    "trapezoidal": ImplicitMultistep((1,), ("1/2", "1/2")),  # type: ignore[arg-type]
    "nowhere": NOWHERE,
}


def drawn(method: Scheme | Method) -> Any:
    return method.tableau if isinstance(method, Scheme) else method


def share(path: Path, colour: str) -> float:
    """Return the share of a picture's pixels that have `colour`, within 3 of each of the 256 levels."""
    pixels: NDArray[np.int64] = np.asarray(Image.open(path).convert("RGB")).astype(np.int64)
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((abs(pixels - wanted).max(axis=-1) <= 3).mean())


@pytest.mark.parametrize("name", METHODS)
def test_the_window_holds_the_region(name: str) -> None:
    method = drawn(METHODS[name])
    window = _window(method)
    x, y = real_interval(method), imaginary_interval(method)
    width, height = window.right - window.left, window.top - window.bottom
    assert window.left < -min(x, width / 5)
    assert window.left < 0 < window.right
    assert window.top == -window.bottom > min(y, height / 3)
    assert 0.44 < height / width < 1.31


@pytest.mark.parametrize("name", ["euler", "ab3", "ab5", "rk4", "five steps", "momentum"])
def test_a_bounded_region_fills_the_window_and_stays_inside(name: str) -> None:
    window = _window(drawn(METHODS[name]))
    z = window.grid()
    stable = stability_margin(drawn(METHODS[name]), z) > 0
    assert not stable[[0, -1]].any()
    assert not stable[:, [0, -1]].any()
    across, along = z.real[stable], z.imag[stable]
    filled = max(np.ptp(across) / (window.right - window.left), np.ptp(along) / (window.top - window.bottom))
    assert filled > 0.65


def test_the_grid_covers_the_window_with_squares() -> None:
    z = _window(RK4).grid()
    assert z[0, 0] == pytest.approx(complex(_window(RK4).left, _window(RK4).bottom))
    assert z[-1, -1] == pytest.approx(complex(_window(RK4).right, _window(RK4).top))
    assert abs(z[0, 1] - z[0, 0]) == pytest.approx(abs(z[1, 0] - z[0, 0]), rel=0.01)
    assert _window(NOWHERE) == WHOLE
    assert _window(drawn(METHODS["trapezoidal"])).top < 10  # its boundary is the whole imaginary axis


def test_the_filled_share_of_the_picture_is_the_region(tmp_path: Path) -> None:
    """Euler's disc, and the half plane of the trapezoidal rule, without outlines that would cover parts."""
    for name in ("euler", "trapezoidal"):
        method = drawn(METHODS[name])
        plot_stability(method, name, tmp_path / "a.png", beside={})
        stable = float((stability_margin(method, _window(method).grid()) > 0).mean())
        image = Image.open(tmp_path / "a.png")
        window = _window(method)
        side = 4.4 * 200 / max(window.right - window.left, window.top - window.bottom)
        box = side**2 * (window.right - window.left) * (window.top - window.bottom) / (image.width * image.height)
        assert share(tmp_path / "a.png", PALE) == pytest.approx(stable * box, rel=0.12)


def test_outlines_in_view_are_drawn_and_own_region_is_not(tmp_path: Path) -> None:
    colours = [colour for colour, _ in OUTLINES]
    path = tmp_path / "a.png"
    plot_stability(scheme("ab3"), "AB3", path)
    assert all(share(path, colour) > 1e-4 for colour in (BLUE, PALE, *colours[:3]))
    plot_stability(scheme("ab3"), "AB3", path, beside={"same": scheme("ab3").tableau, "other": RK4})
    assert share(path, colours[0]) > 1e-4
    assert share(path, colours[1]) == 0
    plot_stability(METHODS["backward euler"], "backward Euler", path, beside={"in view": RK4})
    assert share(path, colours[0]) > 1e-4
    assert share(path, PALE) > 0.3


def test_a_region_without_interior_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    plot_stability(scheme("midpoint"), "midpoint", path, beside={})
    assert share(path, PALE) == 0
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    rows, columns = np.nonzero(abs(pixels - [0, 0x72, 0xB2]).max(axis=-1) <= 3)
    upper = rows < 0.85 * len(pixels)  # above the legend
    assert np.ptp(rows[upper]) > 20 * np.ptp(columns[upper])
    plot_stability(NOWHERE, "nowhere", path, beside={})
    assert share(path, BLUE) == 0


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")])
def test_suffix_decides_and_pictures_are_reproducible(suffix: str, head: bytes, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for file in files:
        plot_stability(scheme("ab2"), "AB2", file)
    assert files[0].read_bytes().startswith(head)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == files


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OdenasError, match=r"must end in one of \.png, \.pdf, \.svg"):
        plot_stability(RK4, "RK4", tmp_path / "a.gif")
    with pytest.raises(OdenasError, match="its folder does not exist"):
        plot_stability(RK4, "RK4", tmp_path / "none" / "a.png")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OdenasError, match="cannot be written"):
        plot_stability(RK4, "RK4", tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OdenasError, match=r"odenas\[plots\]"):
        plot_stability(RK4, "RK4", tmp_path / "a.png")
