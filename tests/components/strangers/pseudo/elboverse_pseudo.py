"""A VampPrior (Tomczak and Welling 2018): a mixture of the encoder's own distributions at learned pseudo-inputs."""

import math
from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn

from elboverse import Component, DiagonalGaussian, hookimpl

Options = attrs.make_class("Options", {"inputs": attrs.field(default=8, type=int)}, frozen=True)


class Mixture(NamedTuple):
    """p(z) = mean_k N(z; m_k, diag c_k). It has no closed-form entropy, so it is judged by samples of it."""

    means: Tensor
    log_vars: Tensor

    def log_prob(self, value):
        densities = DiagonalGaussian(self.means, self.log_vars).log_prob(value.unsqueeze(-2))
        return densities.logsumexp(-1) - math.log(len(self.means))

    def sample(self, noise):
        # Which component: by a number that is uniform where the noise is normal, and the rest of that number is noise.
        place = torch.special.ndtr(noise[..., :1]) * len(self.means)
        chosen = place.floor().clamp_max(len(self.means) - 1)
        first = torch.special.ndtri((place - chosen).clamp(1e-6, 1 - 1e-6))
        index = chosen.long().squeeze(-1)
        fresh = torch.cat((first, noise[..., 1:]), dim=-1)
        return self.means[index] + (0.5 * self.log_vars[index]).exp() * fresh


class PseudoInputs(nn.Module):
    theorem = "the variances of the components are the encoder's, so the prior residual need not vanish"

    def __init__(self, options, latent_dim, data_shape):
        super().__init__()
        self.inputs = nn.Parameter(0.5 + 0.1 * torch.randn(options.inputs, math.prod(data_shape)))

    def forward(self, encode):
        q = encode(self.inputs)
        return Mixture(q.mean, q.log_var.expand_as(q.mean))


@hookimpl
def elboverse_priors():
    return [Component("pseudo", Options, PseudoInputs, "the encoder's distributions at pseudo-inputs")]
