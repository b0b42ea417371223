"""Training with noise as a weak scheme of a stochastic differential equation (Itô).

A step x ← x + f(x) whose branch is made random moves x by a random increment. Its mean, the `drift`, and standard
deviation, the `diffusion`, are those of an Euler–Maruyama step of size 1 of (Lu et al. 2018)

    dX = drift dt + diffusion dW.

"Weak" means that expectations of functions of X are approximated, not paths. It is a scaling assumption: for a
network that refines, f = Δt a, the limit Δt → 0 keeps its noise only if the variance of an increment is O(Δt). A branch
of size Δt that is dropped with a fixed rate has the variance O(Δt²), and its limit is the differential equation alone;
noise must then grow like Δt^{−1/2}, or the equation be read at the step that the network has. `odenas.space.maruyama`
integrates such equations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odenas.space.entry import Entry
from odenas.space.scheme import Scheme
from odenas.space.stochasticity import Stochasticity
from odenas.space.tableau import Tableau

Array = NDArray[Any]
Branches = Sequence[Array] | Array  # values of one shape: f, or f₁ and f₂
Moment = Callable[[Branches, float], Array]


class WeakScheme(NamedTuple):
    """One kind of noise: the step's `increment` from branch values, rate and random number η, and its moments.

    `drift` and `diffusion` say in symbols what `mean` and `deviation` compute, `step` what x + `increment` is; `draw`
    returns η, of a shape, from a generator and the rate r.
    """

    step: str
    drift: str
    diffusion: str
    draw: Callable[[np.random.Generator, float, tuple[int, ...]], Array]
    increment: Callable[[Branches, float, Array], Array]
    mean: Moment
    deviation: Moment


def _coin(rng: np.random.Generator, rate: float, shape: tuple[int, ...]) -> Array:
    return (rng.random(shape) >= rate).astype(float)


def _normal(rng: np.random.Generator, rate: float, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


# The rows named as in STOCHASTICITIES are what a network does; a branch, or a batch, draws its own η.
WEAK_SCHEMES = {
    "depth": WeakScheme(
        "x + η f/p, η ~ Bernoulli(p), p = 1 − r (stochastic depth, scaled in training)",
        "f",
        "√((1 − p)/p) f",
        _coin,
        lambda f, r, eta: eta * f[0] / (1 - r),
        lambda f, r: f[0],
        lambda f, r: math.sqrt(r / (1 - r)) * f[0],
    ),
    "depth, unscaled": WeakScheme(
        "x + η f, η ~ Bernoulli(p), p = 1 − r (Huang et al. 2016, where the test multiplies by p)",
        "p f",
        "√(p(1 − p)) f",
        _coin,
        lambda f, r, eta: eta * f[0],
        lambda f, r: (1 - r) * f[0],
        lambda f, r: math.sqrt(r * (1 - r)) * f[0],
    ),
    "shake": WeakScheme(
        "x + η f₁ + (1 − η) f₂, η ~ U(½ − r/2, ½ + r/2) (shake-shake, Gastaldi 2017, with r = 1)",
        "½ (f₁ + f₂)",
        "r (f₁ − f₂)/√12",
        lambda rng, r, shape: rng.uniform((1 - r) / 2, (1 + r) / 2, shape),
        lambda f, r, eta: eta * f[0] + (1 - eta) * f[1],
        lambda f, r: (f[0] + f[1]) / 2,
        lambda f, r: r * (f[0] - f[1]) / math.sqrt(12),
    ),
    "additive": WeakScheme(
        "x + f + r η, η ~ N(0, 1)",
        "f",
        "r",
        _normal,
        lambda f, r, eta: f[0] + r * eta,
        lambda f, r: f[0],
        lambda f, r: np.full_like(f[0], r),
    ),
    "multiplicative": WeakScheme(
        "x + f (1 + r η), η ~ N(0, 1)",
        "f",
        "r f",
        _normal,
        lambda f, r, eta: f[0] * (1 + r * eta),
        lambda f, r: f[0],
        lambda f, r: r * f[0],
    ),
}


def euler_maruyama_additive(sigma: float = 0.001) -> Scheme:
    """Forward Euler with Gaussian noise, x ← x + f(x) + σξ: Euler–Maruyama for dX = f dt + σ dW. Order 1.

    σ = 0.001 is the default of the code of Lu et al. 2018.
    """
    return Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("additive", sigma, "constant"))


def euler_maruyama_multiplicative(sigma: float = 0.1) -> Scheme:
    """Forward Euler with a noisy branch, x ← x + f(x)(1 + σξ): Euler–Maruyama for dX = f dt + σf dW. Order 1."""
    return Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("multiplicative", sigma, "constant"))


def stochastic_depth(rate: float = 0.5) -> Scheme:
    """Forward Euler whose branch is dropped, x ← x + ηf(x)/p (Huang et al. 2016): `rate` 1 − p at the end. Order 1."""
    return Scheme(Tableau.multistep((1,), (1,)), stochasticity=Stochasticity("depth", rate))


def shake_shake(width: float = 1.0) -> Scheme:
    """Two branches of one state, x ← x + ηf₁(x) + (1 − η)f₂(x), η uniform in ½ ± `width`/2 (Gastaldi 2017). Order 1."""
    tableau = Tableau.runge_kutta(((0, 0), (0, 0)), ("1/2", "1/2"))
    return Scheme(tableau, stochasticity=Stochasticity("shake", width, "constant"))


STOCHASTIC: dict[str, Entry] = {
    "euler_maruyama_additive": Entry(
        "stochastic", "x ← x + f(x) + σξ, dX = f dt + σ dW (Lu et al. 2018). Order 1.", euler_maruyama_additive
    ),
    "euler_maruyama_multiplicative": Entry(
        "stochastic",
        "x ← x + f(x)(1 + σξ), dX = f dt + σf dW (Lu et al. 2018). Order 1.",
        euler_maruyama_multiplicative,
    ),
    "stochastic_depth": Entry(
        "stochastic", "x ← x + ηf(x)/p, dX = f dt + √((1 − p)/p) f dW (Huang et al. 2016). Order 1.", stochastic_depth
    ),
    "shake_shake": Entry(
        "stochastic",
        "x ← x + ηf₁(x) + (1 − η)f₂(x), dX = ½(f₁ + f₂) dt + (f₁ − f₂)/√12 dW (Gastaldi 2017). Order 1.",
        shake_shake,
    ),
}
