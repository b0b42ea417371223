"""Right-hand sides whose Jacobian has a known spectrum, with a step τ that is kept stable: diffusion and Hamiltonian.

K is a zero-padded 3×3 convolution, Kᵀ the transposed one with the same kernel, Φ an activation Φ(s) = g(s) s with
0 ≤ g ≤ 1, and ρ = interval · sigmoid(θ) with a learned θ. The step τ is made from ρ and a bound of the norm of K, so
that no value of the parameters, thus no training, makes it unstable.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets.activations import ACTIVATIONS, HOMOGENEOUS
from odenas.nets.branch import inner_channels
from odenas.nets.spectral_norm import spectral_norm_bound

CONTRASTS = 10.0
"""The logarithm of a contrast lies between −10 and 10, where no division by it overflows."""


class StableBranch(nn.Module):
    """What these branches share: shape, convolution, θ, and that what is made of the parameters is kept.

    It is kept where no gradient of a parameter is asked for, as in evaluation, while the image has the same size and
    the parameters the same values: they are compared, for fused optimisers and `Parameter.data` change them unseen by
    torch's count of versions. Compiled code makes it anew at each call, unless the compiler folds constants
    (`torch._inductor.config.freezing`).

    Args:
        inputs, outputs, stride: as of `Branch`, but that the shape must stay.
        inside: channels after the convolution.
        activation: a row of ACTIVATIONS.
        interval: ρ stays below it; None for no bound, as of an implicit method: then ρ = log(1 + e^θ).
        bias: whether the convolution has one; it begins with 0.

    Raises:
        ValueError: the shape would change, or the interval is not a finite number above 0.
    """

    layers: ClassVar = 2
    after: ClassVar = False
    keeps_shape: ClassVar = True
    shortcut: ClassVar = "projection"

    def __init__(
        self, inputs: int, outputs: int, stride: int, inside: int, activation: str, interval: float | None, bias: bool
    ) -> None:
        super().__init__()
        if inputs != outputs or stride != 1:
            raise ValueError(
                f"`inputs`, `outputs` and `stride` are {inputs}, {outputs} and {stride}, but this block keeps the "
                f"shape of its state: the nearest are {outputs}, {outputs} and 1"
            )
        if interval is not None and not 0 < interval < float("inf"):
            raise ValueError(f"`interval` is {interval}, but must be a finite number above 0, or None")
        self.conv = nn.Conv2d(inputs, inside, 3, 1, 1, bias=bias)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.theta = nn.Parameter(torch.zeros(()))
        self.activation, self.interval = ACTIVATIONS[activation], interval
        self.kept: tuple[object, list[Tensor], tuple[Tensor, ...]] | None = None

    def rho(self) -> Tensor:
        """Return ρ, a scalar: below the interval, or where there is none, of any size above 0."""
        if self.interval is None:
            return functional.softplus(self.theta)
        return self.interval * torch.sigmoid(self.theta)

    def step(self, height: int, width: int) -> Tensor:
        """Return τ on images of this size, a scalar."""
        raise NotImplementedError

    def made(self, height: int, width: int) -> tuple[Tensor, ...]:
        """Return what the forward pass takes of the parameters."""
        raise NotImplementedError

    def ready(self, height: int, width: int) -> tuple[Tensor, ...]:
        """Return `made`, kept from an earlier call where nothing has changed."""
        parameters = list(self.parameters())
        asked = torch.is_grad_enabled() and any(each.requires_grad for each in parameters)
        if asked or not comparable(parameters):
            return self.made(height, width)
        size = (height, width, torch.is_inference_mode_enabled())
        if self.kept is not None:
            kept_size, seen, made = self.kept
            if kept_size == size and all(map(same, parameters, seen)):
                return made
        made = self.made(height, width)
        self.kept = size, [each.detach().clone() for each in parameters], made
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without what was kept, for copies and pickles."""
        return {**self.__dict__, "kept": None}


