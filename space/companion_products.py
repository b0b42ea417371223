"""Products of companion matrices: stability where the weights of the states vary from layer to layer.

With f = 0 a layer is x_{n+1} = Σ_j V_nj x_{n−j}, or (x_{n+1}, …, x_{n−k+2}) = C_n (x_n, …, x_{n−k+1}) with the
companion matrix C_n. What keeps such a network stable is that all the products C_b … C_a stay bounded. That every
layer alone satisfies the root condition is neither necessary nor sufficient for that.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from odenas.space.errors import OdenasError
from odenas.space.tableau import Number, number


def product_bound(states: ArrayLike) -> float:
    """Return the largest ∞-norm of the products C_b … C_a, over all first layers a and last layers b, and of I.

    `states` has the shape (L, k): row n is V of layer n, `states[n, j]` the weight of the state j steps back. The
    answer is exact for these L layers, save for rounding, and infinite where that overflows: no state, of whatever
    history, exceeds it times the largest state of its history. Takes L²k² multiplications.

    The rows of a product are the first rows of it and of the k − 1 products before it, or rows of I, so that the
    largest ‖first row‖₁ is the answer; the first rows obey the layers' own recurrence.

    Raises:
        OdenasError: `states` is no array of finite numbers of that shape.
    """
    layers = _layers(states)
    length, steps = layers.shape
    # history[j, a] is the row that gives x_{n−j} from the history at layer a ≤ n.
    history = np.zeros((steps, length, steps))
    bound = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for n, weights in enumerate(layers):
            history[:, n] = np.eye(steps)
            new = np.tensordot(weights, history[:, : n + 1], axes=1)
            history[1:, : n + 1] = history[:-1, : n + 1]
            history[0, : n + 1] = new
            largest = float(abs(new).sum(axis=1).max())
            if not math.isfinite(largest):
                return math.inf
            bound = max(bound, largest)
    return bound


def contraction(states: ArrayLike) -> float:
    """Return κ, the largest Σ_i |c_ni| over the layers n, where c_ni = Σ_{j≥i} V_nj for i = 1 … k − 1; |k_n| for k = 2.

    It is the factor by which layers of ΣV = 1 shrink increments: d_{n+1} = x_{n+1} − x_n = −Σ_i c_ni d_{n−i+1}.
    `states` has the shape (L, k), as for `product_bound`. Where κ < 1, `uniform_bound(κ, k)` bounds the products.

    Raises:
        OdenasError: `states` is no array of finite numbers of that shape, or a row does not sum to 1 (to 10⁻⁵).
    """
    layers = _layers(states)
    off = float(abs(layers.sum(axis=1) - 1).max())
    if off > 1e-5:
        raise OdenasError(f"`states` has a row whose sum is off 1 by {off:g}, but every row must sum to 1")
    tails = np.cumsum(layers[:, :0:-1], axis=1)
    return float(abs(tails).sum(axis=1).max())


def uniform_bound(kappa: Number | int | str, steps: int = 2) -> Number:
    """Return the supremum of the ∞-norm of the products over ALL sequences of k-step layers with contraction ≤ κ < 1.

    It is 1 + 2(k − 1)κ/(1 − κ), a Fraction unless `kappa` is a float; (1 + κ)/(1 − κ) for the two-step layers
    x_{n+1} = (1 − k_n) x_n + k_n x_{n−1} with |k_n| ≤ κ.

    Proof: let |x_0|, …, |x_{1−k}| ≤ 1 and m = k − 1, so that the last m increments are at most 2. Layers with ΣV = 1
    give d_{n+1} = −Σ_i c_ni d_{n−i+1}, at most κ times the largest of the m increments before it. So the next m are at
    most 2κ, the m after them at most 2κ², and so on, and |x_n| ≤ 1 + Σ|d| ≤ 1 + 2m(κ + κ² + …). No smaller number
    will do: let x_0 = 1, x_{−1} = −1, x_{−2} = 1, …, so that increments alternate between 2 and −2, and let layers
    have c_n,m = ±κ alone, d_{n+1} = ∓κ d_{n−m+1}, with the signs that make the first m new increments positive and
    keep all later ones so. Then x_n tends to the bound, which no finite n reaches. For k = 2 the worst sequence
    is constant, k_n = −κ.

    For the sums 1 + Σ_n Π_{m≤n} (−k_m) of the two-step layers the same argument gives the bound 1/(1 − κ).

    A condition on each layer is needed: no bound holds for all k-step layers that merely satisfy the root condition,
    not for k = 2 either, where |k_n| may be as close to 1 as it likes.

    Raises:
        OdenasError: `kappa` is no number from 0 to below 1, or `steps` no integer of at least 1.
    """
    value = number("kappa", kappa)
    if not 0 <= value < 1:
        raise OdenasError(f"`kappa` is {kappa!r}, but must be at least 0 and below 1: else products are unbounded")
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise OdenasError(f"`steps` is {steps!r}, but must be an integer of at least 1")
    return Fraction(1) + 2 * (int(steps) - 1) * value / (1 - value)


def _layers(states: ArrayLike) -> NDArray[np.float64]:
    try:
        layers = np.asarray(states)
        layers = layers.astype(float) if layers.dtype.kind in "iufO" else np.empty(0)  # O: Fractions
    except (TypeError, ValueError, OverflowError):
        layers = np.empty(0)
    if layers.ndim != 2 or layers.size == 0 or not np.isfinite(layers).all():
        raise OdenasError(
            f"`states` is {states!r:.80}, but must be finite numbers in an array of shape (layers, steps)"
        )
    return layers
