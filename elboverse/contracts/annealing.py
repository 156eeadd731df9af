"""What an annealing schedule is.

Tensors appear in annotations only, so that this module imports no torch.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["AnnealingSchedule"]


@runtime_checkable
class AnnealingSchedule(Protocol):
    """The weight β of the KL term through training."""

    def weight(self, step: int, total_steps: int) -> float:
        """Return β ≥ 0 for a step in 0 … total_steps − 1."""
        ...
