"""Shares inside (0, 1): the beta distribution."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gamma, generator_of

__all__ = ["Beta"]


class _Fields(NamedTuple):
    logit_mean: Tensor
    log_concentration: Tensor


class Beta(_Fields, DecoderDistribution):
    """p(x_d|z) = Beta(a, b), a = κ m_d, b = κ (1 − m_d), with the reference h = 1/(x (1 − x)).

    r_d is ∂/∂ln κ of ln p at fixed mean m: zero on average where ln κ is free.

    Args:
        logit_mean: ln(m/(1 − m)), shape (*K, *B, D).
        log_concentration: ln κ, any shape that broadcasts.

    Example:
        >>> Beta(torch.zeros(1), torch.tensor([2.0]).log()).log_prob(torch.tensor([0.25]))  # uniform
        tensor(0.)
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """m, shape (*K, *B, D)."""
        return torch.sigmoid(self.logit_mean)

    def _shapes(self) -> tuple[Tensor, Tensor, Tensor]:
        log = self.log_concentration
        first = (log + functional.logsigmoid(self.logit_mean)).exp()
        second = (log + functional.logsigmoid(-self.logit_mean)).exp()
        return first, second, log.exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return (a − 1) ln x + (b − 1) ln(1 − x) − ln B(a, b)."""
        first, second, both = self._shapes()
        log_beta = torch.lgamma(first) + torch.lgamma(second) - torch.lgamma(both)
        return (first - 1) * value.log() + (second - 1) * torch.log1p(-value) - log_beta

    def entropy_terms(self) -> Tensor:
        """Return ln B(a, b) − a (ψ(a) − ψ(κ)) − b (ψ(b) − ψ(κ)), relative to h."""
        first, second, both = self._shapes()
        log_beta = torch.lgamma(first) + torch.lgamma(second) - torch.lgamma(both)
        return log_beta - first * torch.digamma(first) - second * torch.digamma(second) + both * torch.digamma(both)

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return −ln x − ln(1 − x)."""
        return -value.log() - torch.log1p(-value)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return a (ln x − ψ(a) + ψ(κ)) + b (ln(1 − x) − ψ(b) + ψ(κ))."""
        first, second, both = self._shapes()
        return (
            first * (value.log() - torch.digamma(first))
            + second * (torch.log1p(-value) - torch.digamma(second))
            + both * torch.digamma(both)
        )

    def varentropy_terms(self) -> Tensor:
        """Return a² ψ′(a) + b² ψ′(b) − κ² ψ′(κ)."""
        first, second, both = (shape.square() * torch.polygamma(1, shape) for shape in self._shapes())
        return first + second - both

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivative of −ln p with respect to the logit of m, and −r."""
        first, second, both = self._shapes()
        logit = value.log() - torch.log1p(-value)
        towards = first * second / both * (logit - torch.digamma(first) + torch.digamma(second))
        return -towards, -self.residual_terms(value)

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws by torch's sampler seeded with the noise, strictly inside (0, 1)."""
        first, second, _ = self._shapes()
        generator = generator_of(noise)
        one, two = (gamma(shape.expand(noise.shape).double(), generator) for shape in (first, second))
        tiny = torch.finfo(noise.dtype).eps / 4
        return (one / (one + two)).to(noise.dtype).clamp(tiny, 1 - 2 * tiny)
