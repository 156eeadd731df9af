"""A residual convolutional network with group normalisation (He et al. 2016; Wu and He 2018)."""

import attrs
from torch import nn

from elboverse import Component, hookimpl


@attrs.frozen(kw_only=True)
class Options:
    channels: int = attrs.field(default=4, metadata={"help": "of every convolution, a multiple of 4"})
    blocks: int = attrs.field(default=1, metadata={"help": "residual blocks on either side"})


class Images(nn.Sequential):
    """Layers that act on images of a shape, for points that are vectors with any axes in front."""

    def __init__(self, shape, *layers):
        super().__init__(*layers)
        self.shape = shape

    def forward(self, x):
        return super().forward(x.reshape(-1, *self.shape)).reshape(*x.shape[:-1], -1)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        one, two = ((nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(2))
        self.inner = nn.Sequential(*one, *two)

    def forward(self, images):
        return images + self.inner(images)


class Residual:
    def __init__(self, options, data_shape, latent_dim):
        image = (1, *data_shape) if len(data_shape) == 2 else tuple(data_shape)
        width, half = options.channels, (options.channels, (image[1] + 1) // 2, (image[2] + 1) // 2)
        self._image, self._full = image, (width, *image[1:])
        self.encoder_features, self.decoder_features = half[0] * half[1] * half[2], width * image[1] * image[2]
        down, up = nn.Conv2d(image[0], width, 3, 2, 1), nn.Upsample(size=image[1:])
        self.encoder = Images(image, down, *(Block(width) for _ in range(options.blocks)))
        first = nn.Linear(latent_dim, self.encoder_features)
        self.decoder = nn.Sequential(first, Images(half, *(Block(width) for _ in range(options.blocks)), up))

    def build_output(self):
        return Images(self._full, nn.Conv2d(self._full[0], self._image[0], 3, padding=1))

    def output_activation(self, pre_activation):
        return pre_activation


@hookimpl
def elboverse_networks():
    return [Component("residual", Options, Residual, "residual convolutions with group normalisation")]
