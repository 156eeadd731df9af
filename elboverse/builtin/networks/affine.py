"""The affine network: no hidden layer."""

from __future__ import annotations

import math

import attrs
from torch import Tensor, nn

from elboverse.builtin.networks.activations import ACTIVATIONS, OutputActivation

__all__ = ["AffineNetwork", "AffineOptions", "build"]


@attrs.frozen(kw_only=True)
class AffineOptions:
    """Options of the affine network.

    Args:
        output_activation: what the decoder mean passes through.
    """

    output_activation: OutputActivation = "identity"


class AffineNetwork:
    """Features are the data, respectively the latents, themselves: ν = V x + b, μ = W z + c.

    Args:
        dimension: D.
        latent_dim: H.
        output_activation: what the decoder mean passes through.
    """

    def __init__(self, dimension: int, latent_dim: int, output_activation: str) -> None:
        self.encoder: nn.Module = nn.Identity()
        self.encoder_features = dimension
        self.decoder: nn.Module = nn.Identity()
        self.decoder_features = latent_dim
        self._dimension = dimension
        self._activation = ACTIVATIONS[output_activation]()

    def build_output(self) -> nn.Module:
        """Return a linear layer from latents (*B, H) to points (*B, D)."""
        return nn.Linear(self.decoder_features, self._dimension)

    def output_activation(self, pre_activation: Tensor) -> Tensor:
        """Return μ, shape (*B, D)."""
        return self._activation(pre_activation)


def build(options: AffineOptions, data_shape: tuple[int, ...], latent_dim: int) -> AffineNetwork:
    """Return the network for points of that shape and H latents."""
    return AffineNetwork(math.prod(data_shape), latent_dim, options.output_activation)
