"""Counts: the Poisson distribution, by itself, with an exposure, and as shares of a total."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import generator_of

__all__ = ["Poisson", "PoissonSoftmax", "PoissonWithLibrary", "log_total"]


def log_total(value: Tensor) -> Tensor:
    """Return ln l of counts, l = Σ_d x_d, shape (*B, 1); of a point without any count a number so small that λ = 0.

    Args:
        value: counts x, shape (*B, D).
    """
    return value.sum(-1, keepdim=True).clamp_min(1e-30).log()


class _Fields(NamedTuple):
    log_rate: Tensor


class Poisson(_Fields, DecoderDistribution):
    """p(x_d|z) = λ_d^x_d e^(−λ_d)/x_d! with η = ln λ and the reference h = 1/x!.

    r_d = η_d (x_d − λ_d) is the derivative along the scale of ln λ. The Shannon entropy has no closed form and is not
    needed: with respect to h the tempered distribution stays a Poisson one.

    Args:
        log_rate: η = ln λ, shape (*K, *B, D).

    Example:
        >>> Poisson(torch.tensor([2.0]).log()).mean
        tensor([2.])
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """λ, shape (*K, *B, D)."""
        return self.log_rate.exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return x η − λ − ln x!."""
        return value * self.log_rate - self.mean - torch.lgamma(value + 1)

    def entropy_terms(self) -> Tensor:
        """Return λ (1 − η), relative to h."""
        return self.mean * (1 - self.log_rate)

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return −ln x!."""
        return -torch.lgamma(value + 1)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return η (x − λ)."""
        return self.log_rate * (value - self.mean)

    def varentropy_terms(self) -> Tensor:
        """Return η² λ."""
        return self.log_rate.square() * self.mean

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return λ − x."""
        return (self.mean - value,)

    def sample(self, noise: Tensor) -> Tensor:
        """Return counts, by torch's sampler seeded with the noise."""
        return torch.poisson(self.mean.expand(noise.shape).contiguous(), generator=generator_of(noise))


class _ExposedFields(NamedTuple):
    logits: Tensor
    log_library: Tensor


class PoissonWithLibrary(_ExposedFields, DecoderDistribution):
    """p(x_d|z) Poisson with ln λ_d = ln l + η_d, the library l = Σ_d x_d being given by the data point.

    The reference is h = l^x/x!, so that scaling η and not the offset is the temperature: r_d = η_d (x_d − λ_d).

    Args:
        logits: η, shape (*K, *B, D).
        log_library: ln l, shape (*B, 1) or (); a typical one until `given` replaces it.
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """λ, shape (*K, *B, D)."""
        return (self.log_library + self.logits).exp()

    def given(self, value: Tensor) -> Self:
        """Return the distribution with the library of points x of shape (*B, D)."""
        return type(self)(self.logits, log_total(value))

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return x ln λ − λ − ln x!."""
        log_rate = self.log_library + self.logits
        return value * log_rate - log_rate.exp() - torch.lgamma(value + 1)

    def entropy_terms(self) -> Tensor:
        """Return λ (1 − η), relative to h."""
        return self.mean * (1 - self.logits)

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return x ln l − ln x!."""
        return value * self.log_library - torch.lgamma(value + 1)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return η (x − λ)."""
        return self.logits * (value - self.mean)

    def varentropy_terms(self) -> Tensor:
        """Return η² λ."""
        return self.logits.square() * self.mean

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return λ − x; nothing for the library."""
        return (self.mean - value, None)

    def sample(self, noise: Tensor) -> Tensor:
        """Return counts, by torch's sampler seeded with the noise."""
        return torch.poisson(self.mean.expand(noise.shape).contiguous(), generator=generator_of(noise))


class PoissonSoftmax(_ExposedFields, DecoderDistribution):
    """p(x_d|z) Poisson with λ = l softmax(η), l = Σ_d x_d: shares of a given total, as scVI's "poisson".

    Given the total it is the multinomial distribution. The reference is h = l^x/x!; r = Σ_d ln π_d (x_d − λ_d) does not
    change when a constant is added to the logits, and is the derivative along their scale.
    Source: Lopez et al. 2018 (scVI) for the parametrisation.

    Args:
        logits: η, shape (*K, *B, D).
        log_library: ln l, shape (*B, 1) or (); a typical one until `given` replaces it.
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """λ, shape (*K, *B, D)."""
        return (self.log_library + self.logits.log_softmax(-1)).exp()

    def given(self, value: Tensor) -> Self:
        """Return the distribution with the library of points x of shape (*B, D)."""
        return type(self)(self.logits, log_total(value))

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return x ln λ − λ − ln x!."""
        log_rate = self.log_library + self.logits.log_softmax(-1)
        return value * log_rate - log_rate.exp() - torch.lgamma(value + 1)

    def entropy_terms(self) -> Tensor:
        """Return λ − λ ln π, relative to h."""
        return self.mean * (1 - self.logits.log_softmax(-1))

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return x ln l − ln x!."""
        return value * self.log_library - torch.lgamma(value + 1)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return ln π (x − λ)."""
        return self.logits.log_softmax(-1) * (value - self.mean)

    def varentropy_terms(self) -> Tensor:
        """Return λ (ln π − E_π ln π)²: the variance given the total."""
        log = self.logits.log_softmax(-1)
        centred = log - (log.exp() * log).sum(-1, keepdim=True)
        return self.mean * centred.square()

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return π Σ_d x_d − x; nothing for the library."""
        return (self.logits.softmax(-1) * value.sum(-1, keepdim=True) - value, None)

    def sample(self, noise: Tensor) -> Tensor:
        """Return counts, by torch's sampler seeded with the noise."""
        return torch.poisson(self.mean.expand(noise.shape).contiguous(), generator=generator_of(noise))
