"""The weighted sum: its value, its gradients, and that it leaves its arguments alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from odenas.nets.combine import LinearCombination, Weight, combine

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Per term: a number, a trained scalar ("s"), or a trained weight per channel ("c").
KINDS: list[list[float | str]] = [
    ["s", "s"],
    ["s", "s", 1.0],
    ["c", "c"],
    ["c", 1.0],
    [1.0, "s", 1.0, -0.5],
    ["s", 0.0, 2.0, "c"],
    [1.0, 1.0, "c", "s", 0.25],
]


def terms(kinds: list[float | str], layout: str, shape: tuple[int, ...] = (2, 3, 4, 5)) -> list[tuple[Weight, Tensor]]:
    """Return random terms whose tensors, and weights where they are tensors, ask for gradients."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    result: list[tuple[Weight, Tensor]] = []
    for kind in kinds:
        weight = {"s": draw(), "c": draw(3, 1, 1)}[kind].requires_grad_() if isinstance(kind, str) else kind
        x = draw(*shape).contiguous(memory_format=FORMATS[layout])
        result.append((weight, x.requires_grad_()))
    return result


def written_out(parts: list[tuple[Weight, Tensor]]) -> Tensor:
    total = torch.zeros_like(parts[0][1])
    for weight, x in parts:
        total = total + weight * x
    return total


def leaves(parts: list[tuple[Weight, Tensor]]) -> list[Tensor]:
    return [entry for term in parts for entry in term if isinstance(entry, Tensor)]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_it_is_the_sum_written_out_with_its_gradients(kinds: list[float | str], layout: str) -> None:
    parts = terms(kinds, layout)
    given = [entry.detach().clone() for entry in leaves(parts)]
    total, expected = combine(parts), written_out(parts)
    torch.testing.assert_close(total, expected, rtol=1e-14, atol=1e-14)
    assert total.is_contiguous(memory_format=FORMATS[layout])
    for cotangent in (torch.randn_like(total), torch.randn(2, 5, 4, 3, dtype=total.dtype).transpose(1, 3)):
        gradients = torch.autograd.grad(total, leaves(parts), cotangent, retain_graph=True, allow_unused=True)
        plain = torch.autograd.grad(expected, leaves(parts), cotangent, retain_graph=True)
        for gradient, other in zip(gradients, plain, strict=True):
            # A term of weight 0 takes no part, so it has no gradient instead of zeros.
            gradient = torch.zeros_like(other) if gradient is None else gradient
            torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)
    for entry, before in zip(leaves(parts), given, strict=True):
        assert torch.equal(entry, before)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
def test_gradients_are_those_of_finite_differences(kinds: list[float | str], layout: str) -> None:
    arguments: Any = [entry for term in terms(kinds, layout, (1, 3, 2, 2)) for entry in term]
    assert torch.autograd.gradcheck(LinearCombination.apply, arguments)
    assert torch.autograd.gradgradcheck(LinearCombination.apply, arguments)


@pytest.mark.parametrize("kinds", [*KINDS, [1.0, 1.0], [1.0], [2.0, 3.0, 1.0]], ids=str)
def test_arguments_and_gradients_that_arrive_stay_as_they_are(kinds: list[float | str]) -> None:
    """The inside writes on its own sums alone, with gradients and without."""
    parts = terms(kinds, "contiguous")
    for tracked in (True, False):
        given = [entry.detach().clone() for entry in leaves(parts)]
        versions = [entry._version for entry in leaves(parts)]
        with torch.set_grad_enabled(tracked):
            total = combine(parts)
        if tracked:
            cotangent = torch.randn_like(total)
            before = cotangent.clone()
            torch.autograd.grad(total, leaves(parts), cotangent, allow_unused=True)
            assert torch.equal(cotangent, before)
        assert all(torch.equal(entry, old) for entry, old in zip(leaves(parts), given, strict=True))
        assert versions == [entry._version for entry in leaves(parts)]


def test_terms_that_are_missing_count_as_zero() -> None:
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    weight = torch.tensor(0.5)
    for half in (0.5, weight):
        torch.testing.assert_close(combine([(1.0, x), (half, None), (0.0, y), (half, y)]), x + 0.5 * y)
        torch.testing.assert_close(combine([(half, None), (1.0, x)]), x)


def test_only_the_gradients_asked_for_are_computed() -> None:
    weight, x, y = torch.tensor(0.3, requires_grad=True), torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    torch.autograd.backward(combine([(1.0, x), (weight, y)]).sum())
    assert x.grad is None
    assert y.grad is None
    torch.testing.assert_close(weight.grad, y.sum())


@pytest.mark.parametrize("kind", ["s", "c"])
def test_half_precision_gradients_are_summed_in_float32(kind: str) -> None:
    """Thousands of bfloat16 products summed in bfloat16 would be wrong in the first digit."""
    torch.manual_seed(0)
    weight = torch.tensor(0.5) if kind == "s" else torch.full((3, 1, 1), 0.5, dtype=torch.bfloat16)
    weight.requires_grad_()
    x = (1 + torch.rand(16, 3, 32, 32)).bfloat16()
    total = combine([(weight, x), (1.0, x)])
    assert total.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(total, weight, torch.ones_like(total))
    exact = x.double().sum_to_size(weight.shape)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5 if kind == "s" else 2**-8, atol=0)


def test_the_same_tensor_may_come_twice() -> None:
    """As after a start by copies, where earlier states are the present one."""
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    a, b = (torch.tensor(random.Random(i).random(), dtype=torch.float64, requires_grad=True) for i in range(2))
    total = combine([(a, x), (b, x), (1.0, x)])
    gradients = torch.autograd.grad(total.square().sum(), [x, a, b])
    plain = torch.autograd.grad((a * x + b * x + x).square().sum(), [x, a, b])
    for gradient, other in zip(gradients, plain, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)
