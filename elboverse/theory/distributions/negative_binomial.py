"""Over-dispersed counts: the negative binomial distribution in scVI's parametrisation."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gamma, generator_of
from elboverse.theory.distributions.poisson import log_total

__all__ = ["NegativeBinomial"]


class _Fields(NamedTuple):
    log_share: Tensor
    log_dispersion: Tensor
    log_library: Tensor


class NegativeBinomial(_Fields, DecoderDistribution):
    """p(x_d|z) = NB(x_d; mean μ_d, θ_d), variance μ + μ²/θ, with μ_d = l e^(log share of d).

    It is a mixture of Poisson distributions, x ~ Poisson(w), w ~ Gamma(θ, θ/μ), and in the joint distribution of (x, w)
    the dispersion θ is the temperature of the mixing density: with H̃ the entropy of the rate with respect to dw/w,

        ln NB(x; μ, θ) = G(x; μ, θ) − H̃(θ) + R_θ,    R_θ = ∂ ln NB/∂ ln θ at fixed μ.

    R_θ is zero on average where ln θ_d is free, and so is the identity exact in this form. `log_reference` returns G,
    which depends on z. Source: Lopez et al. 2018 (scVI) for the parametrisation; the identity is derived.

    Args:
        log_share: ln(μ/l), shape (*K, *B, D).
        log_dispersion: ln θ, shape (D,) or what broadcasts.
        log_library: ln l, shape (*B, 1) or (); a typical one until `given` replaces it.
    """

    __slots__ = ()

    takes_library: ClassVar[bool] = True

    @property
    def mean(self) -> Tensor:
        """μ, shape (*K, *B, D)."""
        return (self.log_share + self.log_library).exp()

    def given(self, value: Tensor) -> Self:
        """Return the distribution with the library of points x of shape (*B, D)."""
        return self._replace(log_library=log_total(value))

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return ln Γ(x+θ) − ln Γ(θ) − ln x! − θ ln(1 + μ/θ) − x ln(1 + θ/μ)."""
        log_mean, log_theta = self.log_share + self.log_library, self.log_dispersion
        theta, log_odds = log_theta.exp(), log_mean - log_theta
        binomial = torch.lgamma(value + theta) - torch.lgamma(theta) - torch.lgamma(value + 1)
        softplus = torch.nn.functional.logsigmoid
        return binomial + theta * softplus(-log_odds) + value * softplus(log_odds)

    def entropy_terms(self) -> Tensor:
        """Return ln Γ(θ) − θ ψ(θ) + θ, of the rate with respect to dw/w."""
        theta = self.log_dispersion.exp()
        return torch.lgamma(theta) - theta * torch.digamma(theta) + theta

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return G = ln NB + H̃ − R_θ, shape (*K, *B, D)."""
        return self.log_prob_terms(value) + self.entropy_terms() - self.residual_terms(value)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return R_θ = θ [ψ(x+θ) − ψ(θ) + ln θ − ln(θ+μ) + 1 − (x+θ)/(μ+θ)]."""
        theta, mean = self.log_dispersion.exp(), self.mean
        difference = torch.digamma(value + theta) - torch.digamma(theta) - torch.log1p(mean / theta)
        return theta * (difference + (mean - value) / (mean + theta))

    def varentropy_terms(self) -> Tensor:
        """Return θ² ψ′(θ) − θ, that of the rate: at least the information on ln θ that counts have."""
        theta = self.log_dispersion.exp()
        return theta.square() * torch.polygamma(1, theta) - theta

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return θ (μ − x)/(μ + θ), and −R_θ; nothing for the library."""
        theta, mean = self.log_dispersion.exp(), self.mean
        return theta * (mean - value) / (mean + theta), -self.residual_terms(value), None

    def sample(self, noise: Tensor) -> Tensor:
        """Return counts, by torch's samplers seeded with the noise."""
        generator = generator_of(noise)
        theta = self.log_dispersion.exp().expand(noise.shape)
        rate = gamma(theta, generator) * (self.mean / theta)
        return torch.poisson(rate, generator=generator)
