"""The diffusivities g of nonlinear diffusion, and their fluxes Φ(s) = g(s²)s."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError

Array = NDArray[np.float64]

WEICKERT = 3.31488  # solves e^c = 1 + 8c, so that the flux turns at s = λ


class Diffusivity(NamedTuple):
    """A diffusivity g with the supremum 1, and what is known of its flux Φ(s) = g((s/λ)²) s; λ is the contrast.

    Fields: `g` of (s/λ)²; whether Φ is `monotone`; the `lipschitz` constant of Φ; its `least_slope` inf Φ' ; its
    `peak` sup |Φ|/λ, taken at the s/λ called `at`, infinite where it is not taken.
    """

    about: str
    g: Callable[[Array], Array]
    monotone: bool
    lipschitz: float
    least_slope: float
    peak: float
    at: float

    def flux(self, s: ArrayLike, contrast: float = 1.0) -> Array:
        """Return Φ(s), of the shape of `s`.

        Raises:
            OdenasError: `contrast` is not above 0.
        """
        scale = positive("contrast", contrast)
        values = np.asarray(s, dtype=np.float64)
        return self.g((values / scale) ** 2) * values


def _weickert(ratio: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):
        return -np.expm1(-WEICKERT / ratio**4)


DIFFUSIVITIES = {
    "constant": Diffusivity("1: linear diffusion", np.ones_like, True, 1.0, 1.0, math.inf, math.inf),
    "charbonnier": Diffusivity(
        "(1 + s²/λ²)^{−1/2} (Charbonnier, Blanc-Féraud, Aubert, Barlaud 1997)",
        lambda ratio: 1 / np.sqrt(1 + ratio),
        True,
        1.0,
        0.0,
        1.0,
        math.inf,
    ),
    "perona-malik": Diffusivity(
        "1/(1 + s²/λ²) (Perona, Malik 1990)", lambda ratio: 1 / (1 + ratio), False, 1.0, -1 / 8, 1 / 2, 1.0
    ),
    "perona-malik-exponential": Diffusivity(
        "exp(−s²/(2λ²)) (Perona, Malik 1990)",
        lambda ratio: np.exp(-ratio / 2),
        False,
        1.0,
        -2 * math.exp(-3 / 2),
        math.exp(-1 / 2),
        1.0,
    ),
    "weickert": Diffusivity(
        "1 − exp(−3.31488/(s/λ)⁸), 1 at s = 0 (Weickert, Anisotropic Diffusion in Image Processing, 1998)",
        _weickert,
        False,
        8 * math.exp(-7 / 8) - 1,
        1 - 8 * math.exp(-7 / 8),
        1 - math.exp(-WEICKERT),
        1.0,
    ),
}


def positive(name: str, value: float) -> float:
    """Return the value, a finite number above 0.

    Raises:
        OdenasError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise OdenasError(f"`{name}` is {value!r}, but must be a finite number above 0")
    return value
