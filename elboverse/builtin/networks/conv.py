"""The convolutional network for images, with a decoder that mirrors the encoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import attrs
from torch import Tensor, nn

from elboverse.builtin.networks.activations import ACTIVATIONS, Activation, OutputActivation
from elboverse.config.structuring import in_range
from elboverse.errors import ConfigError

__all__ = ["ConvNetwork", "ConvOptions", "build"]


@attrs.frozen(kw_only=True)
class ConvOptions:
    """Options of the convolutional network.

    Args:
        channels: of the encoder's layers, from data to latents; each layer halves height and width, rounding up.
        activation: after every hidden layer.
        batch_norm: whether every hidden convolution is followed by batch normalisation (Ioffe and Szegedy 2015). A
            step then normalises by its batch, an evaluation by running averages.
        output_activation: what the decoder mean passes through.
    """

    channels: tuple[int, ...] = attrs.field(
        default=(32, 64, 128, 256, 512), validator=in_range(minimum=1, maximum=1_000_000)
    )
    activation: Activation = "leaky-relu"
    batch_norm: bool = True
    output_activation: OutputActivation = "tanh"


class ConvNetwork:
    """Convolutions with kernel 3 and stride 2 on the way in; on the way out one linear layer and their transposes.

    Points are flat vectors, as everywhere; they are images inside alone. The first linear layer of the decoder, from
    the latents to the smallest images, is the one that a constraint acts on. The output is a convolution with kernel 3
    of the last hidden images, so that ln σ²(z) of vae-3 is one too, beside that of μ(z). A convolution that is
    normalised has no bias, which the normalisation would cancel.

    Args:
        image: (channels, height, width) of a point.
        latent_dim: H.
        channels: of the encoder's layers, at least one.
        activation: after every hidden layer.
        batch_norm: whether hidden convolutions are normalised.
        output_activation: what the decoder mean passes through.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        latent_dim: int,
        channels: Sequence[int],
        activation: str,
        batch_norm: bool,
        output_activation: str,
    ) -> None:
        sizes = [image[1:]]
        for _ in channels:
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2))
        smallest = (channels[-1], *sizes[-1])
        largest = (channels[0], *image[1:])

        def hidden(convolution: nn.Module, width: int) -> list[nn.Module]:
            return [convolution, *([nn.BatchNorm2d(width)] if batch_norm else []), ACTIVATIONS[activation]()]

        encoder: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((image[0], *channels)):
            encoder += hidden(nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1, bias=not batch_norm), fan_out)
        decoder: list[nn.Module] = []
        widths = (*channels[::-1], channels[0])
        for (fan_in, fan_out), small, large in zip(
            itertools.pairwise(widths), sizes[:0:-1], sizes[-2::-1], strict=True
        ):
            missing = (large[0] - (2 * small[0] - 1), large[1] - (2 * small[1] - 1))
            decoder += hidden(
                nn.ConvTranspose2d(fan_in, fan_out, 3, 2, 1, output_padding=missing, bias=not batch_norm), fan_out
            )
        self.encoder: nn.Module = OnImages(image, encoder)
        self.encoder_features = math.prod(smallest)
        self.decoder: nn.Module = nn.Sequential(nn.Linear(latent_dim, math.prod(smallest)), OnImages(smallest, decoder))
        self.decoder_features = math.prod(largest)
        self._largest = largest
        self._image = image
        self._activation = ACTIVATIONS[output_activation]()

    def build_output(self) -> nn.Module:
        """Return a convolution from the last hidden images (*B, F) to points (*B, D)."""
        return OnImages(self._largest, [nn.Conv2d(self._largest[0], self._image[0], 3, padding=1)])

    def output_activation(self, pre_activation: Tensor) -> Tensor:
        """Return μ, shape (*B, D)."""
        return self._activation(pre_activation)


class OnImages(nn.Sequential):
    """Layers that act on images, for points that are vectors: (*B, C·h·w) → (*B, C'·h'·w').

    Args:
        shape: (C, h, w) of what comes in.
        layers: from images to images.
    """

    def __init__(self, shape: tuple[int, int, int], layers: Sequence[nn.Module]) -> None:
        super().__init__(*layers)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the layers' value at x, shape (*B, C'·h'·w').

        Raises:
            ConfigError: there is a single number per channel to normalise by.
        """
        images = x.reshape(-1, *self.shape)
        for layer in self:
            if isinstance(layer, nn.BatchNorm2d) and layer.training and images[:, 0].numel() == 1:
                raise ConfigError(
                    "training.batch_size: got 1, but batch normalisation of images that have shrunk to one pixel "
                    "needs at least 2; or set model.network.batch_norm to false, or use fewer channels"
                )
            images = layer(images)
        return images.reshape(*x.shape[:-1], -1)


def build(options: ConvOptions, data_shape: tuple[int, ...], latent_dim: int) -> ConvNetwork:
    """Return the network for points of that shape, (C, height, width) or (height, width), and H latents.

    Raises:
        ConfigError: the points are not images, or there are no layers.
    """
    if len(data_shape) not in {2, 3}:
        raise ConfigError(
            f"model.network: got conv, but the points have the shape {data_shape}; "
            "expected (height, width) or (channels, height, width). Use mlp for points that are no images"
        )
    if not options.channels:
        raise ConfigError("model.network.channels: empty; expected at least one layer")
    channels, height, width = data_shape if len(data_shape) == 3 else (1, *data_shape)
    return ConvNetwork(
        (channels, height, width),
        latent_dim,
        options.channels,
        options.activation,
        options.batch_norm,
        options.output_activation,
    )
