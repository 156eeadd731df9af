"""``diagonal`` and ``full``: Gaussian posteriors from one linear head."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from elboverse.theory.distributions import FullGaussian
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["DiagonalPosterior", "FullPosterior", "PosteriorOptions", "build_diagonal", "build_full"]


@attrs.frozen(kw_only=True)
class PosteriorOptions:
    """Gaussian posteriors have no options."""


class DiagonalPosterior(nn.Module):
    """q(z|x) = N(ν(x), diag τ²(x)) from ν and ln τ²."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.width = 2 * latent_dim

    def initial_bias(self, log_var: float) -> Tensor:
        """Return 0 for ν and the start value of ln τ²."""
        return torch.cat((torch.zeros(self.latent_dim), torch.full((self.latent_dim,), log_var)))

    def forward(self, outputs: Tensor) -> DiagonalGaussian:
        """Return q(z|x)."""
        mean, log_var = outputs.chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_var)


class FullPosterior(nn.Module):
    """q(z|x) = N(ν(x), L Lᵀ) from ν, ln L²_hh with a free bias, and the entries below the diagonal."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        below = latent_dim * (latent_dim - 1) // 2
        self.width = 2 * latent_dim + below
        # The flat lower triangle is gathered into the matrix: where 0 stands, the last, empty place is read.
        places = torch.full((latent_dim, latent_dim), below)
        places[tuple(torch.tril_indices(latent_dim, latent_dim, -1))] = torch.arange(below)
        self.register_buffer("places", places.flatten(), persistent=False)

    places: Tensor

    def initial_bias(self, log_var: float) -> Tensor:
        """Return 0 for ν and what is below the diagonal, and the start value of ln L²_hh."""
        bias = torch.zeros(self.width)
        bias[self.latent_dim : 2 * self.latent_dim] = log_var
        return bias

    def forward(self, outputs: Tensor) -> FullGaussian:
        """Return q(z|x)."""
        size = self.latent_dim
        mean, log_diagonal, below = outputs.split((size, size, self.width - 2 * size), dim=-1)
        padded = nn.functional.pad(below, (0, 1))
        lower = padded[..., self.places].unflatten(-1, (size, size))
        return FullGaussian(mean, lower + torch.diag_embed((0.5 * log_diagonal).exp()))


def build_diagonal(options: PosteriorOptions, latent_dim: int) -> DiagonalPosterior:  # noqa: ARG001
    """Return the posterior of H latents."""
    return DiagonalPosterior(latent_dim)


def build_full(options: PosteriorOptions, latent_dim: int) -> FullPosterior:  # noqa: ARG001
    """Return the posterior of H latents."""
    return FullPosterior(latent_dim)
