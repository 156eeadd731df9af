"""How points that are stored become what a model sees: moved to the device, converted, scaled, augmented."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from elboverse.contracts import Data, Scaling

__all__ = ["Intake"]


@attrs.frozen(eq=False)
class Intake:
    """The way of points to the model.

    Points in floating point are scaled already, and on the device. Points in bytes stay where they are stored, often a
    map of a file; each batch of them is moved, converted and scaled by itself.

    Args:
        device: where the model is.
        dtype: in which it computes.
        scaling: what is still to be applied, on the device; None for points that are scaled.
        augment: see `contracts.Data`; None for none.
    """

    device: torch.device
    dtype: torch.dtype
    scaling: Scaling | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    @classmethod
    def of(cls, data: Data, device: torch.device, dtype: torch.dtype) -> Intake:
        """Return the way of a dataset's points."""
        scaling = None
        if not data.train.is_floating_point():
            offset, scale = (part.to(device=device, dtype=dtype) for part in (data.scaling.offset, data.scaling.scale))
            scaling = Scaling(data.scaling.kind, offset, scale)
        return cls(device, dtype, scaling, data.augment)

    def __call__(self, points: Tensor) -> Tensor:
        """Return stored points, shape (*B, D), as the model sees them, without augmentation."""
        if self.device.type == "cuda" and not points.is_cuda:
            points = points.pin_memory().to(self.device, non_blocking=True)  # as they are stored, and without waiting
        moved = points.to(device=self.device, dtype=self.dtype)
        return moved if self.scaling is None else self.scaling.apply(moved)
