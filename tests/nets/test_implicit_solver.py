"""x = c + w f(x): solved however stiff f is, image by image, with the gradient of the implicit function theorem."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from odenas.nets import implicit_solver
from odenas.nets.activations import ACTIVATIONS
from odenas.nets.blocks import BLOCKS
from odenas.nets.implicit import SOLVABLE
from odenas.nets.implicit_solver import TOLERANCES, NotSolved, solved
from odenas.nets.krylov import Solution, conjugate_gradients, dot, least_squares, size
from odenas.space.diffusivities import DIFFUSIVITIES

KINDS = pytest.mark.parametrize("kind", SOLVABLE)
STIFF = {"symmetric": 60.0, "antisymmetric": 6.0}
"""Steps far beyond where fixed-point iterations converge, which is below 1."""


def branch(kind: str, rho: float, activation: str = "charbonnier", channels: int = 3, seed: int = 0) -> Any:
    """Return a block whose step is rho times 1/‖K‖² or 1/‖A‖, in float64."""
    torch.manual_seed(seed)
    made = BLOCKS[kind](channels, channels, 1, activation, interval=None).double()
    with torch.no_grad():
        made.theta.fill_(math.log(math.expm1(rho)) if rho < 30 else rho)
        for name, parameter in made.named_parameters():
            if name != "theta":
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def images(*shape: int, scale: float = 1.0, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def matrix(f: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Return the Jacobian of f at 0 for one image, (n, n)."""
    jacobian: Any = torch.autograd.functional.jacobian(f, torch.zeros_like(like[:1]))  # type: ignore[no-untyped-call]
    return torch.as_tensor(jacobian).reshape(like[0].numel(), -1)


@KINDS
@torch.no_grad()
def test_a_linear_step_is_that_of_the_dense_matrix(kind: str) -> None:
    f, c = branch(kind, 50.0, "constant"), images(3, 3, 5, 4)
    zero = f(torch.zeros_like(c[:1]))
    with torch.enable_grad():
        A = torch.eye(60).double() - 0.7 * matrix(f, c)
    expected = torch.linalg.solve(A, (c + 0.7 * zero).flatten(1).T).T.view_as(c)
    torch.testing.assert_close(solved(f, c, 0.7, SOLVABLE[kind]), expected, rtol=1e-8, atol=1e-8)


@KINDS
def test_the_gradients_are_those_of_many_fixed_point_iterations(kind: str) -> None:
    """Where those converge: contractive, for w times the Jacobian is at most 0.4 in norm."""
    f, c = branch(kind, 0.5), images(3, 3, 5, 4).requires_grad_()
    inputs, seed = [c, *f.parameters()], images(3, 3, 5, 4, seed=2)
    x = c
    for _ in range(120):
        x = c + 0.8 * f(x)
    found = solved(f, c, 0.8, SOLVABLE[kind])
    torch.testing.assert_close(found, x, rtol=0, atol=1e-9)
    expected = torch.autograd.grad(x, inputs, seed)
    for one, other in zip(torch.autograd.grad(found, inputs, seed), expected, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8 * float(other.abs().max()))


