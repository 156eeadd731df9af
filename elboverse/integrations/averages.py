"""The averages that a step needs, over the points of a batch at once, in as few passes over the batch as there can be.

Everything that is recorded is an average over points, and most of it follows from what the loss needs anyway: with the
mean squared error of a Gaussian decoder its entropy costs nothing, and with the residual η (x − σ(η)) of a Bernoulli
decoder, which its gradient consists of, neither does its entropy.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from elboverse.integrations.decoders import Decoded, Family
from elboverse.integrations.encoders import Posterior, latent_terms
from elboverse.theory import distributions as ours
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["DecoderAverages", "LatentAverages", "decoder_averages", "latent_averages"]

_LOG_2PI: Final = math.log(2 * math.pi)


class DecoderAverages(NamedTuple):
    """Averages over points and samples, in nats, each of the shape (); None where there is none.

    Args:
        log_likelihood: E ln p(x|z), with its gradient.
        log_reference: ln h(x); None for 0.
        entropy: H̃_dec.
        log_var: ln σ².
    """

    log_likelihood: Tensor
    log_reference: Tensor | None
    entropy: Tensor | None
    log_var: Tensor | None


class LatentAverages(NamedTuple):
    """Averages over points, in nats, each but the first of the shape (H,).

    Args:
        total: Σ_h KL_h, shape (), with its gradient.
        kl: KL_h.
        encoder_entropy: H_enc,h.
        prior_entropy: H_prior,h; None for that of a standard normal.
        prior_log_var: ln α²_h; None for zeros.
    """

    total: Tensor
    kl: Tensor
    encoder_entropy: Tensor
    prior_entropy: Tensor | None
    prior_log_var: Tensor | None


def decoder_averages(decoder: Decoded, x: Tensor) -> DecoderAverages:
    """Return the averages of p(x|z).

    Args:
        decoder: of the points.
        x: the points, shape (B, …).
    """
    if isinstance(decoder, Family) and x.is_floating_point() and not x.requires_grad:
        parts, flat = decoder.parts, x.flatten(1)
        if isinstance(parts, ours.GaussianDecoder):
            return _gaussian(parts, flat)
        if isinstance(parts, ours.Bernoulli) and parts.logits.dtype == x.dtype and torch.is_grad_enabled():
            return _bernoulli(parts.logits, flat)
    log_likelihood = decoder.log_prob(x).mean()
    with torch.no_grad():
        entropy, log_var = decoder.entropy(), decoder.log_var
        return DecoderAverages(
            log_likelihood,
            decoder.log_reference(x).mean(),
            None if entropy is None else entropy.mean(),
            None if log_var is None else log_var.mean(),
        )


def latent_averages(q: Posterior, prior: Any, z: Tensor | None = None) -> LatentAverages:
    """Return the averages of q(z|x) against p(z), in closed form where there is one.

    Args:
        q: the posterior.
        prior: of `encoders.seen_prior`.
        z: samples of q, shape (K, B, …); needed where KL(q ‖ prior) has no closed form.

    Raises:
        DataError: samples are needed.
    """
    if q.is_diagonal and q.mean.ndim == 2 and (prior is None or _is_one_gaussian(prior)):
        return _of_gaussians(q.mean, q.of.log_var.expand_as(q.mean), prior)
    terms = latent_terms(q, prior, z)
    kl = terms.kl.mean(0)
    return LatentAverages(
        kl.sum(), kl, terms.encoder_entropy.detach().mean(0), terms.prior_entropy, terms.prior_log_var
    )


def _of_gaussians(mean: Tensor, log_var: Tensor, prior: DiagonalGaussian | None) -> LatentAverages:
    """KL_h = ½ [m_h/α²_h − 1 + ln α²_h − mean ln τ²_h], m_h the second moment about the prior's mean."""
    points, latents = mean.shape
    each = torch.full((points,), 1 / points, dtype=mean.dtype, device=mean.device)
    average = torch.mv(log_var.detach().T, each)  # a column average by a product: several times as fast as mean(0)
    entropy = average.mul(0.5).add_(0.5 * (1 + _LOG_2PI))
    if prior is None:
        terms = mean.square() + log_var.exp() - log_var
        total = terms.sum() * (0.5 / points) - 0.5 * latents
        return LatentAverages(total, torch.mv(terms.detach().T, each).sub_(1).mul_(0.5), entropy, None, None)
    wide = prior.log_var.expand(latents)
    moment = ((mean - prior.mean).square() + log_var.exp()).mean(0)
    kl = 0.5 * (moment * (-wide).exp() - 1 + wide - log_var.mean(0))
    return LatentAverages(kl.sum(), kl, entropy, 0.5 * (1 + _LOG_2PI + wide.detach()), wide.detach())


def _is_one_gaussian(prior: Any) -> bool:
    return isinstance(prior, DiagonalGaussian) and prior.log_var.ndim <= 1 and prior.mean.ndim <= 1


def _gaussian(p: ours.GaussianDecoder, x: Tensor) -> DecoderAverages:
    """E ln p = −(D/2) [ln 2π + mean ln σ² + mean (x − μ)²/σ²]: means over everything, whatever shape ln σ² has."""
    dimension, log_var = p.location.shape[-1], p.log_var
    wide = x if x.shape == p.location.shape else x.expand_as(p.location)
    if log_var.numel() == 1:
        log_var = log_var.reshape(()) if log_var.ndim else log_var
        square = functional.mse_loss(p.location, wide) * (-log_var).exp()
    else:
        square = ((p.location - wide).square() * (-log_var).exp()).mean()
        log_var = log_var.mean()
    log_likelihood = -0.5 * dimension * (square + log_var + _LOG_2PI)
    known = log_var.detach()
    return DecoderAverages(log_likelihood, None, 0.5 * dimension * (known + (1 + _LOG_2PI)), known)


def _bernoulli(logits: Tensor, x: Tensor) -> DecoderAverages:
    log_likelihood, residual = _BernoulliAverage.apply(logits, x.expand_as(logits))  # type: ignore[no-untyped-call]
    return DecoderAverages(log_likelihood, None, residual - log_likelihood.detach(), None)


class _BernoulliAverage(torch.autograd.Function):
    """E ln p and R = E η (x − σ(η)) of a batch; the gradient x − σ(η) of the first is worked out for the second."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, each of the shape ()."""
        points = logits[..., 0].numel()
        slope = logits.sigmoid()
        torch.sub(x, slope, out=slope)
        ctx.save_for_backward(slope)
        ctx.points = points
        log_likelihood = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / -points
        residual = torch.dot(logits.reshape(-1), slope.reshape(-1)) / points
        ctx.mark_non_differentiable(residual)
        return log_likelihood, residual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _of_residual: Tensor) -> tuple[Tensor, None]:
        """Return the gradient along the logits."""
        (slope,) = ctx.saved_tensors
        return slope * (gradient / ctx.points), None
