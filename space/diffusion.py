"""Diffusion as a network: the schemes for x' = −KᵀΦ(Kx), and their bounds.

The state is x, K a bank of derivative filters (a convolution) with the spectral norm ‖K‖, and Φ(s) = g(s²)s the flux
with the diffusivity g, applied entry by entry; L is the supremum of g. Forward Euler of it is a residual block with
the two convolutions K and −Kᵀ (Alt, Schrader, Augustin, Peter, Weickert, "Connections between numerical algorithms
for PDEs and neural networks", J. Math. Imaging Vis. 2022, arXiv 2107.14742). So are the schemes here.
"""

from __future__ import annotations

from fractions import Fraction

from odenas.space.diffusivities import positive
from odenas.space.entry import Entry
from odenas.space.errors import OdenasError, integer
from odenas.space.implicit import implicit
from odenas.space.predictor_corrector import fixed_point
from odenas.space.scheme import Scheme
from odenas.space.tableau import Number, Tableau, number


def explicit_bound(lipschitz: float, norm: float) -> float:
    """Return the largest step τ = 2/(L‖K‖²) for which forward Euler never raises ‖x‖, for any depth (Alt et al.).

    Any L with 0 ≤ g ≤ L serves: the step is I − τKᵀGK with the diagonal matrix G = g, symmetric with eigenvalues in
    [1 − τL‖K‖², 1]. A Lipschitz constant of Φ with Φ(0) = 0 is such an L, but not always the least. Two solutions may
    part from each other all the same, where Φ is not monotone.

    Raises:
        OdenasError: L or the norm is not above 0.
    """
    return 2 / positive("lipschitz", lipschitz) / positive("norm", norm) / norm


def du_fort_frankel_bound(lipschitz: float, norm: float) -> float:
    """Return the least α = L‖K‖²/4 for which the Du Fort–Frankel scheme is stable for every step τ (Alt et al.).

    Stable means that its roots lie in the unit disc while g does not change; ‖x‖ itself may rise for a while.

    Raises:
        OdenasError: L or the norm is not above 0.
    """
    return positive("lipschitz", lipschitz) * positive("norm", norm) * norm / 4


def du_fort_frankel(ratio: Number | int | str = 1) -> Scheme:
    """Du Fort–Frankel, (1 + 2τα) x_{n+1} = 4τα x_n + (1 − 2τα) x_{n−1} + 2τ f(x_n), with `ratio` = τα (Alt et al.).

    The step is h = τ: a two-step scheme with k = (1 − 2τα)/(1 + 2τα), V = (1 − k, k) and the slope weight 1 + k. The
    real interval is 4τα, so that α ≥ L‖K‖²/4 makes every τ stable. The price is that it solves x' + ατ² x'' = f: of
    order 1 for a fixed ratio, and consistent under refinement only if ατ² → 0. The first step is forward Euler's.

    Raises:
        OdenasError: the ratio is not above 0.
    """
    twice = 2 * Fraction(number("ratio", ratio))
    if twice <= 0:
        raise OdenasError(f"`ratio` is {ratio!r}, but must be above 0")
    k = (1 - twice) / (1 + twice)
    return Scheme(Tableau.multistep((1 - k, k), (1 + k,)), start="euler")


def fsi(cycle: int = 3) -> Scheme:
    """Fast semi-iterative scheme (FSI): a cycle of M inner steps as a Runge–Kutta method of M stages. Order 1.

    u_{l+1} = α_l (u_l + τ f(u_l)) + (1 − α_l) u_{l−1}, α_l = (4l + 2)/(2l + 3), for l = 0 … M − 1 with u_{−1} = u_0,
    begun anew in each cycle (Hafner, Ochs, Weickert, Reißel, Grewenig 2016; as a network in Alt et al.). A cycle is
    one step h = τ(M² + M)/3: for M evaluations of f, (M + 1)/3 times as far as forward Euler goes with τ.

    The inner step keeps to the explicit bound τ ≤ 2/(L‖K‖²): then every u_l of a linear f is a polynomial of modulus
    at most 1 in τKᵀK, and in one dimension with τ = 1/2 it is a box filter of length 2l + 1. The real interval is thus
    at least 2(M² + M)/3; exactly (M² + M)/3·(1 + cosh θ) with cosh((M + ½)θ) = (2M + 1) cosh(θ/2), θ > 0. For other
    fluxes this proves nothing: bounds of two-step matrices for one g each do not compose.

    Raises:
        OdenasError: the cycle is no integer from 1 to 100.
    """
    stages = integer("cycle", cycle, 1, 100)
    rows = [[Fraction(0)] * stages]  # row l is u_l − x_n in terms of h f(u_0) … h f(u_{M−1})
    for step in range(stages):
        alpha = Fraction(4 * step + 2, 2 * step + 3)
        row = [alpha * new + (1 - alpha) * old for new, old in zip(rows[-1], rows[-2:][0], strict=True)]
        row[step] += alpha * Fraction(3, stages * (stages + 1))  # α_l τ/h
        rows.append(row)
    return Scheme(Tableau.runge_kutta(rows[:-1], rows[-1]), tying="stages")


def implicit_diffusion(iterations: int = 2) -> Scheme:
    """Implicit Euler by m fixed-point iterations from x_n, u ← x_n + h f(u), the last u being x_{n+1} (Alt et al.).

    One branch applied m times with x_n as its second input: a method of m stages, of order 1. Solved, implicit Euler
    never raises ‖x‖, whatever the step, if sΦ(s) ≥ 0. The iteration leaves the remainder −z^{m+1}/(1 − z) on x' = λx,
    z = hλ. It converges if τ Lip(Φ)‖K‖² < 1, for linear diffusion only then: half the explicit bound. The real interval
    is 1 for even m; for odd m it is the root of y^{m+1} = y + 2, which falls from 2 to 1.

    Raises:
        OdenasError: the number of iterations is no integer from 1 to 100.
    """
    return Scheme(fixed_point(implicit("backward_euler"), iterations), tying="stages")


DIFFUSION: dict[str, Entry] = {
    "du_fort_frankel": Entry(
        "diffusion",
        "(1 + 2τα) x ← 4τα x + (1 − 2τα) x_prev + 2τ f(x), stable if α ≥ L‖K‖²/4 (Alt et al. 2022). Order 1.",
        du_fort_frankel,
    ),
    "fsi": Entry(
        "diffusion",
        "u_{l+1} = α_l (u_l + τ f(u_l)) + (1 − α_l) u_{l−1}, α_l = (4l + 2)/(2l + 3) (Hafner et al. 2016). Order 1.",
        fsi,
    ),
    "implicit_diffusion": Entry(
        "diffusion",
        "implicit Euler by fixed-point iterations u ← x + f(u) from u = x (Alt et al. 2022). Order 1.",
        implicit_diffusion,
    ),
}
