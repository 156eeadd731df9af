"""``standard-normal``, ``diagonal`` and ``full``: Gaussian priors."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.theory.distributions import FullGaussianPrior
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = [
    "DiagonalOptions",
    "DiagonalPrior",
    "FullOptions",
    "FullPrior",
    "StandardNormalOptions",
    "StandardNormalPrior",
    "build_diagonal",
    "build_full",
    "build_standard_normal",
]


@attrs.frozen(kw_only=True)
class StandardNormalOptions:
    """The standard normal prior has no options."""


@attrs.frozen(kw_only=True)
class DiagonalOptions:
    """Options of the learned diagonal prior.

    Args:
        initial_log_var: what every ln α² starts at.
    """

    initial_log_var: float = attrs.field(default=0.0, validator=in_range(minimum=-30, maximum=30))


@attrs.frozen(kw_only=True)
class FullOptions:
    """The full Gaussian prior has no options; it starts at N(0, I)."""


class StandardNormalPrior(nn.Module):
    """p(z) = N(0, I)."""

    theorem = ""
    mean: Tensor
    log_var: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("log_var", torch.zeros(latent_dim))

    def forward(self, encode: Any) -> DiagonalGaussian:  # noqa: ARG002 - it is fixed
        """Return p(z)."""
        return DiagonalGaussian(self.mean, self.log_var)


class DiagonalPrior(nn.Module):
    """p(z) = N(0, diag α²) with α² learned; the decoder's first weight can undo it unless it is constrained."""

    theorem = ""
    closed_form = "log_var"
    mean: Tensor

    def __init__(self, options: DiagonalOptions, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.log_var = nn.Parameter(torch.full((latent_dim,), options.initial_log_var))

    def forward(self, encode: Any) -> DiagonalGaussian:  # noqa: ARG002 - as any prior
        """Return p(z)."""
        return DiagonalGaussian(self.mean, self.log_var)


class FullPrior(nn.Module):
    """p(z) = N(m, L Lᵀ) with m and L learned."""

    theorem = ""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(latent_dim))
        self.log_diagonal = nn.Parameter(torch.zeros(latent_dim))
        self.lower = nn.Parameter(torch.zeros(latent_dim, latent_dim))

    def forward(self, encode: Any) -> FullGaussianPrior:  # noqa: ARG002 - as any prior
        """Return p(z)."""
        return FullGaussianPrior(self.mean, self.lower.tril(-1) + torch.diag_embed(self.log_diagonal.exp()))


def build_standard_normal(
    options: StandardNormalOptions,  # noqa: ARG001 - as any prior
    latent_dim: int,
    data_shape: tuple[int, ...],  # noqa: ARG001
) -> StandardNormalPrior:
    """Return the prior of H latents."""
    return StandardNormalPrior(latent_dim)


def build_diagonal(options: DiagonalOptions, latent_dim: int, data_shape: tuple[int, ...]) -> DiagonalPrior:  # noqa: ARG001
    """Return the prior of H latents."""
    return DiagonalPrior(options, latent_dim)


def build_full(options: FullOptions, latent_dim: int, data_shape: tuple[int, ...]) -> FullPrior:  # noqa: ARG001
    """Return the prior of H latents."""
    return FullPrior(latent_dim)