@KINDS
@pytest.mark.parametrize("rho", [0.5, 5.0])
def test_the_gradients_are_those_of_differences(kind: str, rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(implicit_solver.TOLERANCES, torch.float64, 1e-13)
    f = branch(kind, rho, channels=2)
    names = [name for name, _ in f.named_parameters()]

    def step(c: Tensor, *values: Tensor) -> Any:
        like = implicit_solver.Field(f, names, 0.9, SOLVABLE[kind])
        return implicit_solver.Implicit.apply(like, c, *values)

    torch.autograd.gradcheck(
        step, (images(2, 2, 2, 3).requires_grad_(), *f.parameters()), atol=1e-6, rtol=1e-5, fast_mode=True
    )


@pytest.mark.parametrize("activation", [*DIFFUSIVITIES, "relu", "tanh"])
@pytest.mark.parametrize("factor", [1.0, 30.0, 1000.0])
def test_implicit_diffusion_never_raises_the_norm(activation: str, factor: float) -> None:
    """‖x‖² = xᵀc + w xᵀf(x) ≤ ‖x‖‖c‖ where s Φ(s) ≥ 0, with steps up to 1000 times the explicit bound 2/‖K‖²."""
    f, c = branch("symmetric", 2 * factor, activation), images(2, 3, 4, 4, scale=2.0).requires_grad_()
    x = solved(f, c, 1.0, True)
    assert (size(x) <= (1 + 1e-9) * size(c)).all()
    stiffness = 1 + 2 * factor * (2.4 if activation == "weickert" else 1)  # at least ‖I − J‖
    allowed = TOLERANCES[torch.float64] + 4 * torch.finfo(torch.float64).eps * stiffness
    assert (size(x - c - f(x)) <= 1.01 * allowed * size(c)).all()
    (gradient,) = torch.autograd.grad(x.square().sum(), c)
    assert gradient.isfinite().all()
    if factor == 1000 and activation in ("constant", "charbonnier", "tanh"):
        assert (c + f(c)).norm() > 10 * c.norm()  # what a fixed-point iteration begins with


@KINDS
def test_in_single_precision_too(kind: str) -> None:
    f, c = branch(kind, STIFF[kind]), images(4, 3, 4, 5)
    expected = solved(f, c, 1.0, SOLVABLE[kind])
    single = copy.deepcopy(f).float()
    for dtype, atol in ((torch.float32, 1e-3), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
        low = copy.deepcopy(single).to(dtype)
        start = c.to(dtype).requires_grad_()
        x = solved(low if dtype == torch.float32 else single, start, 1.0, SOLVABLE[kind])
        assert x.dtype == dtype
        torch.testing.assert_close(x.double(), expected, rtol=0, atol=atol)
        solved(low, start, 1.0, SOLVABLE[kind]).square().sum().backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in low.parameters())


def test_what_rounding_leaves_of_a_stiff_step_is_no_failure() -> None:
    """In float32 no x has a residual of 1e-5 here, but one of a few units in the last place of ‖J‖ ‖x‖."""
    f, c = branch("symmetric", 20_000.0).float(), images(2, 3, 4, 4).float().requires_grad_()
    x = solved(f, c, 1.0, True)
    assert (size(x) <= (1 + 1e-3) * size(c)).all()
    x.square().sum().backward()  # type: ignore[no-untyped-call]
    assert c.grad is not None
    assert c.grad.isfinite().all()


@KINDS
def test_autocast_and_inference_mode_and_channels_last_change_nothing(kind: str) -> None:
    f, c = branch(kind, 3.0).float(), images(2, 3, 6, 5).float()
    expected = solved(f, c, 1.0, SOLVABLE[kind])
    with torch.autocast("cpu", torch.bfloat16):
        x = solved(f, c, 1.0, SOLVABLE[kind])
        x.square().sum().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(x, expected, rtol=0, atol=0)
    with torch.inference_mode():
        made_there = c + 0
        torch.testing.assert_close(solved(f, made_there, 1.0, SOLVABLE[kind]).clone(), expected, rtol=0, atol=0)
    last = solved(f, c.to(memory_format=torch.channels_last), 1.0, SOLVABLE[kind])
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-4)
    with torch.no_grad():
        assert not solved(f, c, 1.0, SOLVABLE[kind]).requires_grad


@KINDS
def test_every_image_is_solved_alone(kind: str) -> None:
    """Those beside it, harder or easier ones, do not change it by more than convolutions round."""
    f, c = (
        branch(kind, STIFF[kind]),
        images(4, 3, 4, 4) * torch.tensor([1e-3, 1.0, 30.0, 0.0]).view(-1, 1, 1, 1).double(),
    )
    together = solved(f, c, 1.0, SOLVABLE[kind])
    for i in range(4):
        alone = solved(f, c[i : i + 1], 1.0, SOLVABLE[kind])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-9 * float(alone.detach().norm()) + 1e-15)
    if kind == "symmetric":
        assert not together[3].any()
    assert solved(f, c[:0], 1.0, SOLVABLE[kind]).shape == (0, 3, 4, 4)


