"""What the decoder distributions have in common: sums over dimensions of terms that each family writes down."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["DecoderDistribution", "DecoderTerms"]


class DecoderTerms(NamedTuple):
    """What a training step needs of a decoder and the points, summed over points, samples and dimensions.

    Args:
        log_prob: Σ ln p(x|z), shape ().
        log_reference: Σ ln h(x), shape ().
        entropy: Σ H̃(z), shape ().
        score: ∂(−Σ ln p)/∂field for every field of the distribution, each of the field's own shape; None for a field
            that is not a parameter.
    """

    log_prob: Tensor
    log_reference: Tensor
    entropy: Tensor
    score: tuple[Tensor | None, ...]


class DecoderDistribution(abc.ABC):
    """A distribution p(x|z) over the last axis, as one term per dimension. Abstract.

        ln p(x|z) = ln h(x) − H̃(z) + r(x, z),    E_p r = 0

    with the reference measure h and the entropy relative to it, H̃ = −E_p ln(p/h). A family is a NamedTuple of tensors
    with this class as its second base, so that `torch.func` sees through it:

        class Fields(NamedTuple):
            log_rate: Tensor

        class Exponential(Fields, DecoderDistribution): ...

    Shapes: fields (*K, *B, D) or what broadcasts to it; values (*B, D); terms (*K, *B, D). Terms need not be per
    dimension: a family may return one per group of dimensions. Source: derived in docs/families.md from
    d ln Z(c)/dc = E_p ln(p/h) for p_c = p^c h^(1−c)/Z(c).

    Attributes:
        exact: whether r is the derivative of ln p along a direction that training follows, so that the ELBO equals the
            entropy sum at stationary points. If not, its average measures calibration only.
    """

    __slots__ = ()

    exact: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """E[x|z], shape (*K, *B, D)."""

    @abc.abstractmethod
    def log_prob_terms(self, value: Tensor) -> Tensor:
        """Return ln p(x_d|z) in nats."""

    @abc.abstractmethod
    def entropy_terms(self) -> Tensor:
        """Return H̃_d(z) in nats, or what broadcasts to the terms' shape."""

    @abc.abstractmethod
    def residual_terms(self, value: Tensor) -> Tensor:
        """Return r_d = ln p(x_d|z) − ln h(x_d) + H̃_d(z) in nats, in a form without cancellation."""

    @abc.abstractmethod
    def varentropy_terms(self) -> Tensor:
        """Return V_d = Var_p r_d: −∂²/∂c² of the log-likelihood along the temperature, the scale of r_d."""

    @abc.abstractmethod
    def score(self, value: Tensor) -> tuple[Tensor | None, ...]:
        """Return ∂(−ln p)/∂field for every field, each of shape (*K, *B, D) or None."""

    @abc.abstractmethod
    def sample(self, noise: Tensor) -> Tensor:
        """Return a draw, a function of noise ~ N(0, I) of shape (*K, *B, D) alone."""

    def log_reference_terms(self, value: Tensor) -> Tensor:
        """Return ln h(x_d) in nats; 0 unless a family says otherwise."""
        return torch.zeros_like(value)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(x|z) in nats, shape (*K, *B).

        Args:
            value: x, shape (*B, D).
        """
        return self.log_prob_terms(value).sum(-1)

    def entropy(self) -> Tensor:
        """Return H̃(z), relative to the reference measure, in nats, shape (*K, *B)."""
        return self._summed(self.entropy_terms())

    def log_reference(self, value: Tensor) -> Tensor:
        """Return ln h(x) in nats, shape (*B)."""
        return self.log_reference_terms(value).sum(-1)

    def varentropy(self) -> Tensor:
        """Return V in nats squared, shape (*K, *B)."""
        return self._summed(self.varentropy_terms())

    def terms(self, value: Tensor) -> DecoderTerms:
        """Return sums and scores for a training step; a family may override it to compute common parts once."""
        mean = self.mean
        samples = mean.numel() // max(1, value.expand(*value.shape[:-1], mean.shape[-1]).numel())
        fields: tuple[Any, ...] = tuple(self)  # type: ignore[arg-type]
        score = tuple(
            None if part is None else part.expand_as(mean).sum_to_size(field.shape) if part.ndim <= mean.ndim else part
            for part, field in zip(self.score(value), fields, strict=True)
        )
        reference = self.log_reference_terms(value)
        repeated = samples if reference.ndim <= value.ndim else 1
        return DecoderTerms(self.log_prob_terms(value).sum(), reference.sum() * repeated, self.entropy().sum(), score)

    def _summed(self, terms: Tensor) -> Tensor:
        mean = self.mean
        return terms.expand_as(mean).sum(-1) if terms.ndim < mean.ndim or terms.shape[-1] == 1 else terms.sum(-1)
