"""Binary data: the Bernoulli distribution."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from elboverse.theory.distributions.base import DecoderDistribution, DecoderTerms
from elboverse.theory.distributions.draws import uniform

__all__ = ["Bernoulli"]


class _Fields(NamedTuple):
    logits: Tensor


class Bernoulli(_Fields, DecoderDistribution):
    """p(x_d|z) = σ(η_d)^x_d (1 − σ(η_d))^(1−x_d) for x_d in {0, 1}, with logits η and h = 1.

    r_d = η_d (x_d − σ(η_d)) is the derivative along the scale of the logits: zero on average where the weight and the
    bias of a linear last layer are both free.

    Args:
        logits: η, shape (*K, *B, D).

    Example:
        >>> Bernoulli(torch.zeros(3)).entropy()  # 3 ln 2
        tensor(2.0794)
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """σ(η), shape (*K, *B, D)."""
        return torch.sigmoid(self.logits)

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return x η − ln(1 + e^η)."""
        return value * self.logits + functional.logsigmoid(-self.logits)

    def entropy_terms(self) -> Tensor:
        """Return ln(1 + e^η) − η σ(η) as softplus(−|η|) + |η| σ(−|η|), which is stable at large logits."""
        size = self.logits.abs()
        return size * torch.sigmoid(-size) - functional.logsigmoid(size)

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return η (x − σ(η))."""
        return self.logits * (value - self.mean)

    def varentropy_terms(self) -> Tensor:
        """Return η² σ(η) σ(−η)."""
        return self.logits.square() * torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return σ(η) − x."""
        return (self.mean - value,)

    def terms(self, value: Tensor) -> DecoderTerms:
        """Return sums and scores; the entropy is R − ln p, and R a dot product of logits and score."""
        score = torch.sigmoid(self.logits).sub_(value)
        log_prob = (value * self.logits).sum() + functional.logsigmoid(-self.logits).sum()
        entropy = -(self.logits * score).sum() - log_prob
        return DecoderTerms(log_prob, torch.zeros_like(log_prob), entropy, (score,))

    def sample(self, noise: Tensor) -> Tensor:
        """Return 1 where Φ(ε) < σ(η), else 0."""
        return (uniform(noise) < self.mean).to(self.logits.dtype)
