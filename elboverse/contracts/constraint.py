"""What a weight constraint is: a projection or a penalty.

Tensors appear in annotations only, so that this module imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Penalty", "Projection"]


@runtime_checkable
class Projection(Protocol):
    """A weight constraint that maps the weight onto the allowed set after every step."""

    def project(self, weight: Tensor) -> Tensor:
        """Return the nearest allowed weight, shape (F, H) as given; the engine writes it back in place."""
        ...


@runtime_checkable
class Penalty(Protocol):
    """A weight constraint that adds a penalty to the loss."""

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the penalty in nats for a weight of shape (F, H), shape ()."""
        ...
