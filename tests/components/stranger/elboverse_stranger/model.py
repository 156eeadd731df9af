import math

import attrs
import torch
from torch import nn

from elboverse import DiagonalGaussian
from elboverse.contracts import VarianceParameters


@attrs.frozen(kw_only=True)
class TanhOptions:
    latent_dim: int = 2
    width: int = 16


class TanhVAE(nn.Module):
    def __init__(self, options, data_shape):
        super().__init__()
        dimension, latent_dim, width = math.prod(data_shape), options.latent_dim, options.width
        self.encoder = nn.Sequential(nn.Linear(dimension, width), nn.Tanh(), nn.Linear(width, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, width), nn.Tanh(), nn.Linear(width, dimension))
        self.log_var = nn.Parameter(torch.full((dimension,), -2.0))
        self.register_buffer("zeros", torch.zeros(latent_dim))

    def encode(self, x):
        return DiagonalGaussian(*self.encoder(x).chunk(2, dim=-1))

    def decode(self, z):
        return DiagonalGaussian(self.decoder(z), self.log_var)

    def prior(self):
        return DiagonalGaussian(self.zeros, self.zeros)

    def variance_parameters(self):
        return VarianceParameters(decoder="log_var")
