"""The branches with a known spectrum: what they are, that their step stays stable, and that nothing kept is stale."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from odenas.nets.activations import ACTIVATIONS, HOMOGENEOUS
from odenas.nets.symmetric import AntisymmetricBranch, HamiltonianBranch, StableBranch, SymmetricBranch
from odenas.space.diffusivities import DIFFUSIVITIES

FLUXES = list(DIFFUSIVITIES)
MONOTONE = ["relu", "tanh", *(name for name, row in DIFFUSIVITIES.items() if row.monotone)]
KINDS: list[type[StableBranch]] = [SymmetricBranch, HamiltonianBranch, AntisymmetricBranch]


def drawn(kind: Callable[..., StableBranch], channels: int = 3, seed: int = 0, **options: Any) -> Any:
    """Return a branch in float64 with random parameters, its ρ near the interval."""
    torch.manual_seed(seed)
    branch = kind(channels, channels, **options).double()
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.normal_()
        branch.theta.fill_(30.0)
    return branch


def images(channels: int = 3, height: int = 6, width: int = 5, count: int = 4) -> Tensor:
    return torch.randn(count, channels, height, width, dtype=torch.float64)


def worst_image(branch: Any, height: int, width: int) -> Tensor:
    """Return the image x, of norm 1, with the largest ‖Kx‖, for a kernel K of the branch."""
    kernel = branch.kernel() if hasattr(branch, "kernel") else branch.conv.weight
    matrix = matrix_of(lambda x: functional.conv2d(x, kernel, padding=1), kernel.shape[1], height, width)
    vectors: Tensor = torch.linalg.svd(matrix)[2]
    return vectors[0].view(1, -1, height, width)


def matrix_of(linear: Callable[[Tensor], Tensor], channels: int, height: int, width: int) -> Tensor:
    """Return the matrix of a linear map."""
    unit = torch.eye(channels * height * width, dtype=torch.float64).view(-1, channels, height, width)
    with torch.no_grad():
        made: Tensor = linear(unit).flatten(1).T
    return made


def jacobian(branch: StableBranch, x: Tensor) -> Tensor:
    """Return the matrix ∂f/∂x at one image."""
    made = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        lambda y: branch(y.view(x.shape)).flatten(), x.flatten()
    )
    assert isinstance(made, Tensor)
    return made


# The activations.


@pytest.mark.parametrize("name", FLUXES)
def test_a_flux_is_that_of_its_diffusivity(name: str) -> None:
    s = np.concatenate([np.linspace(-6, 6, 2001), np.logspace(-12, 12, 97), -np.logspace(-12, 12, 97), [0.0]])
    flux = ACTIVATIONS[name](torch.from_numpy(s.copy())).numpy()
    np.testing.assert_allclose(flux, DIFFUSIVITIES[name].flux(s), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_activation_lies_between_zero_and_the_identity(name: str, dtype: torch.dtype) -> None:
    """Φ(s) = g(s) s with 0 ≤ g ≤ 1, so that L = 1 bounds it; also rounded, and for numbers near the largest."""
    ends = torch.logspace(-30, 38, 137, dtype=torch.float64).to(dtype)
    s = torch.cat([torch.linspace(-9, 9, 3601, dtype=torch.float64).to(dtype), ends, -ends])
    given = s.clone().requires_grad_()
    flux = ACTIVATIONS[name](given * 1)
    (slope,) = torch.autograd.grad(flux.sum(), given)
    assert flux.isfinite().all()
    assert slope.isfinite().all()
    assert (flux * s.sign() >= 0).all()
    assert (flux.detach().abs() <= s.abs()).all()


@pytest.mark.parametrize("name", FLUXES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 0.06)])
def test_a_flux_is_accurate_in_low_precision(name: str, dtype: torch.dtype, tolerance: float) -> None:
    s = torch.linspace(-4, 4, 1001).to(dtype)
    expected = DIFFUSIVITIES[name].flux(s.double().numpy())
    np.testing.assert_allclose(ACTIVATIONS[name](s.clone()).double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_contrast_changes_nothing_in_homogeneous_activations_alone(name: str) -> None:
    torch.manual_seed(0)
    s = torch.randn(100, dtype=torch.float64)
    same = torch.allclose(ACTIVATIONS[name](3 * s), 3 * ACTIVATIONS[name](s.clone()))
    assert same == (name in HOMOGENEOUS)
    assert (SymmetricBranch(2, 2, activation=name).log_contrast is None) == same


# What a branch is.


@pytest.mark.parametrize("activation", ["charbonnier", "weickert", "relu"])
@pytest.mark.parametrize("inner", [None, 0.5, 2.0])
def test_the_symmetric_branch_is_written_out(activation: str, inner: float | None) -> None:
    """−τKᵀλΦ(Kx/λ), with torch's own transposed convolution."""
    branch, x = drawn(SymmetricBranch, 4, activation=activation, inner=inner), images(4)
    K, contrast = branch.conv.weight, branch.contrast().view(-1, 1, 1)
    assert K.shape == (4 if inner is None else int(4 * inner), 4, 3, 3)
    features = contrast * ACTIVATIONS[activation](functional.conv2d(x, K, padding=1) / contrast)
    expected = -branch.step(6, 5) * functional.conv_transpose2d(features, K, padding=1)
    torch.testing.assert_close(branch(x), expected, rtol=1e-12, atol=1e-12)


