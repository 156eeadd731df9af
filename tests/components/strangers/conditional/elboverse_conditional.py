"""A conditional VAE (Sohn et al. 2015): encoder and decoder see the conditions of each point."""

import math

import attrs
import torch
from torch import nn

from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import VarianceParameters


@attrs.frozen(kw_only=True)
class Options:
    latent_dim: int = 2
    width: int = 16


class ConditionalVAE(nn.Module):
    def __init__(self, options, data_shape, conditions=0):
        super().__init__()
        dimension, width = math.prod(data_shape), options.width
        self.condition_dimension = conditions
        self.encoder = nn.Sequential(
            nn.Linear(dimension + conditions, width), nn.Tanh(), nn.Linear(width, 2 * options.latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(options.latent_dim + conditions, width), nn.Tanh(), nn.Linear(width, dimension)
        )
        self.log_var = nn.Parameter(torch.full((dimension,), -2.0))
        self.register_buffer("zeros", torch.zeros(options.latent_dim))

    def encode(self, x, c=None):
        return DiagonalGaussian(*self.encoder(joined(x, c)).chunk(2, dim=-1))

    def decode(self, z, c=None):
        return DiagonalGaussian(self.decoder(joined(z, c)), self.log_var)

    def prior(self):
        return DiagonalGaussian(self.zeros, self.zeros)

    def variance_parameters(self):
        return VarianceParameters(decoder="log_var")


def joined(value, conditions):
    return value if conditions is None else torch.cat((value, conditions), dim=-1)


@hookimpl
def elboverse_models():
    return [Component("conditional", Options, ConditionalVAE, "a VAE that is given conditions")]
