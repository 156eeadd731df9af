"""The linear VAE: its ELBO is exact, and its optimum is probabilistic PCA."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import VarianceParameters
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["LinearVAE", "LinearVAEOptions", "build"]


@attrs.frozen(kw_only=True)
class LinearVAEOptions:
    """Options of the linear VAE.

    Args:
        latent_dim: H.
        initial_decoder_log_var: what ln σ² starts at.
        initial_encoder_log_var: what every ln τ²_h starts at.
    """

    latent_dim: int = attrs.field(default=2, validator=in_range(minimum=1, maximum=1_000_000))
    initial_decoder_log_var: float = attrs.field(default=0.0, validator=in_range(minimum=-30, maximum=30))
    initial_encoder_log_var: float = attrs.field(default=0.0, validator=in_range(minimum=-30, maximum=10))


class LinearVAE(nn.Module):
    """p(x|z) = N(W z + μ, σ² I), q(z|x) = N(V x + b, diag τ²) with τ² the same for all x, p(z) = N(0, I).

    The expected reconstruction error is known exactly, E_q‖x − W z − μ‖² = ‖x − W ν − μ‖² + Σ_h τ²_h ‖W_h‖², so
    nothing is sampled. Sources: Tipping and Bishop 1999 (probabilistic PCA); Lucas et al. 2019.
    """

    prior_mean: Tensor
    prior_log_var: Tensor

    def __init__(self, options: LinearVAEOptions, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        dimension, latent_dim = math.prod(data_shape), options.latent_dim
        self.encoder = nn.Linear(dimension, latent_dim)
        self.decoder = nn.Linear(latent_dim, dimension)
        self.encoder_log_var = nn.Parameter(torch.full((latent_dim,), options.initial_encoder_log_var))
        self.decoder_log_var = nn.Parameter(torch.tensor(options.initial_decoder_log_var))
        self.register_buffer("prior_mean", torch.zeros(latent_dim))
        self.register_buffer("prior_log_var", torch.zeros(latent_dim))

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return q(z|x) for points of shape (*B, D): mean ν (*B, H), log-variance ln τ² (H,)."""
        return DiagonalGaussian(self.encoder(x), self.encoder_log_var)

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H): mean (*B, D), log-variance ()."""
        return DiagonalGaussian(self.decoder(z), self.decoder_log_var)

    def prior(self) -> DiagonalGaussian:
        """Return p(z) = N(0, I), shape (H,)."""
        return DiagonalGaussian(self.prior_mean, self.prior_log_var)

    def expected_squared_error(self, x: Tensor, encoder: DiagonalGaussian) -> Tensor:
        """Return E_q (x_d − W_d·z − μ_d)² = (x_d − W_d·ν − μ_d)² + Σ_h τ²_h W²_dh, shape (*B, D).

        Args:
            x: points, shape (*B, D).
            encoder: q(z|x) of those points.
        """
        spread = encoder.log_var.exp() @ self.decoder.weight.square().T
        return (x - self.decoder(encoder.mean)).square() + spread

    def decoder_log_variance(self) -> Tensor:
        """Return ln σ², shape ()."""
        return self.decoder_log_var

    def variance_parameters(self) -> VarianceParameters:
        """Return that ln σ² is ``decoder_log_var``; ln τ² takes the variances' learning rate too."""
        return VarianceParameters(decoder="decoder_log_var", heads=("encoder_log_var",))

    def constrained_weight(self) -> str:
        """Return the name of W, shape (D, H)."""
        return "decoder.weight"


def build(options: LinearVAEOptions, data_shape: tuple[int, ...]) -> LinearVAE:
    """Return the model for points of that shape."""
    return LinearVAE(options, data_shape)
