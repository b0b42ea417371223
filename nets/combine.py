"""The weighted sum of states and slopes that every step is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

Weight = float | Tensor


def combine(terms: Iterable[tuple[Weight, Tensor | None]]) -> Tensor:
    """Return Σ weight × tensor over the terms that are there.

    A weight is a number or a tensor: (), (C, 1, 1), or of as many dimensions as the others, such as (batch, 1, 1, 1).
    Where nothing but terms of weight 0 is there, the sum is 0 in their shape.
    """
    there = [(w, x) for w, x in terms if x is not None]
    kept = [(w, x) for w, x in there if isinstance(w, Tensor) or w != 0]
    if not kept:
        return torch.zeros_like(there[0][1])
    if any(isinstance(w, Tensor) for w, _ in kept) and not torch.compiler.is_compiling():
        return LinearCombination.apply(*chain.from_iterable(kept))  # type: ignore[no-any-return]
    return add(kept)


def add(terms: Sequence[tuple[Weight, Tensor]]) -> Tensor:
    """Return Σ weight × tensor, one pass for each term; a term of weight 1 comes first, at no cost."""
    # Not sorted by that: in a compiled graph a number may be a symbol, whose comparison has no order.
    ones = [term for term in terms if not isinstance(term[0], Tensor) and term[0] == 1]
    (weight, total), *rest = [*ones, *(term for term in terms if isinstance(term[0], Tensor) or term[0] != 1)]
    fresh = isinstance(weight, Tensor) or weight != 1
    if fresh:
        total = total * weight
    for weight, x in rest:
        # From the second operation on, `total` is ours to write on.
        if isinstance(weight, Tensor):
            total = total.addcmul_(x, weight) if fresh else torch.addcmul(total, x, weight)
        else:
            total = total.add_(x, alpha=weight) if fresh else torch.add(total, x, alpha=weight)
        fresh = True
    return total


def inner(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of `weight` in weight × x: the sum of gradient × x over all that the weight multiplies."""
    if weight.dim() == 0 and x.dtype in (torch.float32, torch.float64) and x.dtype == gradient.dtype:
        order = (0, 2, 3, 1) if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else range(x.dim())
        return torch.dot(gradient.permute(*order).reshape(-1), x.permute(*order).reshape(-1)).to(weight)
    product = (gradient * x).float() if x.dtype.itemsize < 4 else gradient * x
    return product.sum_to_size(weight.shape).to(weight)


def pairs(weights: Sequence[Weight], tensors: Sequence[Tensor | None]) -> Iterable[tuple[Weight, Tensor | None]]:
    """Return the terms of a weighted sum; weights beyond the tensors there are must be zero."""
    return zip(weights, tensors, strict=False)


class LinearCombination(torch.autograd.Function):
    """Σ_i w_i x_i with gradients for weights and tensors; arguments w_1, x_1, w_2, x_2, …

    The same as the sum written out, in fewer passes over memory: a weight's gradient is one inner product.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        """Return the sum."""
        return add(list(zip(arguments[::2], arguments[1::2], strict=True)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the gradients need."""
        arguments = inputs
        # A tensor is kept for its weight's gradient alone, so that x + f keeps nothing of f.
        needed = [
            isinstance(entry, Tensor) and (i % 2 == 0 or ctx.needs_input_grad[i - 1])
            for i, entry in enumerate(arguments)
        ]
        ctx.save_for_backward(*(entry for entry, need in zip(arguments, needed, strict=True) if need))
        ctx.rest = [None if isinstance(entry, Tensor) else entry for entry in arguments]
        ctx.needed = needed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments."""
        (gradient,), saved = gradients, iter(ctx.saved_tensors)
        arguments = [next(saved) if need else entry for entry, need in zip(ctx.rest, ctx.needed, strict=True)]
        result: list[Tensor | None] = []
        for i, (weight, tensor) in enumerate(zip(arguments[::2], arguments[1::2], strict=True)):
            result.append(inner(gradient, tensor, weight) if ctx.needs_input_grad[2 * i] else None)
            one = isinstance(weight, float) and weight == 1
            result.append((gradient if one else gradient * weight) if ctx.needs_input_grad[2 * i + 1] else None)
        return tuple(result)
