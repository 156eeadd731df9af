"""Updates of the flat groups of parameters, by whichever optimiser a config names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from elboverse.contracts.optimiser import Optimiser
from elboverse.training.flat import FlatGroup

__all__ = ["FlatOptimiser"]


class FlatOptimiser:
    """The update of all groups.

    Args:
        groups: the parameters and their gradients.
        optimiser: the rule.
        clip_norm: the norm that a replica's gradient is scaled down to where it is larger; None leaves it.
        replicas: R; 1 where parameters have no axis of replicas.

    Attributes:
        factor: what the schedule multiplies the learning rates by.
        scale: what a search for a stationary point multiplies them by besides.
    """

    def __init__(
        self, groups: Sequence[FlatGroup], optimiser: Optimiser, *, clip_norm: float | None = None, replicas: int = 1
    ) -> None:
        self._groups = [(group, optimiser.state(group.values)) for group in groups]
        self._optimiser = optimiser
        self._clip_norm = clip_norm
        self._replicas = replicas
        self.factor = 1.0
        self.scale = 1.0

    def step(self) -> None:
        """Update every parameter from its gradient."""
        if self._clip_norm is not None:
            self._clip(self._clip_norm)
        for group, state in self._groups:
            self._optimiser.update(group.values, group.gradients, state, group.rate * self.factor * self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as ``name/parameter``; numbers that all parameters of a group share, under each of them."""
        return {
            f"{what}/{name}": group.part(tensor, name) if tensor.ndim else tensor
            for group, state in self._groups
            for name in group.parts
            for what, tensor in state.items()
        }

    def _clip(self, largest: float) -> None:
        parts = [
            group.part(group.gradients, name).view(self._replicas, -1)
            for group, _ in self._groups
            for name in group.parts
        ]
        norm = torch.stack([part.square().sum(1) for part in parts]).sum(0).sqrt()
        factor = (largest / norm.clamp_min(largest)).unsqueeze(1)
        for part in parts:
            part.mul_(factor)
