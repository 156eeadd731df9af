"""What the VAE types with a network share: the encoder, the decoder mean and the standard normal prior.

A new variant derives from `NetworkVAE`, or from nothing at all: `contracts.Model` is what counts.
"""

from __future__ import annotations

import abc

import attrs
import torch
from torch import Tensor, nn

from elboverse.components.hookspecs import selects
from elboverse.components.registry import Selection
from elboverse.config.structuring import in_range
from elboverse.contracts import Network, VarianceParameters
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["NetworkVAE", "NetworkVAEOptions"]


@attrs.frozen(kw_only=True)
class NetworkVAEOptions:
    """Options of every VAE type with a network.

    Args:
        latent_dim: H.
        network: the network component between data and latents.
        initial_encoder_log_var: what ln τ² of the encoder starts near, by the bias of its head.
    """

    latent_dim: int = attrs.field(default=2, validator=in_range(minimum=1, maximum=1_000_000))
    network: Selection = selects("network", default="mlp")
    initial_encoder_log_var: float = attrs.field(default=-3.0, validator=in_range(minimum=-30, maximum=10))


class NetworkVAE(nn.Module, abc.ABC):
    """q(z|x) = N(ν(x), diag τ²(x)) and μ(z) by a network with linear heads; p(z) = N(0, I). Abstract: `decode` is left.

    The heads for ν and ln τ² are one linear layer with a free bias, which is what makes ELBO = H_sum exact at a
    stationary point (docs/theory.md, "When the identity becomes exact").

    Args:
        network: the layers between data and latents.
        latent_dim: H.
        initial_encoder_log_var: start value of the bias of ln τ².
    """

    prior_mean: Tensor
    prior_log_var: Tensor

    def __init__(self, network: Network, latent_dim: int, initial_encoder_log_var: float) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.encoder_head = nn.Linear(network.encoder_features, 2 * latent_dim)
        nn.init.constant_(self.encoder_head.bias[latent_dim:], initial_encoder_log_var)
        self.decoder = network.decoder
        self.output = network.build_output()
        self._output_activation = network.output_activation
        self.register_buffer("prior_mean", torch.zeros(latent_dim))
        self.register_buffer("prior_log_var", torch.zeros(latent_dim))

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Return q(z|x) for points of shape (*B, D): mean ν and log-variance ln τ², shape (*B, H)."""
        mean, log_var = self.encoder_head(self.encoder(x)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_var)

    @abc.abstractmethod
    def decode(self, z: Tensor) -> DiagonalGaussian:
        """Return p(x|z) for latents of shape (*B, H)."""

    def decode_mean(self, z: Tensor) -> Tensor:
        """Return μ(z), shape (*B, D), for latents of shape (*B, H)."""
        return self._output_activation(self.output(self.decoder(z)))

    def prior(self) -> DiagonalGaussian:
        """Return p(z) = N(0, I), shape (H,)."""
        return DiagonalGaussian(self.prior_mean, self.prior_log_var)

    def variance_parameters(self) -> VarianceParameters:
        """Return the names of the parameters that are log-variances: none, unless a VAE type has some."""
        return VarianceParameters()

    def constrained_weight(self) -> str:
        """Return the name of the decoder's first linear weight W, shape (F, H)."""
        for prefix, part in (("decoder", self.decoder), ("output", self.output)):
            for name, module in part.named_modules():
                if isinstance(module, nn.Linear):
                    return ".".join(filter(None, (prefix, name, "weight")))
        raise TypeError("this network's decoder has no linear layer that a constraint could act on")