def test_the_other_branches_are_written_out() -> None:
    x = images()
    hamiltonian = drawn(HamiltonianBranch, activation="tanh")
    K, b = hamiltonian.conv.weight, hamiltonian.conv.bias
    features = functional.conv2d(x, K, b, padding=1).tanh()
    expected = hamiltonian.step(6, 5) * functional.conv_transpose2d(features, K, padding=1)
    torch.testing.assert_close(hamiltonian(x), expected, rtol=1e-12, atol=1e-12)
    antisymmetric = drawn(AntisymmetricBranch, activation="tanh")
    K, b = antisymmetric.conv.weight, antisymmetric.conv.bias.view(-1, 1, 1)
    difference = functional.conv2d(x, K, padding=1) - functional.conv_transpose2d(x, K, padding=1)
    torch.testing.assert_close(antisymmetric(x), antisymmetric.step(6, 5) * (difference + b).tanh())


def test_the_outer_convolution_is_the_adjoint_of_the_inner_one() -> None:
    """⟨Kx, y⟩ = ⟨x, Kᵀy⟩, but for sign, step and contrast; and K − Kᵀ is its own adjoint's negative."""
    branch = drawn(SymmetricBranch, 3, activation="constant", inner=5 / 3)
    inner, outer = branch.made(6, 5)
    x, y = images(), images(5)
    left = (functional.conv2d(x, inner, padding=1) * y).sum()
    right = (x * functional.conv2d(y, outer, padding=1)).sum() / -branch.step(6, 5)
    torch.testing.assert_close(left, right)
    kernel = drawn(AntisymmetricBranch).kernel()
    x, y = images(), images()
    left = (functional.conv2d(x, kernel, padding=1) * y).sum()
    torch.testing.assert_close(left, -(x * functional.conv2d(y, kernel, padding=1)).sum())


@pytest.mark.parametrize("activation", MONOTONE)
def test_the_spectrum_is_real_and_within_the_interval(activation: str) -> None:
    """Of the symmetric Jacobian −τKᵀ diag(Φ') K, where Φ does not fall."""
    branch = drawn(SymmetricBranch, 2, activation=activation, interval=1.7)
    for x in images(2, 4, 3, 3):
        J = jacobian(branch, x[None])
        torch.testing.assert_close(J, J.T)
        values = torch.linalg.eigvalsh(J)
        assert float(values.min()) >= -1.7
        assert float(values.max()) <= 1e-12
    assert activation != "constant" or float(values.min()) < -1.7 / 1.5


