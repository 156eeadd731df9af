"""Heavier tails: the Laplace distribution and the generalised normal distribution."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gamma, generator_of, uniform

__all__ = ["GeneralisedNormal", "Laplace"]


class _Fields(NamedTuple):
    location: Tensor
    log_scale: Tensor


class Laplace(_Fields, DecoderDistribution):
    """p(x_d|z) = e^(−|u_d|)/2b, u_d = (x_d − μ_d)/b, with the scale b as the temperature and h = 1.

    r_d = 1 − |u_d| is −∂/∂ln b of ln p.

    Args:
        location: μ, shape (*K, *B, D).
        log_scale: ln b, any shape that broadcasts.

    Example:
        >>> Laplace(torch.zeros(1), torch.zeros(())).entropy()  # 1 + ln 2
        tensor(1.6931)
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """μ, shape (*K, *B, D)."""
        return self.location

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return −ln 2b − |u|."""
        return -math.log(2) - self.log_scale - (value - self.location).abs() * (-self.log_scale).exp()

    def entropy_terms(self) -> Tensor:
        """Return 1 + ln 2b."""
        return 1 + math.log(2) + self.log_scale

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return 1 − |u|."""
        return 1 - (value - self.location).abs() * (-self.log_scale).exp()

    def varentropy_terms(self) -> Tensor:
        """Return 1."""
        return torch.ones_like(self.log_scale)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return −sign(u)/b, and 1 − |u|."""
        difference, rate = value - self.location, (-self.log_scale).exp()
        return -difference.sign() * rate, 1 - difference.abs() * rate

    def sample(self, noise: Tensor) -> Tensor:
        """Return μ − b sign(t) ln(1 − 2|t|), t = Φ(ε) − ½."""
        tail = -torch.special.log_ndtr(-noise.abs()) - math.log(2)
        return self.location + self.log_scale.exp() * noise.sign() * tail


class _GeneralisedFields(NamedTuple):
    location: Tensor
    log_scale: Tensor
    power: Tensor


class GeneralisedNormal(_GeneralisedFields, DecoderDistribution):
    """p(x_d|z) = e^(−|u_d|^p) p/(2 s Γ(1/p)), u_d = (x_d − μ_d)/s, with s as the temperature, p fixed, and h = 1.

    r_d = 1/p − |u_d|^p is −(1/p) ∂/∂ln s of ln p. These are the only symmetric location–scale families of fixed shape
    whose scale is the temperature; p = 1 is the Laplace, p = 2 the normal distribution.

    Args:
        location: μ, shape (*K, *B, D).
        log_scale: ln s, any shape that broadcasts.
        power: p > 0, shape ().
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """μ, shape (*K, *B, D)."""
        return self.location

    def _distance(self, value: Tensor) -> Tensor:
        return ((value - self.location).abs() * (-self.log_scale).exp()).pow(self.power)

    def _log_volume(self) -> Tensor:
        """Return ln(2 s Γ(1/p)/p)."""
        return math.log(2) + self.log_scale + torch.lgamma(1 / self.power) - self.power.log()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return −|u|^p − ln(2 s Γ(1/p)/p)."""
        return -self._distance(value) - self._log_volume()

    def entropy_terms(self) -> Tensor:
        """Return 1/p + ln(2 s Γ(1/p)/p)."""
        return 1 / self.power + self._log_volume()

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return 1/p − |u|^p."""
        return 1 / self.power - self._distance(value)

    def varentropy_terms(self) -> Tensor:
        """Return 1/p."""
        return (1 / self.power).expand_as(self.log_scale)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return −p |u|^(p−1) sign(u)/s, and 1 − p |u|^p; nothing for the power."""
        rate = (-self.log_scale).exp()
        size = (value - self.location).abs() * rate
        towards = (value - self.location).sign() * rate * size.pow(self.power - 1)
        towards = torch.where(size > 0, towards, torch.zeros_like(towards))
        return -self.power * towards, 1 - self.power * size.pow(self.power), None

    def sample(self, noise: Tensor) -> Tensor:
        """Return μ ± s g^(1/p), g ~ Gamma(1/p), by torch's sampler seeded with the noise."""
        shape = (1 / self.power).expand(noise.shape)
        size = gamma(shape, generator_of(noise)).pow(1 / self.power)
        return self.location + self.log_scale.exp() * torch.where(uniform(noise) < 0.5, -size, size)
