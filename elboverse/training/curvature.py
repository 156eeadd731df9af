"""The Hessian of a full-batch objective, for the coordinates in which it curves alike in all directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import Tensor, nn

from elboverse.contracts import Model
from elboverse.theory.elbo import moments, terms_of

__all__ = ["ObjectiveModule", "hessian_of"]

ROWS_AT_ONCE: Final = 4
"""Of the Hessian; all at once took three times as long, most of it for memory."""


class ObjectiveModule(nn.Module):
    """Minus the objective of a model as a module, so that `torch.func.functional_call` can exchange the parameters."""

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__()
        self.model = model
        self.beta = beta

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Return it over some points."""
        terms = terms_of(moments(cast(Model, self.model), x, noise, average_points=True))
        return -(terms.log_likelihood - self.beta * terms.kl.sum())


def hessian_of(objective: Callable[[Tensor], Tensor], flat: Tensor) -> Tensor:
    """Return the Hessian, shape (P, P), a few rows at a time: all at once would need P times a step's memory."""
    flat = flat.requires_grad_()
    (gradient,) = torch.autograd.grad(objective(flat), flat, create_graph=True)
    rows = torch.eye(len(flat), dtype=flat.dtype, device=flat.device).split(ROWS_AT_ONCE)
    return torch.cat(
        [torch.autograd.grad(gradient, flat, part, retain_graph=True, is_grads_batched=True)[0] for part in rows]
    )
