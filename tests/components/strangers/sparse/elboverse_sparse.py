"""A Laplace prior with a learned scale for each latent, in closed form against a Gaussian posterior."""

import math
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn

from elboverse import Component, hookimpl

Options = attrs.make_class("Options", {"initial_scale": attrs.field(default=1.0, type=float)}, frozen=True)


class Laplace(NamedTuple):
    log_scale: Tensor

    def log_prob(self, value):
        return -(value.abs() * (-self.log_scale).exp() + self.log_scale + math.log(2)).sum(-1)

    def sample(self, noise):
        tail = torch.special.log_ndtr(-noise.abs()) + math.log(2)
        return -noise.sign() * tail * self.log_scale.exp()

    def entropy(self):
        return 1 + self.log_scale + math.log(2)

    def cross_entropy(self, encoder, samples):
        if not hasattr(encoder, "log_var"):
            return -self.log_prob(samples).reshape(-1, samples.shape[-2]).mean(0).unsqueeze(-1)
        std = (0.5 * encoder.log_var).exp()
        ratio = encoder.mean / std
        folded = std * math.sqrt(2 / math.pi) * (-0.5 * ratio.square()).exp()
        mean_size = folded + encoder.mean * torch.erf(ratio / math.sqrt(2))
        return mean_size * (-self.log_scale).exp() + self.log_scale + math.log(2)


class LaplacePrior(nn.Module):
    theorem = ""  # the scales are learned

    def __init__(self, options, latent_dim, data_shape):
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((latent_dim,), math.log(options.initial_scale)))

    def forward(self, encode):
        return Laplace(self.log_scale)


@hookimpl
def elboverse_priors():
    return [Component("sparse", Options, LaplacePrior, "Laplace with learned scales")]