@pytest.mark.parametrize("activation", MONOTONE)
def test_the_spectrum_is_imaginary_and_within_the_interval(activation: str) -> None:
    """Of the Jacobian τ diag(σ')(K − Kᵀ), where 0 ≤ σ' ≤ 1. Where σ' = 0 zeros make blocks, and rounding is as 1e-8."""
    branch = drawn(AntisymmetricBranch, 2, activation=activation, interval=0.7)
    for x in images(2, 4, 3, 3):
        values = torch.linalg.eigvals(jacobian(branch, x[None]))
        assert float(values.real.abs().max()) < 1e-7
        assert float(values.abs().max()) <= 0.7
    assert activation != "constant" or float(values.abs().max()) > 0.7 / 1.5


def test_an_activation_that_falls_gives_the_antisymmetric_branch_another_spectrum() -> None:
    """So that the test above can fail."""
    branch = drawn(AntisymmetricBranch, 2, activation="weickert")
    values = torch.linalg.eigvals(jacobian(branch, images(2, 4, 3, 1)))
    assert float(values.real.abs().max()) > 1e-3


# Stability.


def random_branch(rng: np.random.Generator, activation: str) -> tuple[SymmetricBranch, Tensor]:
    """Return a symmetric branch with random numbers everywhere, kernels of many scales among them, and images."""
    channels, height, width = (int(n) for n in rng.integers(1, [4, 16, 16]))
    inner = float(rng.choice([0.5, 1.0, 2.0]))
    branch = SymmetricBranch(channels, channels, activation=activation, inner=inner).double()
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)) * 10 ** rng.uniform(-3, 3))
    x = torch.from_numpy(rng.normal(size=(3, channels, height, width))) * 10 ** rng.uniform(-3, 3)
    return branch, x


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_forward_euler_step_never_raises_the_norm(activation: str) -> None:
    """Over random kernels, contrasts, steps and images, for one step and for thirty, monotone or not."""
    rng = np.random.default_rng(list(ACTIVATIONS).index(activation))
    for _ in range(25):
        branch, x = random_branch(rng, activation)
        with torch.no_grad():
            for _ in range(30):
                after = x + branch(x)
                assert (norms(after) <= norms(x) * (1 + 1e-14)).all()
                x = after


def norms(x: Tensor) -> Any:
    return torch.linalg.vector_norm(x, dim=(1, 2, 3))


@pytest.mark.parametrize("activation", ["relu", "charbonnier", "perona-malik", "perona-malik-exponential", "weickert"])
def test_it_does_not_rise_after_training_with_a_huge_rate(activation: str) -> None:
    for seed, make in enumerate((torch.optim.SGD, torch.optim.Adam)):
        branch = drawn(SymmetricBranch, 2, seed, activation=activation)
        optimiser = make(branch.parameters(), lr=1e3)
        for _ in range(8):
            optimiser.zero_grad()
            x = images(2)
            loss = -(x + branch(x)).square().sum()  # the wish to make the norm grow
            loss.backward()
            optimiser.step()
            x = 10 ** (4 * torch.rand(())) * images(2)
            with torch.no_grad():
                assert branch.step(6, 5).isfinite()
                assert (norms(x + branch(x)) <= norms(x) * (1 + 1e-14)).all()