class SymmetricBranch(StableBranch):
    """−τKᵀΦ_λ(Kx), diffusion: convolution, flux, transposed convolution of the same kernel (Alt et al. 2022).

    The flux Φ_λ(s) = λΦ(s/λ) has a learned contrast λ for each channel inside, where the activation is not homogeneous.
    The step is τ = ρ/‖K‖² < interval/‖K‖². At a given x this is −τKᵀGK x, G = diag g: a symmetric matrix with
    eigenvalues in [−ρ, 0]. With the interval 2 a forward Euler step never raises ‖x‖ (Alt, Schrader, Augustin, Peter,
    Weickert, J. Math. Imaging Vis. 2022, arXiv 2107.14742).

    Args:
        inputs, outputs, stride, activation: as of `StableBranch`.
        inner: channels inside, as a multiple of the outputs; 1 if not given.
        interval: the real interval of stability of the scheme.
    """

    SIGN: ClassVar = -1.0
    bias: ClassVar = False

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        activation: str = "charbonnier",
        inner: float | None = None,
        interval: float | None = 2.0,
    ) -> None:
        inside = inner_channels(outputs, 1 if inner is None else inner)
        super().__init__(inputs, outputs, stride, inside, activation, interval, self.bias)
        contrasted = not self.bias and activation not in HOMOGENEOUS
        self.log_contrast = nn.Parameter(torch.zeros(inside)) if contrasted else None

    def contrast(self) -> Tensor:
        """Return λ, of each channel inside, or 1."""
        if self.log_contrast is None:
            return torch.ones((), device=self.theta.device, dtype=self.theta.dtype)
        return torch.exp(CONTRASTS * torch.tanh(self.log_contrast / CONTRASTS))

    def step(self, height: int, width: int) -> Tensor:
        """Return τ on images of this size, a scalar."""
        norm = spectral_norm_bound(self.conv.weight, height, width)
        return self.rho() / norm.square()

    def made(self, height: int, width: int) -> tuple[Tensor, ...]:
        """Return the kernels: that of K/λ, and that of ±τKᵀλ as a convolution."""
        kernel, rho = self.conv.weight, self.rho()
        norm = spectral_norm_bound(kernel, height, width)
        contrast = self.contrast().view(-1, 1, 1, 1)
        # Divided twice, lest the square of the norm underflows; norms and steps are of higher precision than kernels.
        outer = ((kernel / norm) * (self.SIGN * rho / norm)) * contrast
        return kernel / contrast, outer.flip(2, 3).transpose(0, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), of the shape of x, (batch, channels, height, width)."""
        inner, outer = self.ready(x.shape[2], x.shape[3])
        features = self.activation(functional.conv2d(x, inner, self.conv.bias, padding=1))
        return functional.conv2d(features, outer, padding=1)


class HamiltonianBranch(SymmetricBranch):
    """τKᵀΦ(Kx + b), a gradient of a convex energy where Φ is monotone (Chang et al., AAAI 2018, arXiv 1709.03698).

    The halves of a partitioned method take opposite signs (`SIGNS`): y' = K₁ᵀΦ(K₁z + b₁), z' = −K₂ᵀΦ(K₂y + b₂), a
    Hamiltonian system. Linear, it has frequencies of at most √(τ₁τ₂)‖K₁‖‖K₂‖ < interval.

    Args:
        inputs, outputs, stride, activation, inner: as of `SymmetricBranch`.
        interval: the imaginary interval of stability of the partitioned method; 2 is that of symplectic Euler and of
            Störmer–Verlet (Hairer, Lubich, Wanner, Geometric Numerical Integration).
    """

    SIGN: ClassVar = 1.0
    SIGNS: ClassVar = (1.0, -1.0)
    bias: ClassVar = True


class AntisymmetricBranch(StableBranch):
    """τσ((K − Kᵀ)x + b), whose Jacobian has an imaginary spectrum where σ is monotone (Chang et al., AAAI 2018).

    Antisymmetric is the zero-padded convolution with the kernel A_oi(d) = K_oi(d) − K_io(−d). The step is
    τ = ρ/max(1, ‖A‖), so that the Jacobian τ diag(σ') A has eigenvalues below the interval in modulus where 0 ≤ σ' ≤ 1,
    as of relu, tanh and the monotone fluxes; and a vanishing A does not blow up the bias.

    Args:
        inputs, outputs, stride, activation: as of `StableBranch`.
        interval: the imaginary interval of stability of the scheme, or 1 where it has none.
    """

    layers: ClassVar = 1

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, activation: str = "tanh", interval: float | None = 1.0
    ) -> None:
        super().__init__(inputs, outputs, stride, outputs, activation, interval, True)

    def kernel(self) -> Tensor:
        """Return the antisymmetric kernel A."""
        kernel = self.conv.weight
        return kernel - kernel.flip(2, 3).transpose(0, 1)

    def step(self, height: int, width: int) -> Tensor:
        """Return τ on images of this size, a scalar."""
        return self.made(height, width)[1]

    def made(self, height: int, width: int) -> tuple[Tensor, ...]:
        """Return the kernel and τ."""
        kernel = self.kernel()
        norm = spectral_norm_bound(kernel, height, width)
        return kernel, self.rho() / norm.clamp(min=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), of the shape of x, (batch, channels, height, width)."""
        kernel, step = self.ready(x.shape[2], x.shape[3])
        return step * self.activation(functional.conv2d(x, kernel, self.conv.bias, padding=1))


def comparable(parameters: list[nn.Parameter]) -> bool:
    """Return whether the values of the parameters can be looked at here and now, and are of a single network."""
    if torch.compiler.is_compiling() or not all(isinstance(each, nn.Parameter) for each in parameters):
        return False
    device = parameters[0].device.type
    return device != "meta" and not (device == "cuda" and torch.cuda.is_current_stream_capturing())


def same(new: Tensor, old: Tensor) -> bool:
    """Return whether two tensors have the same values on the same device."""
    return new.dtype == old.dtype and new.device == old.device and torch.equal(new, old)