@KINDS
def test_nothing_of_the_iterations_is_kept(kind: str) -> None:
    """For the gradient: x and the parameters, however many iterations there were."""
    for rho in (0.01, STIFF[kind]):
        f, c = branch(kind, rho), images(2, 3, 4, 4).requires_grad_()
        sizes: list[int] = []

        def seen(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
            x = solved(f, c, 1.0, SOLVABLE[kind])
        assert x.grad_fn is not None
        assert sizes[-1 - len(list(f.parameters())) :] == [c.numel(), *(p.numel() for p in f.parameters())]
        saved = x.grad_fn.saved_tensors  # type: ignore[attr-defined]
        assert [t.numel() for t in saved] == [c.numel(), *(p.numel() for p in f.parameters())]


class Shift(nn.Module):
    """x ↦ x + 1, for which x = c + f(x) has no solution unless c = −1."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x - x)


@pytest.mark.parametrize("symmetric", [True, False])
def test_what_is_not_solved_is_an_error_in_one_line(symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implicit_solver, "NEWTON", 20)
    c = images(2, 1, 2, 2)
    with pytest.raises(NotSolved, match=r"not solved for 2 of 2 images: residual up to") as caught:
        solved(Shift(), c, 1.0, symmetric)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ArithmeticError)
    for f, bad in ((branch("symmetric", 1.0, channels=1), c * math.nan), (Broken(), c)):
        with pytest.raises(NotSolved, match="not finite"):
            solved(f, bad, 1.0, symmetric)


def test_a_gradient_that_is_not_solved_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x = solved(branch("antisymmetric", 6.0), images(2, 3, 4, 4).requires_grad_(), 1.0)
    monkeypatch.setattr(implicit_solver, "ADJOINT", 2)
    with pytest.raises(NotSolved, match="the gradient of an implicit step was not solved"):
        x.sum().backward()  # type: ignore[no-untyped-call]


def test_a_compiled_graph_ends_and_goes_on() -> None:
    f, c = branch("symmetric", 5.0), images(2, 3, 5, 5)
    step = torch.compile(lambda y: functional.relu(solved(f, 2 * y, 1.0, True)), backend="eager")
    torch.testing.assert_close(step(c), functional.relu(solved(f, 2 * c, 1.0, True)), rtol=0, atol=0)


def systems(symmetric: bool, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return matrices (batch, 12, 12) and right-hand sides (batch, 3, 2, 2), of scales that differ."""
    A = images(4, 12, 12)
    A = A @ A.mT / 12 if symmetric else A
    return A + shift * torch.eye(12).double(), images(4, 3, 2, 2, seed=3) * torch.tensor([1.0, 1e-6, 1e6, 0.0]).view(
        -1, 1, 1, 1
    )


@pytest.mark.parametrize("method", ["conjugate gradients", "least squares"])
def test_krylov_methods_solve_each_system(method: str) -> None:
    A, right = systems(method == "conjugate gradients", 0.1)
    tolerance = 1e-10 * size(right)

    def times(M: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda p: (M @ p.flatten(1).unsqueeze(2)).view_as(p)

    if method == "conjugate gradients":
        found = conjugate_gradients(times(A), right, tolerance, 500)
    else:
        found = least_squares(times(A), times(A.mT), right, tolerance, 5000)
    exact = torch.linalg.solve(A, right.flatten(1)).view_as(right)
    torch.testing.assert_close(
        found.x / size(right).clamp_min(1e-300), exact / size(right).clamp_min(1e-300), rtol=0, atol=1e-7
    )
    assert (size(right - times(A)(found.x)) <= 1.01 * tolerance).all()
    torch.testing.assert_close(found.residual, right - times(A)(found.x), rtol=0, atol=1e-4)
    norms = torch.linalg.matrix_norm(A, 2).view(-1, 1, 1, 1)
    assert (found.norm <= (1 + 1e-9) * norms).all()
    assert (found.norm[:3] >= 0.3 * norms[:3]).all()


@pytest.mark.parametrize("shift", [0.1, -1.0])
@pytest.mark.parametrize("radius", [0.01, 0.5, 1e3])
def test_conjugate_gradients_end_on_the_sphere(shift: float, radius: float) -> None:
    """There they have gone down all the way, by at least what the best step along r, the Cauchy point, gives."""
    A, right = systems(True, shift)
    right = right / size(right).clamp_min(1e-300)

    def product(p: Tensor) -> Tensor:
        return (A @ p.flatten(1).unsqueeze(2)).view_as(p)

    def model(x: Tensor) -> Tensor:
        return dot(x, product(x)) / 2 - dot(right, x)

    around = torch.full_like(size(right), radius)
    found: Solution = conjugate_gradients(product, right, 1e-10 * size(right), 500, around)
    assert (size(found.x) <= (1 + 1e-9) * around).all()
    curvature = dot(right, product(right))
    assert (
        model(found.x)[:3]
        <= model(torch.where(curvature > 0, (1 / curvature).clamp(max=radius), radius) * right)[:3] + 1e-12
    ).all()
    if shift < 0:
        torch.testing.assert_close(size(found.x)[:3], around[:3])
    elif radius == 1e3:
        torch.testing.assert_close(product(found.x), right, rtol=0, atol=1e-9)


def test_the_activations_tried_are_those_of_a_sign() -> None:
    """s Φ(s) ≥ 0: what the norm's bound needs."""
    s = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    for name in [*DIFFUSIVITIES, "relu", "tanh"]:
        assert (s * ACTIVATIONS[name](s.clone()) >= 0).all()
