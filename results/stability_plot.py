"""The picture of a method's region of absolute stability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odenas.results.files import replacing
from odenas.space import OdenasError, Scheme, scheme
from odenas.space.integrate import RK4
from odenas.space.method import Method
from odenas.space.stability import imaginary_interval, real_interval, spectral_radius
from odenas.space.stability_polynomial import stability_polynomial
from odenas.space.stability_region import boundary_locus, stability_margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".pdf", ".svg")
CLASSICAL: dict[str, Method] = {
    "forward Euler": scheme("euler").tableau,
    "Adams–Bashforth 2": scheme("ab2").tableau,
    "classic Runge–Kutta 4": RK4,
}
# Colours that the colour-blind can tell apart (Okabe and Ito, Color Universal Design, 2008); dashes serve in grey.
BLUE, PALE = "#0072B2", "#CBE2EF"
OUTLINES: tuple[tuple[str, Any], ...] = (
    ("#D55E00", (0, (5, 2))),
    ("#009E73", (0, (6, 2, 1.2, 2))),
    ("#000000", (0, (1.2, 1.5))),
    ("#CC79A7", "-"),
)
SETTINGS: dict[Any, Any] = {"font.size": 9, "svg.hashsalt": "odenas", "pdf.fonttype": 42}
DATES = {".png": "Software", ".pdf": "CreationDate", ".svg": "Date"}  # left out: equal pictures are equal files
SIDE = 4.4  # the longer one of the axes' box, inches
GRID = 500  # points along the longer side of the window
FLATTEST, TALLEST = 0.45, 1.3  # height of the window over its width


class Window(NamedTuple):
    """The part of the plane that is drawn."""

    left: float
    right: float
    bottom: float
    top: float

    def grid(self) -> NDArray[np.complex128]:
        """Return the points z of a grid of squares over the window, shape (rows, columns)."""
        step = max(self.right - self.left, self.top - self.bottom) / GRID
        x = np.linspace(self.left, self.right, round((self.right - self.left) / step) + 1)
        y = np.linspace(self.bottom, self.top, round((self.top - self.bottom) / step) + 1)
        return np.asarray(x[None, :] + 1j * y[:, None])


WHOLE = Window(-3.3, 1.1, -2.2, 2.2)  # for what is nowhere stable: the classical regions, cut above and below


def plot_stability(
    method: Scheme | Method,
    name: str,
    path: str | PathLike[str],
    beside: Mapping[str, Method] | None = None,
) -> None:
    """Draw the region of absolute stability of `method`, labelled `name`, in the plane of z = hλ.

    The region is filled; the outlines of the methods `beside` (label -> method), by default CLASSICAL, are drawn over
    it where they are in view, at most four, and none that has the same region. The window is chosen from the boundary
    of the region, so that a bounded region fills it. The suffix of `path` decides between PNG, PDF and SVG. A file
    that is there is replaced as a whole, or stays as it is if this fails.

    Raises:
        OdenasError: the suffix is another one, the file cannot be written, or matplotlib is not installed.
    """
    target, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OdenasError(f"`--plot` is {str(path)!r}, but must end in one of {', '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise OdenasError(f"`--plot` is {str(path)!r}, but its folder does not exist; make {target.parent} first")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise OdenasError("`--plot` needs matplotlib, which is not installed: pip install 'odenas[plots]'") from None
    drawn = method.tableau if isinstance(method, Scheme) else method
    window = _window(drawn)
    width, height = window.right - window.left, window.top - window.bottom
    size = SIDE * width / max(width, height) + 0.7, SIDE * height / max(width, height) + 1.0
    with rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        handles = _draw(axes, window, drawn, name, CLASSICAL if beside is None else beside)
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, handlelength=2.8)
        try:
            with replacing(target) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=200, metadata={DATES[suffix]: None})
        except OSError as error:
            raise OdenasError(f"`--plot` is {str(path)!r}, but cannot be written: {error.strerror or error}") from None


def _draw(axes: Axes, window: Window, method: Method, name: str, beside: Mapping[str, Method]) -> list[Any]:
    """Draw everything within the axes and return the handles of the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    z = window.grid()
    margin = stability_margin(method, z)
    handles: list[Any] = [Patch(facecolor=PALE, edgecolor=BLUE, linewidth=1.6, label=name)]
    if np.any(margin > 0):
        axes.contourf(z.real, z.imag, margin, levels=[0, 2], colors=[PALE], zorder=1)
        axes.contour(z.real, z.imag, margin, levels=[0], colors=[BLUE], linewidths=1.6, zorder=3)
    else:
        handles = [_segments(axes, method, name)]
    own = stability_polynomial(method)
    others = [(label, other) for label, other in beside.items() if stability_polynomial(other) != own]
    for (label, other), (colour, dashes) in zip(others, OUTLINES, strict=False):
        margin = stability_margin(other, z)
        if margin.min() < 0 < margin.max():
            axes.contour(
                z.real, z.imag, margin, levels=[0], colors=[colour], linestyles=[dashes], linewidths=1.3, zorder=4
            )
            handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=1.3, label=label))
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axhline(0, color="0.45", linewidth=0.7, zorder=2)
    axes.axvline(0, color="0.45", linewidth=0.7, zorder=2)
    axes.set(xlim=window[:2], ylim=window[2:], aspect="equal", xlabel="Re hλ", ylabel="Im hλ")
    return handles


def _segments(axes: Axes, method: Method, name: str) -> Any:
    """Draw a region without interior, which is its real and its imaginary interval, and return its handle."""
    from matplotlib.lines import Line2D

    x, y = real_interval(method), imaginary_interval(method)
    style: dict[str, Any] = {"color": BLUE, "linewidth": 3.5, "solid_capstyle": "butt"}
    for end, start in ((-x, 0), (1j * y, -1j * y)):
        if math.isfinite(abs(end)) and end:
            axes.plot([start.real, end.real], [start.imag, end.imag], zorder=3, **style)
    if not x and not y:
        return Line2D([], [], linestyle="none", label=f"{name}: unstable for all hλ ≠ 0")
    return Line2D([], [], label=name, **style)


def _window(method: Method) -> Window:
    """Return the window for `method`: the box of its region's boundary and the origin, and some space around."""
    locus = boundary_locus(method, 1441).ravel()
    locus = locus[np.isfinite(locus)]
    edge = locus[spectral_radius(method, locus) < 1 + 1e-6] if locus.size else locus
    unbounded = bool(np.any(stability_margin(method, 1e6 * np.exp(1j * np.linspace(0, 2 * np.pi, 65))) > 0))
    if unbounded and np.any(abs(edge) > 100):
        edge = edge[abs(edge) < 4]  # the boundary itself is unbounded: the imaginary axis of the trapezoidal rule
    x, y = np.r_[edge.real, 0], np.r_[edge.imag, 0]
    size = max(np.ptp(x), np.ptp(y)) or 1.0
    around = (0.5 if unbounded else 0.16) * size
    left, right, top = x.min() - around, x.max() + around, abs(y).max() + around
    wider = max(2 * top / TALLEST - (right - left), 0)
    top = max(top, FLATTEST * (right - left) / 2)
    window = Window(left - wider * 0.65, right + wider * 0.35, -top, top)
    on_axes = real_interval(method) or imaginary_interval(method)
    return window if on_axes or np.any(stability_margin(method, window.grid()) > 0) else WHOLE
