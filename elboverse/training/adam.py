"""Adam on flat groups of parameters, without the bookkeeping of `torch.optim.Optimizer`.

The update is torch's own (`torch._fused_adam_`). The class around it costs as much as a small network's whole forward
pass, which is why it is left out; docs/performance.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from elboverse.training.flat import FlatGroup

__all__ = ["Adam"]

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


class Adam:
    """Adam (Kingma and Ba 2015) with torch's default settings and a learning rate per group.

    Args:
        groups: the parameters and their gradients.
    """

    def __init__(self, groups: Sequence[FlatGroup]) -> None:
        self.scale = 1.0
        """What all learning rates are multiplied by."""
        self._groups = [
            (
                group,
                torch.zeros_like(group.values),
                torch.zeros_like(group.values),
                torch.zeros((), dtype=torch.float32, device=group.values.device),
            )
            for group in groups
        ]

    def step(self) -> None:
        """Update every parameter from its gradient."""
        for group, average, square, count in self._groups:
            count.add_(1)
            torch._fused_adam_(
                [group.values],
                [group.gradients],
                [average],
                [square],
                [],
                [count],
                lr=group.rate * self.scale,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments and step counts as ``exp_avg/parameter``, ``exp_avg_sq/parameter``, ``step/parameter``."""
        found: dict[str, Tensor] = {}
        for group, average, square, count in self._groups:
            for name in group.parts:
                found[f"exp_avg/{name}"] = group.part(average, name)
                found[f"exp_avg_sq/{name}"] = group.part(square, name)
                found[f"step/{name}"] = count
        return found
