"""The solution x of x = c + w f(x), which implicit methods step by, and its gradient by the implicit function theorem.

Newton's method with conjugate gradients inside: it converges where the iteration x ← c + w f(x) does not, however stiff
f is. With r(x) = x − c − w f(x), a step solves (I − w J) d = −r to a tolerance that falls with ‖r‖, and goes as far
along d as serves:

- where the Jacobian J of f is symmetric, r is the gradient of some E(x), and E must fall, d within a radius in which
  it did as r and J said: a trust region with backtracking (Nocedal & Wright, Numerical Optimization, 2nd ed., chapter
  4 and algorithm 7.2; Nocedal & Yuan 1998). f need not be monotone;
- else ‖r‖ must fall, by conjugate gradients for least squares and backtracking (Nocedal & Wright, section 11.2).

With g the gradient of x, that of c is v = (I − w Jᵀ)⁻¹ g, and that of a parameter θ of f is w (∂f/∂θ)ᵀ v: nothing of
the iterations is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from odenas.nets.krylov import Solution, conjugate_gradients, dot, least_squares, size

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Of ‖r‖/max(‖c‖, ‖x‖), and in the gradient of ‖g − (I − w Jᵀ) v‖/‖g‖."""
ROUNDING = 4
"""A residual of as many units in the last place of ‖I − wJ‖ ‖x‖ counts as none: rounding alone may leave it."""
NEWTON, SEARCH, KRYLOV, ADJOINT = 1000, 40, 1000, 10_000
"""The most steps of Newton's method, steps tried in one, and products for one step and for a gradient."""
REFINEMENTS = 5
"""How often a gradient's system is solved again for what rounding left of it."""
FORCING = 0.1
"""The first linear system is solved to this share of ‖r‖, the later ones to a share that falls with ‖r‖."""


class NotSolved(ArithmeticError):
    """An implicit step, or the linear system of its gradient, was not solved to its tolerance."""


def solved(branch: nn.Module, c: Tensor, weight: float, symmetric: bool = False) -> Tensor:
    """Return the x with x = c + weight · f(x), of the shape and type of c, differentiable in c and in f's parameters.

    It is solved image by image, in float32 at least, outside autocast, to TOLERANCES. A compiled graph ends here, and
    another begins after it.

    Args:
        branch: f, from tensors (batch, channels, height, width) to such; of each image alone, so without batch
            normalisation in training, and without noise.
        c: the constant part (batch, channels, height, width).
        weight: w.
        symmetric: whether the Jacobian of f is symmetric, as that of x ↦ −KᵀΦ(Kx) is.

    Raises:
        NotSolved: c is not finite, or the iterations end before the tolerance is met.
    """
    return EAGERLY(branch, c, weight, symmetric)


def _solved(branch: nn.Module, c: Tensor, weight: float, symmetric: bool) -> Tensor:
    dtype, learning = torch.promote_types(c.dtype, torch.float32), torch.is_grad_enabled()
    members = dict(branch.named_parameters()) | dict(branch.named_buffers())
    # Newton's method differentiates f in inference mode too, and does not take the tensors that are made there.
    with torch.autocast(c.device.type, enabled=False), torch.inference_mode(False), torch.set_grad_enabled(learning):
        known, *values = (
            (each.clone() if each.is_inference() else each).to(dtype if each.is_floating_point() else each.dtype)
            for each in (c, *members.values())
        )
        x: Tensor = Implicit.apply(Field(branch, list(members), weight, symmetric), known, *values)
        return x.to(c.dtype)


EAGERLY: Callable[..., Tensor] = torch.compiler.disable(_solved)  # type: ignore[no-untyped-call]


class Field:
    """w f, as a function of x and of the parameters and buffers of f."""

    def __init__(self, branch: nn.Module, names: Sequence[str], weight: float, symmetric: bool) -> None:
        self.branch, self.names, self.weight, self.symmetric = branch, names, weight, symmetric

    def __call__(self, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Return w f(x)."""
        y: Tensor = functional_call(self.branch, dict(zip(self.names, values, strict=True)), (x,))
        return self.weight * y


class Linearised:
    """w f near one x: its value there, and the products with A = I − w J and with its transpose."""

    def __init__(self, f: Field, values: Sequence[Tensor], x: Tensor) -> None:
        self.x, self.symmetric = x.detach().requires_grad_(), f.symmetric
        with torch.enable_grad():
            self.slope = f(self.x, values)
            if not f.symmetric:
                # (wJ)ᵀu is linear in u: the gradient by u of its product with p is wJp.
                self.u = torch.zeros_like(self.slope, requires_grad=True)
                (self.pulled,) = torch.autograd.grad(self.slope, self.x, self.u, create_graph=True)

    def residual(self, c: Tensor) -> Tensor:
        """Return r = x − c − w f(x)."""
        return (self.x - c - self.slope).detach()

    def transposed(self, p: Tensor) -> Tensor:
        """Return Aᵀp."""
        return p - torch.autograd.grad(self.slope, self.x, p, retain_graph=True)[0]

    def product(self, p: Tensor) -> Tensor:
        """Return Ap."""
        if self.symmetric:
            return self.transposed(p)
        return p - torch.autograd.grad(self.pulled, self.u, p, retain_graph=True)[0]


class Implicit(torch.autograd.Function):
    """x = c + w f(x); arguments f, c, and the parameters and buffers of f, each once."""

    @staticmethod
    def forward(ctx: Any, f: Field, c: Tensor, *values: Tensor) -> Tensor:
        """Return x."""
        x = newton(f, [value.detach() for value in values], c.detach())
        ctx.f = f
        ctx.save_for_backward(x, *values)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of c and of the parameters."""
        if torch.is_grad_enabled():  # torch's own guard misses second derivatives that do not pass through here
            raise RuntimeError("solved steps have first derivatives alone; for second ones take an explicit scheme")
        (gradient,), (x, *values), needed = gradients, ctx.saved_tensors, ctx.needs_input_grad[2:]
        with torch.autocast(x.device.type, enabled=False):
            leaves = [value.detach().requires_grad_(need) for value, need in zip(values, needed, strict=True)]
            at = Linearised(ctx.f, leaves, x)
            v = adjoint(at, gradient)
            own = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(at.slope, own, v, allow_unused=True) if own else ())
        return None, v, *(next(found) if need else None for need in needed)


