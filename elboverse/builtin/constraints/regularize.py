"""The soft constraint: a penalty on the columns' norms."""

from __future__ import annotations

import attrs
from torch import Tensor

from elboverse.config.structuring import in_range

__all__ = ["Regularize", "RegularizeOptions", "build"]


@attrs.frozen(kw_only=True)
class RegularizeOptions:
    """Options of the penalty.

    Args:
        gamma: γ, its strength.
    """

    gamma: float = attrs.field(default=1.0, validator=in_range(above=0))


@attrs.frozen
class Regularize:
    """The penalty γ Σ_h (W_hᵀW_h − 1)² is added to the loss (Damm et al. 2023, VAE-2).

    Args:
        gamma: γ, its strength.
    """

    gamma: float

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the penalty for a weight of shape (F, H), shape ()."""
        return self.gamma * (weight.square().sum(-2) - 1.0).square().sum()


def build(options: RegularizeOptions) -> Regularize:
    """Return the constraint."""
    return Regularize(options.gamma)
