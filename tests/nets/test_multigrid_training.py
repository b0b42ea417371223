"""Multigrid networks learn to denoise, and compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from odenas.nets import build, coefficients
from odenas.space import Scheme, scheme
from odenas.space.blocks import Blocks

SCHEMES = {"lm": scheme("lm"), "diffusion": Scheme(scheme("euler").tableau, blocks=Blocks("symmetric", "charbonnier"))}


@pytest.mark.parametrize("name", SCHEMES)
def test_it_learns_to_denoise(name: str) -> None:
    """On new images, far better than to leave them as they are; and the scheme's coefficients have learned too."""
    generator = torch.Generator().manual_seed(0)

    def noisy(count: int) -> tuple[Tensor, Tensor]:
        coarse = torch.rand(count, 1, 4, 4, generator=generator)
        clean = functional.interpolate(coarse, size=16, mode="bicubic")
        return clean, clean + 0.2 * torch.randn(clean.shape, generator=generator)

    torch.manual_seed(0)
    network = build(SCHEMES[name], 22, channels=1, width=8, backbone="multigrid")
    before = coefficients(network)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(40):
        clean, given = noisy(16)
        loss = functional.mse_loss(network(given), clean)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    clean, given = noisy(64)
    with torch.no_grad():
        left = functional.mse_loss(network.eval()(given), clean) / functional.mse_loss(given, clean)
    assert left < 0.4
    moved = [abs(row["value"] - old["value"]) for row, old in zip(coefficients(network), before, strict=True)]
    assert (max(moved) > 0.01) == (name == "lm")


def test_two_networks_compile_without_graph_breaks_one_after_the_other() -> None:
    """The numbers of the second one's tableau are symbols to the compiler, since they differ from the first one's."""
    torch._dynamo.reset()
    images = torch.randn(2, 3, 8, 8)
    for name in ("euler", "ab2", "lm"):
        torch.manual_seed(0)
        network: Any = build(scheme(name), backbone="multigrid", width=(2, 3))
        torch.nn.init.normal_(network.head.weight)
        compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(images), network(images), rtol=1e-5, atol=1e-5)
        compiled(images).square().sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