@pytest.mark.parametrize(
    "activation", ["constant", "charbonnier", "perona-malik", "perona-malik-exponential", "weickert"]
)
@torch.no_grad()
def test_at_larger_steps_the_norm_rises(activation: str) -> None:
    """At 1.3 times the true limit 2/‖K‖², for a small image of the worst direction: the bound is needed."""
    branch = drawn(SymmetricBranch, 2, activation=activation)
    x = 1e-4 * worst_image(branch, 6, 5)
    norm = functional.conv2d(x, branch.conv.weight, padding=1).norm() / x.norm()
    limit = 2 / norm**2
    ratio = float(limit / branch.step(6, 5))
    within, beyond = ((x + factor * ratio * branch(x)).norm() / x.norm() for factor in (1, 1.3))
    assert float(within) <= 1 + 1e-6
    assert float(beyond) > 1.5
    assert float(limit) / 1.3 < float(branch.step(6, 5)) <= float(limit)


@pytest.mark.parametrize("activation", [*MONOTONE, "perona-malik", "perona-malik-exponential", "weickert"])
def test_two_solutions_approach_each_other_where_the_flux_is_monotone(activation: str) -> None:
    """And elsewhere some part: non-expansion is from 0 alone."""
    rng, most = np.random.default_rng(5), 0.0
    for _ in range(40):
        channels, height, width = (int(n) for n in rng.integers(1, [3, 8, 8]))
        branch = drawn(SymmetricBranch, channels, int(rng.integers(1000)), activation=activation)
        x = images(channels, height, width) * rng.uniform(0.1, 4)
        y = x + 1e-3 * images(channels, height, width)
        with torch.no_grad():
            most = max(most, float((norms(x + branch(x) - y - branch(y)) / norms(x - y)).max()))
    assert (most <= 1 + 1e-12) == (activation in MONOTONE)


def test_the_midpoint_rule_is_stable_with_the_antisymmetric_branch_and_euler_is_not() -> None:
    """Over 1000 steps, in the worst direction and with the largest step there is."""
    for activation in ("constant", "tanh"):
        branch = drawn(AntisymmetricBranch, 2, activation=activation)
        with torch.no_grad():
            branch.conv.bias.zero_()
            start = 0.1 * worst_image(branch, 5, 5)
            euler, before, now = start, start, start + branch(start)
            largest = 0.0
            for _ in range(1000):
                euler = euler + branch(euler)
                before, now = now, before + 2 * branch(now)
                largest = max(largest, float(now.norm()))
        assert largest < 8 * float(start.norm())
        assert float(euler.norm()) > 10 * largest


def test_two_hamiltonian_branches_are_stable_with_symplectic_euler() -> None:
    """y ← y + f(z), z ← z − g(y) over 1000 steps, the frequencies at most 2; at 1.3 times both steps they grow."""
    f, g = (drawn(HamiltonianBranch, 1, seed, activation="constant") for seed in (1, 2))
    norms_after = []
    for ratio, steps in ((1.0, 1000), (1.3, 100)):
        with torch.no_grad():
            g.conv.weight.copy_(f.conv.weight)
            f.conv.bias.zero_()
            g.conv.bias.zero_()
            y = z = worst_image(f, 16, 16)
            for _ in range(steps):
                y = y + ratio * f(z)
                z = z - ratio * g(y)
        norms_after.append(float(y.norm() + z.norm()))
    assert HamiltonianBranch.SIGNS == (1, -1)
    assert norms_after[0] < 50
    assert norms_after[1] > 1e10


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_interval_the_step_may_be_of_any_size(kind: type[StableBranch]) -> None:
    """As of an implicit method; and it stays above 0."""
    sizes = []
    for theta in (-30.0, 0.0, 30.0, 3e4):
        branch = drawn(kind, 2, interval=None)
        with torch.no_grad():
            branch.theta.fill_(theta)
            sizes.append(float(branch.step(6, 5) / drawn(kind, 2, interval=1.0).step(6, 5)))
    assert sizes == pytest.approx([math.log1p(math.exp(-30)), math.log(2), 30, 3e4])


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_keeps_its_bound_whatever_the_parameters(kind: type[StableBranch]) -> None:
    """Below the interval over the true norm, or its square, for any θ and any scale, of a kernel of zeros too."""
    for scale in (0.0, 1e-20, 1e-6, 1.0, 1e6, 1e15):
        for theta in (-200.0, -1.0, 0.0, 200.0):
            branch = drawn(kind, 2, interval=1.3).float()
            with torch.no_grad():
                branch.conv.weight.mul_(scale)
                branch.theta.fill_(theta)
            x = images(2).float().requires_grad_()
            y = branch(x)
            y.square().sum().backward()
            assert y.isfinite().all()
            assert theta > -200 or scale > 1 or not y.any()
            assert kind is not AntisymmetricBranch or branch.step(6, 5) <= 1.3  # a vanishing A leaves the bias alone
            gradients = [parameter.grad for parameter in branch.parameters()]
            if scale in (1e-6, 1.0, 1e6):
                assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
                norm = worst_norm(branch)
                rho = float(branch.step(6, 5).detach()) * (norm if kind is AntisymmetricBranch else norm**2)
                assert 0 <= rho <= 1.3 * (1 + 1e-6)


