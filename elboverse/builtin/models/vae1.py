"""VAE-1: one learned decoder variance."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import VarianceParameters
from elboverse.models.network_vae import NetworkVAE, NetworkVAEOptions
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["VAE1", "VAE1Options", "build"]


@attrs.frozen(kw_only=True)
class VAE1Options(NetworkVAEOptions):
    """Options of VAE-1.

    Args:
        initial_decoder_log_var: what ln σ² starts at.
    """

    initial_decoder_log_var: float = attrs.field(default=-4.0, validator=in_range(minimum=-30, maximum=30))


class VAE1(NetworkVAE):
    """p(x|z) = N(μ(z), σ² I) with σ² learned, p(z) = N(0, I).

    Source: Damm et al. 2023, §2 (the standard Gaussian VAE).
    """

    def __init__(self, options: VAE1Options, data_shape: tuple[int, ...]) -> None:
        network = options.network.build(data_shape, options.latent_dim)
        super().__init__(network, options.latent_dim, options.initial_encoder_log_var)
        self.decoder_log_var = nn.Parameter(torch.tensor(options.initial_decoder_log_var))

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H): mean (*B, D), log-variance ()."""
        return DiagonalGaussian(self.decode_mean(z), self.decoder_log_var)

    def variance_parameters(self) -> VarianceParameters:
        """Return that ln σ² is ``decoder_log_var``."""
        return VarianceParameters(decoder="decoder_log_var")


def build(options: VAE1Options, data_shape: tuple[int, ...]) -> VAE1:
    """Return the model for points of that shape."""
    return VAE1(options, data_shape)
