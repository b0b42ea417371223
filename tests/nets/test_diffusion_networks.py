"""Networks of diffusion and Hamiltonian blocks, as `build` makes them: stable whatever they learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from odenas.nets import build
from odenas.nets.symmetric import AntisymmetricBranch, HamiltonianBranch, StableBranch, SymmetricBranch
from odenas.space import Scheme, scheme
from odenas.space.blocks import ACTIVATIONS, Blocks
from odenas.space.errors import OdenasError

BLOCKS = 6
SCHEMES = {  # and the interval that the step of symmetric blocks must keep to
    "euler": 2.0,
    "fsi": scheme("fsi").real_interval,
    "du_fort_frankel": 4.0,
    "implicit_diffusion": 1.0,
    "ab2": 1.0,
    "rk4": scheme("rk4").real_interval,
}


def with_blocks(name: str, kind: str, activation: str = "charbonnier", **options: Any) -> Scheme:
    per_stage = options.pop("per_stage", (BLOCKS,))
    blocks = Blocks(kind=kind, activation=activation, per_stage=per_stage, **options)
    return replace(scheme(name), blocks=blocks)


def filters(value: Scheme, channels: int = 2, seed: int = 0) -> Any:
    """Return the bare network of the scheme, from images to images, in float64: nothing but steps."""
    torch.manual_seed(seed)
    return build(value, backbone="dense", stem="identity", width=channels, channels=channels).double()


def shaken(network: Any, rho: float = 30.0) -> Any:
    """Give the network random parameters, and its steps nearly the length of the interval."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
        for branch in branches(network):
            branch.theta.fill_(rho)
    return network


def branches(network: Any) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, StableBranch)]


def images(channels: int = 2, size: int = 6) -> Tensor:
    return torch.randn(3, channels, size, size, dtype=torch.float64)


def norms(x: Tensor) -> Any:
    return torch.linalg.vector_norm(x, dim=(1, 2, 3))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_blocks_keep_to_the_interval_of_the_scheme(name: str) -> None:
    network = filters(with_blocks(name, "symmetric"))
    made = branches(network)
    each = 1 if scheme(name).tying == "stages" else scheme(name).tableau.stages
    assert len(made) >= 1 + (BLOCKS - 2) * each
    assert all(isinstance(branch, SymmetricBranch) for branch in made)
    assert {branch.interval for branch in made} == {SCHEMES[name]}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_euler_never_raises_the_norm_of_an_image(activation: str) -> None:
    """Through the whole network, with random parameters, and after training with a huge learning rate."""
    network = shaken(filters(with_blocks("euler", "symmetric", activation)))
    x = images()
    with torch.no_grad():
        assert (norms(network(x)) <= norms(x) * (1 + 1e-13)).all()
    optimiser = torch.optim.SGD(network.parameters(), lr=100.0)
    for _ in range(3):
        optimiser.zero_grad()
        (-network(x).square().sum()).backward()
        optimiser.step()
        x = 10 * torch.rand(()) * images()
        for mode in (True, False):
            network.train(mode)
            with torch.no_grad():
                assert (norms(network(x)) <= norms(x) * (1 + 1e-13)).all()


@pytest.mark.parametrize("name", ["implicit_diffusion", "rk4", "ssp33"])
def test_one_step_methods_with_one_linear_branch_never_raise_the_norm(name: str) -> None:
    """|R(z)| ≤ 1 on the interval, and the Jacobian is symmetric. With steps of 1.5 times the interval some rise."""
    value = replace(with_blocks(name, "symmetric", "constant"), tying="steps")
    rises = []
    for factor in (1.0, 1.5):
        most = 0.0
        for seed in range(6):
            network = shaken(filters(value, 1, seed))
            for branch in branches(network):
                branch.interval *= factor
            x = images(1)
            with torch.no_grad():
                for _ in range(3):
                    after = network(x)
                    most = max(most, float((norms(after) / norms(x)).max()))
                    x = after
        rises.append(most)
    assert rises[0] <= 1 + 1e-12
    assert rises[1] > 1.5


