"""Much heavier tails: Student's t distribution."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gamma, generator_of

__all__ = ["StudentT"]


class _Fields(NamedTuple):
    location: Tensor
    log_var: Tensor
    log_df: Tensor


class StudentT(_Fields, DecoderDistribution):
    """p(x_d|z) = Student's t with ν degrees of freedom, location μ_d and squared scale s², with h = 1.

        r_d = (ν+1)/2 [Δ − ln(1 + u²/ν)],    Δ = ψ((ν+1)/2) − ψ(ν/2),    u = (x_d − μ_d)/s

    is (ν+1)[∂/∂ν − (1/ν) ∂/∂ln s²] of ln p: it is zero on average only where ν **and** s² are learned.

    Args:
        location: μ, shape (*K, *B, D).
        log_var: ln s², any shape that broadcasts.
        log_df: ln ν, any shape that broadcasts.

    Example:
        >>> StudentT(torch.zeros(1), torch.zeros(()), torch.zeros(())).log_prob(torch.zeros(1))  # −ln π
        tensor(-1.1447)
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """μ, shape (*K, *B, D); the location, also where ν ≤ 1 and the mean does not exist."""
        return self.location

    def _tail(self, value: Tensor) -> Tensor:
        """Return ln(1 + u²/ν)."""
        return torch.log1p((value - self.location).square() * (-self.log_var - self.log_df).exp())

    def _constant(self) -> Tensor:
        """Return c = ln Γ((ν+1)/2) − ln Γ(ν/2) − ½ ln(νπs²)."""
        df = self.log_df.exp()
        return (
            torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (self.log_df + math.log(math.pi) + self.log_var)
        )

    def _delta(self) -> Tensor:
        df = self.log_df.exp()
        return torch.digamma((df + 1) / 2) - torch.digamma(df / 2)

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return c − (ν+1)/2 ln(1 + u²/ν)."""
        return self._constant() - (self.log_df.exp() + 1) / 2 * self._tail(value)

    def entropy_terms(self) -> Tensor:
        """Return −c + (ν+1)/2 Δ."""
        return (self.log_df.exp() + 1) / 2 * self._delta() - self._constant()

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return (ν+1)/2 [Δ − ln(1 + u²/ν)]."""
        return (self.log_df.exp() + 1) / 2 * (self._delta() - self._tail(value))

    def varentropy_terms(self) -> Tensor:
        """Return ((ν+1)/2)² [ψ′(ν/2) − ψ′((ν+1)/2)]."""
        df = self.log_df.exp()
        spread = torch.polygamma(1, df / 2) - torch.polygamma(1, (df + 1) / 2)
        return ((df + 1) / 2).square() * spread + 0 * self.log_var

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives of −ln p with respect to μ, ln s² and ln ν."""
        df, difference = self.log_df.exp(), value - self.location
        square = difference.square() * (-self.log_var).exp()
        weight = (df + 1) / (df + square)
        towards_df = 0.5 * df * (self._delta() - torch.log1p(square / df)) + 0.5 * (weight * square - 1)
        return -weight * difference * (-self.log_var).exp(), 0.5 * (1 - weight * square), -towards_df

    def sample(self, noise: Tensor) -> Tensor:
        """Return μ + s ε √(ν/χ²), the χ² by torch's sampler seeded with the noise."""
        half = (self.log_df.exp() / 2).expand(noise.shape)
        chi_square = 2 * gamma(half, generator_of(noise))
        return self.location + (0.5 * (self.log_var + self.log_df)).exp() * noise * chi_square.rsqrt()
