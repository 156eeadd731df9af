"""Positive numbers: the exponential, the gamma and the log-normal distribution."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gamma, generator_of

__all__ = ["Exponential", "Gamma", "GammaFixedShape", "LogNormal"]

_ENTROPY_OF_NORMAL: Final = 0.5 * math.log(2 * math.pi * math.e)


class _Rate(NamedTuple):
    log_rate: Tensor


class Exponential(_Rate, DecoderDistribution):
    """p(x_d|z) = λ_d e^(−λ_d x_d), o = ln λ, with h = 1.

    r_d = 1 − λ_d x_d is the derivative along the bias of ln λ, so that bias must be free.

    Args:
        log_rate: o = ln λ, shape (*K, *B, D).

    Example:
        >>> Exponential(torch.zeros(1)).entropy()  # of rate 1
        tensor(1.)
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """1/λ, shape (*K, *B, D)."""
        return (-self.log_rate).exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return o − λ x."""
        return self.log_rate - self.log_rate.exp() * value

    def entropy_terms(self) -> Tensor:
        """Return 1 − o."""
        return 1 - self.log_rate

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return 1 − λ x."""
        return 1 - self.log_rate.exp() * value

    def varentropy_terms(self) -> Tensor:
        """Return 1."""
        return torch.ones_like(self.log_rate)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return λ x − 1."""
        return (self.log_rate.exp() * value - 1,)

    def sample(self, noise: Tensor) -> Tensor:
        """Return −ln Φ(ε)/λ."""
        return -torch.special.log_ndtr(noise) * self.mean


class _MeanAndShape(NamedTuple):
    log_mean: Tensor
    log_shape: Tensor


class Gamma(_MeanAndShape, DecoderDistribution):
    """p(x_d|z) = Gamma(shape k, mean m_d), rate λ = k/m, with the reference h = 1/x.

    r_d is ∂/∂ln k of ln p at fixed mean: zero on average where ln k is free.

    Args:
        log_mean: ln m, shape (*K, *B, D).
        log_shape: ln k, any shape that broadcasts.
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """m, shape (*K, *B, D)."""
        return self.log_mean.exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return k ln λ − ln Γ(k) + (k − 1) ln x − λ x."""
        shape, log_rate = self.log_shape.exp(), self.log_shape - self.log_mean
        return shape * log_rate - torch.lgamma(shape) + (shape - 1) * value.log() - log_rate.exp() * value

    def entropy_terms(self) -> Tensor:
        """Return ln Γ(k) − k ψ(k) + k, relative to h."""
        shape = self.log_shape.exp()
        return torch.lgamma(shape) - shape * torch.digamma(shape) + shape

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return −ln x."""
        return -value.log()

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return k (ln x − ψ(k) + ln λ) − λ x + k."""
        shape, log_rate = self.log_shape.exp(), self.log_shape - self.log_mean
        return shape * (value.log() - torch.digamma(shape) + log_rate + 1) - log_rate.exp() * value

    def varentropy_terms(self) -> Tensor:
        """Return k² ψ′(k) − k."""
        shape = self.log_shape.exp()
        return shape.square() * torch.polygamma(1, shape) - shape

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return k − λ x, and −r."""
        shape = self.log_shape.exp()
        return shape - (self.log_shape - self.log_mean).exp() * value, -self.residual_terms(value)

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws by torch's sampler seeded with the noise."""
        shape = self.log_shape.exp().expand(noise.shape)
        drawn = gamma(shape, generator_of(noise))
        return drawn.clamp_min(torch.finfo(noise.dtype).tiny) * (self.log_mean - self.log_shape).exp()


class _RateAndShape(NamedTuple):
    log_rate: Tensor
    shape: Tensor


class GammaFixedShape(_RateAndShape, DecoderDistribution):
    """p(x_d|z) = Gamma(shape k fixed, rate λ_d), o = ln λ, with the reference h = x^(k−1).

    r_d = k − λ x is the derivative along the bias of ln λ. With the reference 1/x it would not vanish: the reference is
    chosen so that what is trained is the temperature.

    Args:
        log_rate: o = ln λ, shape (*K, *B, D).
        shape: k > 0, shape ().
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """k/λ, shape (*K, *B, D)."""
        return self.shape * (-self.log_rate).exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return k ln λ − ln Γ(k) + (k − 1) ln x − λ x."""
        rate = self.log_rate.exp()
        return self.shape * self.log_rate - torch.lgamma(self.shape) + (self.shape - 1) * value.log() - rate * value

    def entropy_terms(self) -> Tensor:
        """Return k − k ln λ + ln Γ(k), relative to h."""
        return self.shape * (1 - self.log_rate) + torch.lgamma(self.shape)

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return (k − 1) ln x."""
        return (self.shape - 1) * value.log()

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return k − λ x."""
        return self.shape - self.log_rate.exp() * value

    def varentropy_terms(self) -> Tensor:
        """Return k."""
        return self.shape.expand_as(self.log_rate)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return λ x − k; nothing for the shape."""
        return self.log_rate.exp() * value - self.shape, None

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws by torch's sampler seeded with the noise."""
        shape = self.shape.expand(noise.shape)
        drawn = gamma(shape, generator_of(noise))
        return drawn.clamp_min(torch.finfo(noise.dtype).tiny) * (-self.log_rate).exp()


class _LogMoments(NamedTuple):
    location: Tensor
    log_var: Tensor


class LogNormal(_LogMoments, DecoderDistribution):
    """ln x_d ~ N(μ_d, σ²), with the reference h = 1/x: the Gaussian VAE of ln x, plus a constant.

    r_d = ½ (1 − u²), u = (ln x − μ)/σ, is −∂/∂ln σ² of ln p.

    Args:
        location: μ, shape (*K, *B, D).
        log_var: ln σ², any shape that broadcasts.

    Example:
        >>> LogNormal(torch.zeros(1), torch.zeros(())).mean  # √e
        tensor([1.6487])
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """e^(μ + σ²/2), shape (*K, *B, D)."""
        return (self.location + 0.5 * self.log_var.exp()).exp()

    def _square(self, value: Tensor) -> Tensor:
        return (value.log() - self.location).square() * (-self.log_var).exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return −½ ln 2πσ² − ½ u² − ln x."""
        return 0.5 - _ENTROPY_OF_NORMAL - 0.5 * (self.log_var + self._square(value)) - value.log()

    def entropy_terms(self) -> Tensor:
        """Return ½ ln 2πeσ², relative to h."""
        return _ENTROPY_OF_NORMAL + 0.5 * self.log_var

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return −ln x."""
        return -value.log()

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return ½ (1 − u²)."""
        return 0.5 * (1 - self._square(value))

    def varentropy_terms(self) -> Tensor:
        """Return ½."""
        return torch.full_like(self.log_var, 0.5)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return (μ − ln x)/σ², and r."""
        precision = (-self.log_var).exp()
        return (self.location - value.log()) * precision, self.residual_terms(value)

    def sample(self, noise: Tensor) -> Tensor:
        """Return e^(μ + σ ε)."""
        return (self.location + (0.5 * self.log_var).exp() * noise).exp()
