"""A diagonal Gaussian as a decoder: the terms per dimension of `DiagonalGaussian`."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution

__all__ = ["GaussianDecoder"]

_ENTROPY_OF_NORMAL: Final = 0.5 * math.log(2 * math.pi * math.e)


class _Fields(NamedTuple):
    location: Tensor
    log_var: Tensor


class GaussianDecoder(_Fields, DecoderDistribution):
    """p(x_d|z) = N(x_d; μ_d, σ²_d) with the variance as the temperature and h = 1.

    r_d = ½ (1 − u²_d), u_d = (x_d − μ_d)/σ_d, is −∂/∂ln σ² of ln p. A model returns `elboverse.DiagonalGaussian`; this
    is the same pair of tensors as the general formulas see it.

    Args:
        location: μ, shape (*K, *B, D).
        log_var: ln σ², any shape that broadcasts.
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """μ, shape (*K, *B, D)."""
        return self.location

    def _square(self, value: Tensor) -> Tensor:
        return (value - self.location).square() * (-self.log_var).exp()

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return −½ ln 2πσ² − ½ u²."""
        return 0.5 - _ENTROPY_OF_NORMAL - 0.5 * (self.log_var + self._square(value))

    def entropy_terms(self) -> Tensor:
        """Return ½ ln 2πeσ²."""
        return _ENTROPY_OF_NORMAL + 0.5 * self.log_var

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return ½ (1 − u²)."""
        return 0.5 * (1 - self._square(value))

    def varentropy_terms(self) -> Tensor:
        """Return ½."""
        return torch.full_like(self.log_var, 0.5)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return (μ − x)/σ², and r."""
        return (self.location - value) * (-self.log_var).exp(), self.residual_terms(value)

    def sample(self, noise: Tensor) -> Tensor:
        """Return μ + σ ε."""
        return self.location + (0.5 * self.log_var).exp() * noise
