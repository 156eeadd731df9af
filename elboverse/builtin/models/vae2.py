"""VAE-2: learned decoder and prior variances, with the first decoder layer's columns held at norm one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.contracts import VarianceParameters
from elboverse.models.network_vae import NetworkVAE, NetworkVAEOptions
from elboverse.theory.gaussian import DiagonalGaussian

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig

__all__ = ["VAE2", "VAE2Options", "build"]


@attrs.frozen(kw_only=True)
class VAE2Options(NetworkVAEOptions):
    """Options of VAE-2.

    Args:
        initial_decoder_log_var: what ln σ² starts at.
        initial_prior_log_var: what every ln α²_h starts at.
    """

    initial_decoder_log_var: float = attrs.field(default=-4.0, validator=in_range(minimum=-30, maximum=30))
    initial_prior_log_var: float = attrs.field(default=0.0, validator=in_range(minimum=-30, maximum=30))

    def conflicts(self, config: ExperimentConfig) -> Iterator[str]:
        """Yield that a constraint is missing: without one, scaling W_h up and z_h down changes nothing but α_h."""
        if config.constraint is None:
            yield (
                "constraint: missing; vae-2 learns the prior variances, which the decoder's first weight can undo "
                'unless it is constrained; add [constraint] with name = "rescale" or "regularize"'
            )


class VAE2(NetworkVAE):
    """p(x|z) = N(μ(z), σ² I), p(z) = N(0, diag α²) with σ² and α² learned; a constraint keeps ‖W_h‖ = 1.

    It has the same densities as VAE-1: W_h = α_h W̃_h (docs/theory.md, "VAE-1 ↔ VAE-2").
    Source: Damm et al. 2023, §2.
    """

    def __init__(self, options: VAE2Options, data_shape: tuple[int, ...]) -> None:
        network = options.network.build(data_shape, options.latent_dim)
        super().__init__(network, options.latent_dim, options.initial_encoder_log_var)
        self.decoder_log_var = nn.Parameter(torch.tensor(options.initial_decoder_log_var))
        del self.prior_log_var  # the fixed one
        self.prior_log_var = nn.Parameter(torch.full((options.latent_dim,), options.initial_prior_log_var))

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H): mean (*B, D), log-variance ()."""
        return DiagonalGaussian(self.decode_mean(z), self.decoder_log_var)

    def variance_parameters(self) -> VarianceParameters:
        """Return that ln σ² is ``decoder_log_var`` and ln α² is ``prior_log_var``."""
        return VarianceParameters(decoder="decoder_log_var", prior="prior_log_var")


def build(options: VAE2Options, data_shape: tuple[int, ...]) -> VAE2:
    """Return the model for points of that shape."""
    return VAE2(options, data_shape)
