"""``mixture`` and ``vamp``: priors with several components."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from elboverse.config.structuring import in_range
from elboverse.theory.distributions import GaussianMixture, VampPrior

__all__ = ["MixtureOptions", "MixturePrior", "VampOptions", "VampPriorModule", "build_mixture", "build_vamp"]


@attrs.frozen(kw_only=True)
class MixtureOptions:
    """Options of the mixture of Gaussians; weights, means and variances are learned.

    Args:
        components: M.
        shared_variance: one diagonal covariance for all components.
        spread: standard deviation of the means at the start.
    """

    components: int = attrs.field(default=10, validator=in_range(minimum=1, maximum=100_000))
    shared_variance: bool = False
    spread: float = attrs.field(default=1.0, validator=in_range(minimum=0, maximum=100))


@attrs.frozen(kw_only=True)
class VampOptions:
    """Options of the VampPrior.

    Args:
        components: M, how many pseudo-inputs there are.
    """

    components: int = attrs.field(default=50, validator=in_range(minimum=1, maximum=100_000))


class MixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(m_k, diag c_k)."""

    theorem = ""

    def __init__(self, options: MixtureOptions, latent_dim: int) -> None:
        super().__init__()
        rows = 1 if options.shared_variance else options.components
        self.log_weights = nn.Parameter(torch.zeros(options.components))
        self.means = nn.Parameter(torch.randn(options.components, latent_dim) * options.spread)
        self.log_vars = nn.Parameter(torch.zeros(rows, latent_dim))

    def forward(self, encode: Any) -> GaussianMixture:  # noqa: ARG002 - as any prior
        """Return p(z)."""
        return GaussianMixture(self.log_weights, self.means, self.log_vars.expand_as(self.means))


class VampPriorModule(nn.Module):
    """p(z) = (1/M) Σ_k q(z|u_k) with pseudo-inputs u_k learned."""

    theorem = "the components' variances are the encoder's, so the prior residual need not vanish"

    def __init__(self, options: VampOptions, dimension: int) -> None:
        super().__init__()
        self.inputs = nn.Parameter(0.5 + 0.1 * torch.randn(options.components, dimension))

    def forward(self, encode: Callable[[Tensor], Any]) -> VampPrior:
        """Return p(z)."""
        encoder = encode(self.inputs)
        return VampPrior(encoder.mean, encoder.log_var.expand_as(encoder.mean))


def build_mixture(options: MixtureOptions, latent_dim: int, data_shape: tuple[int, ...]) -> MixturePrior:  # noqa: ARG001
    """Return the prior of H latents."""
    return MixturePrior(options, latent_dim)


def build_vamp(options: VampOptions, latent_dim: int, data_shape: tuple[int, ...]) -> VampPriorModule:  # noqa: ARG001
    """Return the prior for points of that shape."""
    return VampPriorModule(options, math.prod(data_shape))
