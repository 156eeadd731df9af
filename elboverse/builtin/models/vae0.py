"""VAE-0: the decoder variance is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from elboverse.config.structuring import in_range
from elboverse.models.network_vae import NetworkVAE, NetworkVAEOptions
from elboverse.theory.gaussian import DiagonalGaussian

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig

__all__ = ["VAE0", "VAE0Options", "build"]


@attrs.frozen(kw_only=True)
class VAE0Options(NetworkVAEOptions):
    """Options of VAE-0.

    Args:
        decoder_log_var: ln σ², fixed; 0 is the paper's σ² = 1.
    """

    decoder_log_var: float = attrs.field(default=0.0, validator=in_range(minimum=-30, maximum=30))

    def conflicts(self, config: ExperimentConfig) -> Iterator[str]:
        """Yield that closed-form variances were asked for, though all of them are fixed."""
        if config.training.variances == "optimal":
            yield 'training.variances: got "optimal", but the variances of vae-0 are fixed; use "learned", or vae-1'


class VAE0(NetworkVAE):
    """p(x|z) = N(μ(z), σ² I) with σ² fixed, p(z) = N(0, I).

    ELBO = H_sum does not hold for it: the theorem needs a decoder variance that is learned.
    Source: Damm et al. 2023; Kingma and Welling 2014.
    """

    decoder_log_var: Tensor

    def __init__(self, options: VAE0Options, data_shape: tuple[int, ...]) -> None:
        network = options.network.build(data_shape, options.latent_dim)
        super().__init__(network, options.latent_dim, options.initial_encoder_log_var)
        self.register_buffer("decoder_log_var", torch.tensor(options.decoder_log_var))

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H): mean (*B, D), log-variance ()."""
        return DiagonalGaussian(self.decode_mean(z), self.decoder_log_var)


def build(options: VAE0Options, data_shape: tuple[int, ...]) -> VAE0:
    """Return the model for points of that shape."""
    return VAE0(options, data_shape)
