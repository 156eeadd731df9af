"""What an optimiser must offer, and Adam, which is used where none is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor

__all__ = ["Adam", "Optimiser"]


@runtime_checkable
class Optimiser(Protocol):
    """An optimiser, on one flat tensor: all parameters that share a learning rate. It keeps nothing itself."""

    def state(self, values: Tensor) -> dict[str, Tensor]:
        """Return what it wants to be kept between updates: name → a tensor of shape (P,), or a number of shape ().

        Args:
            values: the parameters, shape (P,).
        """
        ...

    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        """Update the parameters and the state in place.

        Args:
            values: the parameters, shape (P,).
            gradients: ∂loss/∂θ, shape (P,).
            state: of `state`, as the last update left it.
            rate: the learning rate.
        """
        ...


@attrs.frozen
class Adam:
    """θ ← (1 − rate λ) θ − rate m̂/(√v̂ + ε), with λ = 0 for Adam: torch's fused update.

    The class that torch has around it costs as much as a small network's whole forward pass.
    Sources: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def state(self, values: Tensor) -> dict[str, Tensor]:
        """Return the running averages and the number of updates."""
        count = torch.zeros((), dtype=torch.float32, device=values.device)
        return {"exp_avg": torch.zeros_like(values), "exp_avg_sq": torch.zeros_like(values), "step": count}

    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        """Update the parameters and the averages."""
        state["step"].add_(1)
        _fused(self.weight_decay)(
            [values],
            [gradients],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            lr=rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )


def _fused(weight_decay: float) -> Callable[..., None]:
    return torch._fused_adamw_ if weight_decay else torch._fused_adam_
