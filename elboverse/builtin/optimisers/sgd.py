"""Stochastic gradient descent."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from elboverse.config.structuring import in_range

__all__ = ["SGD", "SGDOptions", "build"]


@attrs.frozen(kw_only=True)
class SGDOptions:
    """Options of stochastic gradient descent.

    Args:
        momentum: μ.
        nesterov: look ahead along the momentum.
        weight_decay: λ, added to the gradient as λ θ.
    """

    momentum: float = attrs.field(default=0.0, validator=in_range(minimum=0, below=1))
    nesterov: bool = False
    weight_decay: float = attrs.field(default=0.0, validator=in_range(minimum=0))

    def __attrs_post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov given without momentum, which it looks along; give a momentum such as 0.9")


@attrs.frozen
class SGD:
    """b ← μ b + g + λ θ; θ ← θ − rate b, or θ − rate (g + λ θ + μ b) with Nesterov (Sutskever et al. 2013)."""

    options: SGDOptions

    def state(self, values: Tensor) -> dict[str, Tensor]:
        """Return the momentum, if there is one."""
        return {"momentum_buffer": torch.zeros_like(values)} if self.options.momentum else {}

    def update(self, values: Tensor, gradients: Tensor, state: dict[str, Tensor], rate: float) -> None:
        """Update the parameters and the momentum."""
        direction = gradients
        if self.options.weight_decay:
            direction = torch.add(gradients, values, alpha=self.options.weight_decay)
        if self.options.momentum:
            buffer = state["momentum_buffer"].mul_(self.options.momentum).add_(direction)
            direction = torch.add(direction, buffer, alpha=self.options.momentum) if self.options.nesterov else buffer
        values.add_(direction, alpha=-rate)


def build(options: SGDOptions) -> SGD:
    """Return the optimiser."""
    return SGD(options)
