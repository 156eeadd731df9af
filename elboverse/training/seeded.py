"""Automatic differentiation from several tensors at once, with the gradients of something that is known by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["backward_from"]


class _Seed(torch.autograd.Function):
    """Σ ⟨gradient, tensor⟩ as differentiation sees it: each tensor is given its gradient as it is; the value is 0."""

    @staticmethod
    def forward(ctx: Any, count: int, *values: Tensor) -> Tensor:
        ctx.gradients = values[count:]
        return values[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _one: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.gradients, *(None for _ in ctx.gradients))


def backward_from(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Add to the ``grad`` of each leaf what the gradients give by the chain rule; tensors that need none are left out.

    `torch.autograd.backward` with gradients does the same, but imports a computer algebra system to compare their
    shapes, 0.5 to 0.8 s of every start.

    Args:
        pairs: a tensor and the gradient with respect to it, of the same shape.
    """
    pairs = [(tensor, gradient) for tensor, gradient in pairs if tensor.requires_grad]
    if pairs:
        tensors, gradients = zip(*pairs, strict=True)
        seed: Tensor = _Seed.apply(len(pairs), *tensors, *gradients)  # type: ignore[no-untyped-call]
        seed.backward()