@pytest.mark.parametrize("name", ["du_fort_frankel", "fsi", "ab2"])
def test_deep_linear_diffusion_stays_bounded(name: str) -> None:
    """Over a hundred steps of one branch; with steps of 1.5 times the interval it does not."""
    value = replace(with_blocks(name, "symmetric", "constant", per_stage=(100,)), tying="steps")
    rises = []
    for factor in (1.0, 1.5):
        network = shaken(filters(value, 1, 3))
        for branch in branches(network):
            branch.interval *= factor
        x = images(1)
        with torch.no_grad():
            rises.append(float((norms(network(x)) / norms(x)).max()))
    assert rises[0] < 3
    assert rises[1] > 1e3


@pytest.mark.parametrize("activation", ["constant", "tanh"])
def test_the_midpoint_rule_keeps_the_norm_with_antisymmetric_blocks(activation: str) -> None:
    """Over two hundred steps of one branch, where Euler's grow."""
    grown = {}
    for name in ("midpoint", "euler"):
        value = replace(with_blocks(name, "antisymmetric", activation, per_stage=(200,)), tying="steps")
        network = shaken(filters(value), 0.0)
        assert all(isinstance(branch, AntisymmetricBranch) for branch in branches(network))
        assert {branch.interval for branch in branches(network)} == {1.0}
        with torch.no_grad():
            for branch in branches(network):
                branch.conv.bias.zero_()
                branch.conv.weight.copy_(network.stages[0].first.conv.weight)
            x = 0.1 * images()
            grown[name] = float((norms(network(x)) / norms(x)).max())
    assert grown["midpoint"] < 3
    assert grown["euler"] > 5 * grown["midpoint"]


@pytest.mark.parametrize("name", ["symplectic_euler", "stormer_verlet"])
def test_a_hamiltonian_network_takes_opposite_signs(name: str) -> None:
    """y ← y + K₁ᵀΦ(K₁z + b₁), z ← z − K₂ᵀΦ(K₂y + b₂): written out for symplectic Euler, bounded for both."""
    value = replace(with_blocks(name, "hamiltonian", "tanh", per_stage=(200,), shortcut="pad"), tying="steps")
    network = shaken(filters(value, 4))
    made = branches(network)
    assert all(isinstance(branch, HamiltonianBranch) for branch in made)
    assert len(made) == 2
    x = images(4)
    with torch.no_grad():
        for branch in made:
            branch.conv.bias.zero_()
        after = network(x)
        assert float((norms(after) / norms(x)).max()) < 20
        if name == "symplectic_euler":
            y, z = x.chunk(2, 1)
            for _ in range(200):
                y = y + made[0](z)
                z = z - made[1](y)
            torch.testing.assert_close(after, torch.cat([y, z], 1))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("euler", "symmetric"),
        ("fsi", "symmetric"),
        ("du_fort_frankel", "symmetric"),
        ("implicit_diffusion", "symmetric"),
        ("midpoint", "antisymmetric"),
        ("symplectic_euler", "hamiltonian"),
    ],
)
def test_classifiers_train(name: str, kind: str) -> None:
    """With shapes that change between the stages; every parameter has a gradient, and the state dict makes a twin."""
    value = with_blocks(name, kind, per_stage=(3, 3))
    torch.manual_seed(0)
    network = build(value, width=4)
    x, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 2
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]
    dead = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert not dead
    twin = build(value, width=4)
    with torch.no_grad():
        twin.eval()(x)  # keeps what the loaded parameters must not meet again
        twin.load_state_dict(network.state_dict())
        assert torch.equal(twin(x), network.eval()(x))


def test_a_reversible_hamiltonian_network_has_the_same_gradient() -> None:
    """Also after a fused optimiser has changed the parameters between two evaluations without gradients."""
    value = with_blocks("symplectic_euler", "hamiltonian", "tanh", per_stage=(3, 3), shortcut="pad")
    torch.manual_seed(0)
    plain = build(value, width=4).double()
    reversible = build(value, width=4, reversible=True).double()
    reversible.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    optimisers = [torch.optim.Adam(network.parameters(), lr=0.1, fused=True) for network in (plain, reversible)]
    for _ in range(3):
        for network, optimiser in zip((plain, reversible), optimisers, strict=True):
            optimiser.zero_grad()
            network(x).square().sum().backward()
        for one, other in zip(plain.parameters(), reversible.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=1e-9)
        for optimiser in optimisers:
            optimiser.step()


@pytest.mark.parametrize("name", ["midpoint", "nystrom3"])
def test_symmetric_blocks_are_refused_where_no_step_is_stable(name: str) -> None:
    with pytest.raises(OdenasError, match="symmetric"):
        filters(with_blocks(name, "symmetric"))
