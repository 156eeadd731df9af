"""What a network is: the trainable function between data and latents.

Tensors appear in annotations only, so that this module imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Network"]


@runtime_checkable
class Network(Protocol):
    """The trainable function between data and latents, without its heads; any VAE type takes any network.

    `build(options, data_shape, latent_dim)` of a network component returns one. The VAE type adds what belongs
    to it: a linear head that turns encoder features into ν and ln τ², and, for Σ(z), a second output layer.
    """

    encoder: nn.Module
    """Maps points (*B, D) to features (*B, encoder_features)."""

    encoder_features: int

    decoder: nn.Module
    """Maps latents (*B, H) to features (*B, decoder_features); its first linear layer is the one constrained.

    An `nn.Identity` where the decoder has no hidden layer: then the output layer is the first linear one.
    """

    decoder_features: int

    def build_output(self) -> nn.Module:
        """Return a new layer from decoder features (*B, decoder_features) to points (*B, D), linear."""
        ...

    def output_activation(self, pre_activation: Tensor) -> Tensor:
        """Return the decoder mean μ for the output layer's values, both of shape (*B, D)."""
        ...
