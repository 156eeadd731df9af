"""``laplace``: a prior that prefers sparse latents."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from elboverse.theory.distributions import LaplacePrior

__all__ = ["LaplaceOptions", "LaplacePriorModule", "build"]


@attrs.frozen(kw_only=True)
class LaplaceOptions:
    """Options of the Laplace prior.

    Args:
        learned: whether the scales β_h are learned; fixed at 1, the decoder's first layer makes up for them.
    """

    learned: bool = False


class LaplacePriorModule(nn.Module):
    """p(z) = Π_h e^(−|z_h|/β_h)/2β_h."""

    theorem = ""
    log_scale: Tensor

    def __init__(self, options: LaplaceOptions, latent_dim: int) -> None:
        super().__init__()
        if options.learned:
            self.log_scale = nn.Parameter(torch.zeros(latent_dim))
        else:
            self.register_buffer("log_scale", torch.zeros(latent_dim))

    def forward(self, encode: Any) -> LaplacePrior:  # noqa: ARG002 - as any prior
        """Return p(z)."""
        return LaplacePrior(self.log_scale)


def build(options: LaplaceOptions, latent_dim: int, data_shape: tuple[int, ...]) -> LaplacePriorModule:  # noqa: ARG001
    """Return the prior of H latents."""
    return LaplacePriorModule(options, latent_dim)