def worst_norm(branch: Any) -> float:
    branch = copy.deepcopy(branch).double()
    kernel = (branch.kernel() if hasattr(branch, "kernel") else branch.conv.weight).detach()
    return float(functional.conv2d(worst_image(branch, 6, 5), kernel, padding=1).norm())


# What is kept.


def fresh(branch: StableBranch, x: Tensor) -> Tensor:
    """Return f(x) by a new branch with the parameters of another."""
    new = copy.deepcopy(branch)
    new.load_state_dict(branch.state_dict())
    made: Tensor = new.train()(x)
    return made.detach()


def trained(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Callable[[StableBranch], None]:
    def train(branch: StableBranch) -> None:
        optimiser = make(branch.parameters(), lr=0.1, **options)
        with torch.enable_grad():
            branch(images()).square().sum().backward()
        optimiser.step()

    return train


def copied(branch: StableBranch) -> None:
    with torch.no_grad():
        branch.conv.weight.copy_(torch.randn_like(branch.conv.weight))


def multiplied(branch: StableBranch) -> None:
    with torch.no_grad():
        branch.theta.sub_(28)


def loaded(branch: StableBranch, assign: bool = False) -> None:
    other = drawn(type(branch), seed=int(torch.randint(10**6, ())))
    branch.load_state_dict(other.state_dict(), assign=assign)


def replaced(branch: StableBranch) -> None:
    branch.conv.weight.data = torch.randn_like(branch.conv.weight.data)


def rounded(branch: StableBranch) -> None:
    copied(branch)
    fresh(branch, images())
    branch.bfloat16()
    branch.double()


def through_data(branch: StableBranch) -> None:
    branch.conv.weight.data.mul_(-3).add_(1)


def by_numpy(branch: StableBranch) -> None:
    branch.conv.weight.detach().numpy()[...] *= 2
    branch.theta.detach().numpy()[...] -= 29


CHANGES: dict[str, Callable[[StableBranch], None]] = {
    "copied": copied,
    "multiplied": multiplied,
    "loaded": loaded,
    "assigned": lambda branch: loaded(branch, True),
    "replaced": replaced,
    "rounded": rounded,
    "through data": through_data,
    "by numpy": by_numpy,
    "sgd": trained(torch.optim.SGD),
    "momentum": trained(torch.optim.SGD, momentum=0.9, foreach=True),
    "adam": trained(torch.optim.Adam, foreach=False),
    "fused": trained(torch.optim.AdamW, fused=True),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_kept_outlives_its_parameters(kind: type[StableBranch], change: str) -> None:
    """In evaluation, through whatever changes them, twice each."""
    branch, x = drawn(kind).eval(), images()
    with torch.no_grad():
        for _ in range(2):
            before = branch(x)
            CHANGES[change](branch)
            after = branch(x)
            assert not torch.equal(before, after)
            torch.testing.assert_close(after, fresh(branch, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_in_evaluation_nothing_is_made_twice(kind: type[StableBranch], monkeypatch: pytest.MonkeyPatch) -> None:
    """But for another size of image, and where a gradient of the parameters is asked for."""
    branch = drawn(kind).eval()
    calls: list[tuple[int, ...]] = []
    made = branch.made

    def counted(*size: int) -> tuple[Tensor, ...]:
        calls.append(size)
        return made(*size)  # type: ignore[no-any-return]

    monkeypatch.setattr(branch, "made", counted)
    with torch.no_grad():
        first, second = branch(x := images()), branch(x)
        assert torch.equal(first, second)
        assert calls == [(6, 5)]
        small = images(height=4)
        branch(small)
        assert calls == [(6, 5), (4, 5)]
    assert torch.equal(branch(x), first)
    assert branch(x).requires_grad
    assert len(calls) == 4
    branch.requires_grad_(False)
    x.requires_grad_()
    with torch.inference_mode():
        branch(x)
    branch(x).sum().backward()  # what was kept in inference mode could not be saved for this
    assert x.grad is not None
    branch(x)
    assert len(calls) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_states_carry_nothing_kept(kind: type[StableBranch]) -> None:
    branch, x = drawn(kind).eval(), images()
    with torch.no_grad():
        expected = branch(x)
        other = pickle.loads(pickle.dumps(branch))
        twin = copy.deepcopy(branch)
        assert branch.kept is not None
        assert twin.kept is other.kept is None
        new = drawn(kind, seed=4).eval()
        assert not torch.equal(new(x), expected)
        assert new.load_state_dict(branch.state_dict()).missing_keys == []
        for each in (other, twin, new):
            assert torch.equal(each(x), expected)
    assert set(branch.state_dict()) == {name for name, _ in branch.named_parameters()}


# How it runs.


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradients_are_those_of_differences(kind: type[StableBranch]) -> None:
    """Of every parameter, the bound of the norm included."""
    branch, x = drawn(kind, 2, activation="charbonnier"), images(2, 4, 3, 1)
    names = [name for name, _ in branch.named_parameters()]
    with torch.no_grad():
        branch.theta.fill_(0.3)

    def f(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(branch, dict(zip(names, values, strict=True)), x)  # type: ignore[no-any-return]

    values = [parameter.detach().requires_grad_() for parameter in branch.parameters()]
    assert torch.autograd.gradcheck(f, (x.requires_grad_(), *values))


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_in_low_precision_and_channels_last(kind: type[StableBranch]) -> None:
    branch, x = drawn(kind, 8).float(), images(8).float()
    expected = branch(x)
    last = branch(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        low = branch(x)
    assert low.dtype == torch.bfloat16 or kind is AntisymmetricBranch
    torch.testing.assert_close(low.float(), expected, rtol=0.05, atol=0.05)
    low.float().sum().backward()
    torch.testing.assert_close(copy.deepcopy(branch).bfloat16()(x.bfloat16()).float(), expected, rtol=0.1, atol=0.1)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(branch(x), expected)
        branch(x).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", [SymmetricBranch, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_it_is_one_graph(kind: type[StableBranch]) -> None:
    """Under torch.compile, which makes anew in evaluation what is kept otherwise."""
    branch, x = drawn(kind), images()
    compiled: Any = torch.compile(branch, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), branch(x))
    with torch.no_grad():
        compiled(x)
        copied(branch)
        torch.testing.assert_close(compiled(x), branch(x))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_are_refused(kind: type[StableBranch]) -> None:
    make: Any = kind
    for shape in ((2, 3), (2, 2, 2)):
        with pytest.raises(ValueError, match="keeps the shape"):
            make(*shape)
    for interval in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="`interval`"):
            make(2, 2, interval=interval)
    assert kind.keeps_shape
    assert not kind.after
    assert kind.layers == (1 if kind is AntisymmetricBranch else 2)
