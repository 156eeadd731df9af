"""``beta-tc``, ``mmd`` and ``dip``: terms that act on the aggregate posterior, mean_n q(z|x_n).

They move the stationary points, and with them the residuals: R_h of the ELBO need not vanish where they are at work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from elboverse.config.structuring import in_range
from elboverse.theory.distributions import variance_along

__all__ = [
    "DIP",
    "MMD",
    "DIPOptions",
    "MMDOptions",
    "TotalCorrelation",
    "TotalCorrelationOptions",
    "build_dip",
    "build_mmd",
    "build_total_correlation",
]


@attrs.frozen(kw_only=True)
class TotalCorrelationOptions:
    """Options of the β-TC-VAE's term.

    Args:
        weight: β − 1, how much the total correlation counts beyond the once that the KL term counts it.
    """

    weight: float = attrs.field(default=5.0, validator=in_range(minimum=0))


@attrs.frozen(kw_only=True)
class MMDOptions:
    """Options of the maximum mean discrepancy.

    Args:
        weight: of the discrepancy.
    """

    weight: float = attrs.field(default=10.0, validator=in_range(minimum=0))


@attrs.frozen(kw_only=True)
class DIPOptions:
    """Options of the DIP-VAE's term.

    Args:
        off_diagonal: weight of the squared covariances between latents.
        diagonal: weight of the squared differences of their variances from 1.
    """

    off_diagonal: float = attrs.field(default=10.0, validator=in_range(minimum=0))
    diagonal: float = attrs.field(default=10.0, validator=in_range(minimum=0))


@attrs.frozen
class TotalCorrelation:
    """weight · KL(q̄(z) ‖ Π_h q̄(z_h)), estimated within the batch (Chen et al. 2018, mini-batch weighted sampling).

    q must be a `DiagonalGaussian`.
    """

    weight: float

    def extra(self, x: Tensor, q: Any, z: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002 - as any regulariser
        """Return ``total_correlation``, weighted."""
        samples = z.reshape(-1, *z.shape[-2:])[0]
        log_var = q.log_var.expand_as(q.mean)
        square = (samples.unsqueeze(1) - q.mean).square() * (-log_var).exp()
        density = -0.5 * (math.log(2 * math.pi) + log_var + square)
        count = math.log(len(samples))
        joint = density.sum(-1).logsumexp(1) - count
        margins = (density.logsumexp(1) - count).sum(-1)
        return {"total_correlation": self.weight * (joint - margins).mean()}


@attrs.frozen
class MMD:
    """weight · MMD²(q̄(z), N(0, I)), kernel e^(−‖z−z'‖²/H), expectations over N(0, I) exact (Zhao et al. 2019)."""

    weight: float

    def extra(self, x: Tensor, q: Any, z: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002 - as any regulariser
        """Return ``mmd``, weighted."""
        samples = z.reshape(-1, *z.shape[-2:])[0]
        latents = samples.shape[-1]
        count = len(samples)
        square = (samples.unsqueeze(1) - samples).square().sum(-1)
        kernel = (-square / latents).exp()
        within = (kernel.sum() - count) / max(1, count * (count - 1))
        # E_z' e^(−‖z−z'‖²/H), z' ~ N(0, I): a Gaussian integral with variance H/2 + 1 per latent.
        width = latents / (latents + 2)
        across = width ** (latents / 2) * (-samples.square().sum(-1) / (latents + 2)).exp()
        prior = (latents / (latents + 4)) ** (latents / 2)
        return {"mmd": self.weight * (within - 2 * across.mean() + prior)}


@attrs.frozen
class DIP:
    """off_diagonal · Σ_(h≠j) C²_hj + diagonal · Σ_h (C_hh − 1)², C the covariance of q̄(z) (Kumar et al. 2018, II)."""

    off_diagonal: float
    diagonal: float

    def extra(self, x: Tensor, q: Any, z: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002 - as any regulariser
        """Return ``dip``, weighted."""
        centred = q.mean - q.mean.mean(0)
        spread = variance_along(q, torch.eye(q.mean.shape[-1], dtype=z.dtype, device=z.device)).mean(0)
        covariance = centred.mT @ centred / len(centred) + torch.diag_embed(spread)
        variances = covariance.diagonal(dim1=-2, dim2=-1)
        off = covariance.square().sum() - variances.square().sum()
        return {"dip": self.off_diagonal * off + self.diagonal * (variances - 1).square().sum()}


def build_total_correlation(options: TotalCorrelationOptions) -> TotalCorrelation:
    """Return the term."""
    return TotalCorrelation(options.weight)


def build_mmd(options: MMDOptions) -> MMD:
    """Return the term."""
    return MMD(options.weight)


def build_dip(options: DIPOptions) -> DIP:
    """Return the term."""
    return DIP(options.off_diagonal, options.diagonal)
