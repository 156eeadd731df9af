"""A ladder VAE (Sønderby et al. 2016), two layers of latents, by an objective that warms up the upper one alone."""

import math

import attrs
import torch
from torch import nn

from elboverse import Component, DiagonalGaussian, hookimpl
from elboverse.contracts import VarianceParameters

Options = attrs.make_class("Options", {"sizes": attrs.field(default=(2, 3), type=tuple[int, int])}, frozen=True)


class Layers:
    """A distribution of z = (upper, lower): lower given upper, by a function whose variances do not depend on upper."""

    def __init__(self, upper, lower):
        self.upper, self.lower, self.width, below = upper, lower, upper.mean.shape[-1], lower(upper.mean)
        self.mean = torch.cat((upper.mean, below.mean), dim=-1)
        self.log_var = torch.cat((upper.log_var, below.log_var.expand_as(below.mean)), dim=-1)

    def sample(self, noise):
        upper = self.upper.sample(noise[..., : self.width])
        return torch.cat((upper, self.lower(upper).sample(noise[..., self.width :])), dim=-1)

    def parts(self, z):
        upper, lower = z[..., : self.width], z[..., self.width :]
        return self.upper.log_prob(upper), self.lower(upper).log_prob(lower)

    def log_prob(self, value):
        return sum(self.parts(value))

    def entropy(self):
        return DiagonalGaussian(self.mean, self.log_var).entropy()


class Ladder(nn.Module):
    def __init__(self, options, data_shape):
        super().__init__()
        self.sizes, self.latent_dim, dimension = options.sizes, sum(options.sizes), math.prod(data_shape)
        self.up = nn.Sequential(nn.Linear(dimension, 16), nn.Tanh(), nn.Linear(16, 2 * self.latent_dim))
        self.down = nn.Linear(*self.sizes)
        self.out = nn.Sequential(nn.Linear(self.sizes[1], 16), nn.Tanh(), nn.Linear(16, dimension))
        self.log_var, self.lower_log_var = nn.Parameter(torch.tensor(-2.0)), nn.Parameter(torch.zeros(self.sizes[1]))
        self.register_buffer("zeros", torch.zeros(self.sizes[0]))

    def encode(self, x):
        mean, log_var = (part.split(self.sizes, dim=-1) for part in self.up(x).chunk(2, dim=-1))
        ours, theirs = (-log_var[1]).exp(), (-self.lower_log_var).exp()  # precisions from below and from above

        def lower(upper):
            merged = (mean[1] * ours + self.down(upper) * theirs) / (ours + theirs)
            return DiagonalGaussian(merged, -(ours + theirs).log())

        return Layers(DiagonalGaussian(mean[0], log_var[0]), lower)

    def decode(self, z):
        return DiagonalGaussian(self.out(z[..., self.sizes[0] :]), self.log_var)

    def prior(self):
        upper = DiagonalGaussian(self.zeros, self.zeros)
        return Layers(upper, lambda z: DiagonalGaussian(self.down(z), self.lower_log_var))

    def objective(self, x, noise, beta):
        q, p = self.encode(x), self.prior()
        z = q.sample(noise)
        upper, lower = (ours - theirs for ours, theirs in zip(q.parts(z), p.parts(z), strict=True))
        return (self.decode(z).log_prob(x) - beta * upper - lower).mean()

    def variance_parameters(self):
        return VarianceParameters(decoder="log_var", heads=("lower_log_var",))


@hookimpl
def elboverse_models():
    return [Component("ladder", Options, Ladder, "two layers of latents")]
