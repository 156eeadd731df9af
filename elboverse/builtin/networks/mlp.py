"""The multi-layer perceptron, with the decoder as the encoder's mirror image unless given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import attrs
from torch import Tensor, nn

from elboverse.builtin.networks.activations import ACTIVATIONS, Activation, OutputActivation
from elboverse.config.structuring import in_range

__all__ = ["MLPNetwork", "MLPOptions", "build"]


@attrs.frozen(kw_only=True)
class MLPOptions:
    """Options of the multi-layer perceptron.

    Args:
        hidden: widths of the encoder's hidden layers, from data to latents.
        decoder_hidden: widths of the decoder's hidden layers, from latents to data; by default those of the
            encoder in reverse.
        activation: after every hidden layer.
        output_activation: what the decoder mean passes through.
    """

    hidden: tuple[int, ...] = attrs.field(default=(128,), validator=in_range(minimum=1, maximum=1_000_000))
    decoder_hidden: tuple[int, ...] | None = attrs.field(default=None, validator=in_range(minimum=1, maximum=1_000_000))
    activation: Activation = "leaky-relu"
    output_activation: OutputActivation = "identity"


class MLPNetwork:
    """Hidden layers x → a(A_1 x + a_1) → … on the way in, and likewise on the way out; the heads are the VAE type's.

    Args:
        dimension: D.
        latent_dim: H.
        hidden: widths of the encoder's hidden layers.
        decoder_hidden: widths of the decoder's hidden layers.
        activation: after every hidden layer.
        output_activation: what the decoder mean passes through.
    """

    def __init__(
        self,
        dimension: int,
        latent_dim: int,
        hidden: Sequence[int],
        decoder_hidden: Sequence[int],
        activation: str,
        output_activation: str,
    ) -> None:
        self.encoder: nn.Module = _hidden_layers([dimension, *hidden], activation)
        self.encoder_features = [dimension, *hidden][-1]
        self.decoder: nn.Module = _hidden_layers([latent_dim, *decoder_hidden], activation)
        self.decoder_features = [latent_dim, *decoder_hidden][-1]
        self._dimension = dimension
        self._activation = ACTIVATIONS[output_activation]()

    def build_output(self) -> nn.Module:
        """Return a linear layer from the last hidden layer (*B, F) to points (*B, D)."""
        return nn.Linear(self.decoder_features, self._dimension)

    def output_activation(self, pre_activation: Tensor) -> Tensor:
        """Return μ, shape (*B, D)."""
        return self._activation(pre_activation)


def build(options: MLPOptions, data_shape: tuple[int, ...], latent_dim: int) -> MLPNetwork:
    """Return the network for points of that shape and H latents."""
    return MLPNetwork(
        math.prod(data_shape),
        latent_dim,
        options.hidden,
        options.hidden[::-1] if options.decoder_hidden is None else options.decoder_hidden,
        options.activation,
        options.output_activation,
    )


def _hidden_layers(widths: Sequence[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)