def adjoint(at: Linearised, gradient: Tensor) -> Tensor:
    """Return the v with (I − w Jᵀ) v = g.

    Raises:
        NotSolved: the Krylov method ends before the tolerance is met.
    """
    tolerance = TOLERANCES[gradient.dtype] * size(gradient)
    v, left = torch.zeros_like(gradient), gradient
    for _ in range(REFINEMENTS):
        if at.symmetric:
            found = conjugate_gradients(at.transposed, left, tolerance / 2, ADJOINT)
        else:
            found = least_squares(at.transposed, at.product, left, tolerance / 2, ADJOINT)
        v = v + found.x
        left = gradient - at.transposed(v)
        if (size(left) <= tolerance + _rounding(v) * found.norm * size(v)).all():
            return v
    raise NotSolved(f"the gradient of an implicit step was not solved: residual up to {float(size(left).max()):.1e}")


def newton(f: Field, values: Sequence[Tensor], c: Tensor) -> Tensor:
    """Return the x with x = c + w f(x), from x = c on.

    Raises:
        NotSolved: as `solved`.
    """
    at = Linearised(f, values, c)
    r = at.residual(c)
    first = norm = size(r)
    gain, radius = torch.ones_like(norm), size(c) + norm
    for _ in range(NEWTON):
        scale = torch.maximum(size(c), size(at.x.detach()))
        tolerance = (TOLERANCES[c.dtype] + _rounding(c) * gain) * scale
        active = norm > tolerance
        if not norm.isfinite().all():
            raise NotSolved("an implicit step was not solved: its state or f is not finite")
        if not active.any():
            return at.x.detach()
        aim = torch.maximum(norm * FORCING * (norm / first).clamp(max=1), tolerance / 2)
        right = torch.where(active, -r, 0)
        if f.symmetric:
            found = conjugate_gradients(at.product, right, aim, KRYLOV, radius)
        else:
            found = least_squares(at.product, at.transposed, right, aim, KRYLOV)
        at, t = _searched(f, values, c, at, found, active)
        length = t * size(found.x)
        radius = torch.where(active, torch.where(t == 1, torch.maximum(radius, 2 * length), length), radius)
        r, gain = at.residual(c), torch.maximum(gain, found.norm)
        norm = size(r)
    raise _not_solved(norm, active)


def _searched(
    f: Field, values: Sequence[Tensor], c: Tensor, at: Linearised, found: Solution, active: Tensor
) -> tuple[Linearised, Tensor]:
    """Return w f at x + td, and for each image t, the first of 1, 1/2, 1/4, … with which E or ‖r‖ falls enough.

    E falls by half of what r and A let expect, by the trapezoidal rule from its slopes rᵀd at both ends.
    """
    d, x, r = found.x, at.x.detach(), at.residual(c)
    slope, norm = dot(r, d), size(r)
    bend = -slope - dot(found.residual, d)  # dᵀAd, as Ad = −r − residual
    t = torch.ones_like(slope)
    for _ in range(SEARCH):
        new = Linearised(f, values, x + t * d)
        there = new.residual(c)
        falls = slope + dot(there, d) <= slope + t * bend / 2 if f.symmetric else size(there) <= (1 - t * 1e-4) * norm
        failed = active & ~falls
        if not failed.any():
            return new, t
        t = torch.where(failed, t / 2, t)
    raise _not_solved(norm, failed)


def _rounding(x: Tensor) -> float:
    return ROUNDING * torch.finfo(x.dtype).eps


def _not_solved(norm: Tensor, failed: Tensor) -> NotSolved:
    count, worst = int(failed.sum()), float(norm[failed].max())
    return NotSolved(f"an implicit step was not solved for {count} of {len(norm)} images: residual up to {worst:.1e}")
