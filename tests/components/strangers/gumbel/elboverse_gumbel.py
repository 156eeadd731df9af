"""A likelihood for maxima: p(x|z) Gumbel with location mu(z) and a learned scale, by the least that is asked for."""

import math
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn

from elboverse import Component, hookimpl

EULER = 0.5772156649015329
Options = attrs.make_class("Options", {"initial_log_scale": attrs.field(default=-2.0, type=float)}, frozen=True)


class Gumbel(NamedTuple):
    """ln p(x) = -u - exp(-u) - ln s, u = (x - m)/s."""

    location: Tensor
    log_scale: Tensor

    @property
    def mean(self):
        return self.location + EULER * self.log_scale.exp()

    def log_prob(self, value):
        u = (value - self.location) * (-self.log_scale).exp()
        return (-u - (-u).exp() - self.log_scale).sum(-1)

    def entropy(self):
        return (1 + EULER + self.log_scale).expand_as(self.location).sum(-1)

    def sample(self, noise):
        return self.location - self.log_scale.exp() * (-torch.special.log_ndtr(noise)).log()


class GumbelLikelihood(nn.Module):
    outputs, support, location = 1, "real", True
    theorem = "the Gumbel density is not a power family, so R_dec need not vanish"

    def __init__(self, options, data_shape):
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((math.prod(data_shape),), options.initial_log_scale))

    def forward(self, outputs):
        return Gumbel(outputs[0], self.log_scale)


@hookimpl
def elboverse_likelihoods():
    return [Component("gumbel", Options, GumbelLikelihood, "maxima, with a learned scale per dimension")]
