"""VAE-3: a decoder variance per dimension that is a function of the latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from elboverse.config.structuring import in_range
from elboverse.contracts import VarianceParameters
from elboverse.models.network_vae import NetworkVAE, NetworkVAEOptions
from elboverse.theory.gaussian import DiagonalGaussian
from elboverse.theory.identities import LOG_VAR_FLOOR

if TYPE_CHECKING:
    from elboverse.config import ExperimentConfig

__all__ = ["VAE3", "VAE3Options", "build"]


@attrs.frozen(kw_only=True)
class VAE3Options(NetworkVAEOptions):
    """Options of VAE-3.

    Args:
        initial_decoder_log_var: what every ln σ²_d(z) starts near.
    """

    initial_decoder_log_var: float = attrs.field(default=-4.0, validator=in_range(minimum=-30, maximum=30))

    def conflicts(self, config: ExperimentConfig) -> Iterator[str]:
        """Yield that closed-form variances were asked for, which Σ(z) does not have."""
        if config.training.variances == "optimal":
            yield 'training.variances: got "optimal", but vae-3 has no closed-form variance; use "learned"'


class VAE3(NetworkVAE):
    """p(x|z) = N(μ(z), diag σ²(z)) with ln σ²(z) a second linear output layer beside that of μ, p(z) = N(0, I).

    Where the layer falls below `LOG_VAR_FLOOR`, ln σ²(z) is held there.

    Source: Damm et al. 2023, §2 and Theorem 3.
    """

    def __init__(self, options: VAE3Options, data_shape: tuple[int, ...]) -> None:
        network = options.network.build(data_shape, options.latent_dim)
        super().__init__(network, options.latent_dim, options.initial_encoder_log_var)
        self.log_var_output = network.build_output()
        self.initial_decoder_log_var = options.initial_decoder_log_var

    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H): mean and log-variance of shape (*B, D)."""
        features = self.decoder(z)
        mean = self._output_activation(self.output(features))
        log_var = self.log_var_output(features) + self.initial_decoder_log_var
        return DiagonalGaussian(mean, log_var.clamp_min(LOG_VAR_FLOOR))

    def variance_parameters(self) -> VarianceParameters:
        """Return that the parameters of the output layer for ln σ²(z) shape a variance."""
        return VarianceParameters(
            heads=tuple(f"log_var_output.{name}" for name, _ in self.log_var_output.named_parameters())
        )


def build(options: VAE3Options, data_shape: tuple[int, ...]) -> VAE3:
    """Return the model for points of that shape."""
    return VAE3(options, data_shape)
