"""Grey values: the continuous Bernoulli distribution on [0, 1]."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import uniform

__all__ = ["ContinuousBernoulli"]

_SERIES_BELOW: Final = 0.05
"""|η| below which power series are used; their error there is at most 4e-16."""


class _Fields(NamedTuple):
    logits: Tensor


class ContinuousBernoulli(_Fields, DecoderDistribution):
    """p(x_d|z) = exp(η_d x_d − A(η_d)) for x_d in [0, 1], with A(η) = ln((e^η − 1)/η) and h = 1.

    r_d = η_d (x_d − A′(η_d)) is the derivative along the scale of the logits. A, A′ and A″ are written so that they are
    exact at large and small logits, which those of `torch.distributions` are not (it clamps probabilities).
    A value beyond [0, 1], as a held-out one beyond the range that a scaling was fitted to, is taken as the nearest end.
    Source: Loaiza-Ganem and Cunningham 2019.

    Args:
        logits: η, shape (*K, *B, D).

    Example:
        >>> ContinuousBernoulli(torch.zeros(2)).mean
        tensor([0.5000, 0.5000])
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """A′(η), shape (*K, *B, D)."""
        large, small, is_small = self._split()
        square = small.square()
        series = 0.5 + small * (1 / 12 - square * (1 / 720 - square / 30240))
        return torch.where(is_small, series, -1 / torch.expm1(-large) - 1 / large)

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return η where it is large, η where it is small, each harmless elsewhere, and where it is small."""
        is_small = self.logits.abs() < _SERIES_BELOW
        return (
            torch.where(is_small, torch.ones_like(self.logits), self.logits),
            torch.where(is_small, self.logits, torch.zeros_like(self.logits)),
            is_small,
        )

    def _log_normaliser(self) -> Tensor:
        large, small, is_small = self._split()
        square = small.square()
        series = small / 2 + square * (1 / 24 - square * (1 / 2880 - square / 181440))
        size = large.abs()
        return torch.where(is_small, series, large.clamp_min(0) + torch.log(-torch.expm1(-size)) - size.log())

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return x η − A(η)."""
        return value.clamp(0, 1) * self.logits - self._log_normaliser()

    def entropy_terms(self) -> Tensor:
        """Return A(η) − η A′(η)."""
        return self._log_normaliser() - self.logits * self.mean

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return η (x − A′(η))."""
        return self.logits * (value.clamp(0, 1) - self.mean)

    def varentropy_terms(self) -> Tensor:
        """Return η² A″(η), A″ = 1/η² − 1/(4 sinh²(η/2))."""
        large, small, is_small = self._split()
        square = small.square()
        series = square * (1 / 12 - square * (1 / 240 - square / 6048))
        size = large.abs()
        return torch.where(is_small, series, 1 - square_of_ratio(size))

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return A′(η) − x."""
        return (self.mean - value.clamp(0, 1),)

    def sample(self, noise: Tensor) -> Tensor:
        """Return the inverse distribution function of u = Φ(ε): ln(1 + u (e^η − 1))/η."""
        large, small, is_small = self._split()
        share = uniform(noise)
        # For η > 0 by the symmetry x → 1 − x, so that nothing overflows.
        size = -large.abs()
        mirrored = torch.where(large > 0, 1 - share, share)
        drawn = torch.log1p(mirrored * torch.expm1(size)) / size
        series = share + small * share * (1 - share) / 2
        return torch.where(is_small, series, torch.where(large > 0, 1 - drawn, drawn)).clamp(0, 1)


def square_of_ratio(size: Tensor) -> Tensor:
    """Return (s/2)²/sinh²(s/2) for s > 0 as s² e^(−s)/(1 − e^(−s))², which does not overflow."""
    return size.square() * torch.exp(-size) / torch.expm1(-size).square()
