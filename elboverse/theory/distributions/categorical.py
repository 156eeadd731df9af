"""Categories: groups of dimensions of which exactly one is 1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from elboverse.theory.distributions.base import DecoderDistribution
from elboverse.theory.distributions.draws import gumbel

__all__ = ["Categorical"]


class _Fields(NamedTuple):
    logits: Tensor


class Categorical(_Fields, DecoderDistribution):
    """p(x|z) = Π_g Π_k π_gk^x_gk with π_g = softmax(η_g) over G groups of C categories, D = G·C dimensions, h = 1.

    r_g = Σ_k η_gk (x_gk − π_gk) is the derivative along the scale of the logits. Terms are per group.

    Args:
        logits: η, shape (*K, *B, G, C).
    """

    __slots__ = ()

    @property
    def mean(self) -> Tensor:
        """π, shape (*K, *B, D)."""
        return self.logits.softmax(-1).flatten(-2)

    def _grouped(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, self.logits.shape[-2:])

    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return Σ_k x_gk ln π_gk, shape (*K, *B, G)."""
        return (self._grouped(value) * self.logits.log_softmax(-1)).sum(-1)

    def entropy_terms(self) -> Tensor:
        """Return −Σ_k π_gk ln π_gk, shape (*K, *B, G)."""
        log = self.logits.log_softmax(-1)
        return -(log.exp() * log).sum(-1)

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return 0, shape (*B, G)."""
        return torch.zeros_like(self._grouped(value)[..., 0])

    def residual_terms(self, value: Tensor) -> Tensor:
        """Return Σ_k ln π_gk (x_gk − π_gk), shape (*K, *B, G)."""
        log = self.logits.log_softmax(-1)
        return (log * (self._grouped(value) - log.exp())).sum(-1)

    def varentropy_terms(self) -> Tensor:
        """Return Var_π ln π, shape (*K, *B, G)."""
        log = self.logits.log_softmax(-1)
        centred = log + self.entropy_terms().unsqueeze(-1)
        return (log.exp() * centred.square()).sum(-1)

    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return π − x, shape (*K, *B, G, C)."""
        return (self.logits.softmax(-1) - self._grouped(value),)

    def sample(self, noise: Tensor) -> Tensor:
        """Return one-hot draws: the argmax of logits plus Gumbel noise."""
        chosen = (self.logits + gumbel(noise).unflatten(-1, self.logits.shape[-2:])).argmax(-1)
        return functional.one_hot(chosen, self.logits.shape[-1]).to(self.logits.dtype).flatten(-2)
