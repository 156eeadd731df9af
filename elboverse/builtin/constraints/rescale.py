"""The hard constraint: columns of norm one."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

__all__ = ["Rescale", "RescaleOptions", "build"]


@attrs.frozen(kw_only=True)
class RescaleOptions:
    """Rescaling has no options."""


class Rescale:
    """W_h ← W_h / ‖W_h‖ for every column, after every step and before the first (Damm et al. 2023, VAE-2)."""

    def project(self, weight: Tensor) -> Tensor:
        """Return the weight, shape (F, H), with every column at Euclidean norm one; a zero column stays zero."""
        norm = weight.norm(dim=-2, keepdim=True)
        return weight / norm.clamp_min(torch.finfo(weight.dtype).tiny)


def build(options: RescaleOptions) -> Rescale:  # noqa: ARG001 - the kind's signature
    """Return the constraint."""
    return Rescale()
