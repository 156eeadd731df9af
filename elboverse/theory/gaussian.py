"""Diagonal Gaussians: the only distribution that a Gaussian VAE is made of. Tensors in, tensors out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from elboverse.theory.identities import LOG_2PI, gaussian_entropy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DiagonalGaussian"]


class DiagonalGaussian(NamedTuple):
    """The distribution N(mean, diag exp(log_var)) over the last axis.

    A pair of tensors, and so a tuple that `torch.func` and `torch.compile` see through, with the textbook formulas as
    methods; models return it from `encode`, `decode` and `prior`. It draws no random numbers: the noise is passed in,
    so that a training step is a pure function.

    Args:
        mean: μ, shape (*B, D).
        log_var: ln σ², any shape that broadcasts to that of `mean`: (*B, D), (D,) or ().

    Example:
        >>> import torch
        >>> standard = DiagonalGaussian(torch.zeros(2), torch.zeros(2))
        >>> standard.log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    mean: Tensor
    log_var: Tensor

    @property
    def variance(self) -> Tensor:
        """σ², of the shape of `log_var`."""
        return self.log_var.exp()

    def sample(self, noise: Tensor) -> Tensor:
        """Return the reparameterised samples μ + σ ε, shape (*K, *B, D) (Kingma and Welling 2014, §2.4).

        Args:
            noise: ε ~ N(0, I), shape (*K, *B, D); the sample axes K come first.

        Example:
            >>> import torch
            >>> DiagonalGaussian(torch.ones(2), torch.zeros(2)).sample(torch.tensor([0.0, 2.0]))
            tensor([1., 3.])
        """
        return self.mean + (0.5 * self.log_var).exp() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln N(value; μ, diag σ²) in nats, summed over the last axis.

        −½ Σ_d [ln 2π + ln σ²_d + (v_d − μ_d)²/σ²_d].

        Args:
            value: v, shape (*K, *B, D).
        """
        standardised_square = (value - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (LOG_2PI + self.log_var + standardised_square).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy ½ ln(2πe σ²_d) in nats per dimension, of the shape of `log_var`.

        Example:
            >>> import torch
            >>> DiagonalGaussian(torch.zeros(2), torch.zeros(2)).entropy()
            tensor([1.4189, 1.4189])
        """
        return gaussian_entropy(self.log_var)

    def kl(self, other: DiagonalGaussian) -> Tensor:
        """Return KL(self ‖ other) in nats per dimension, shape (*B, D).

        ½[((μ − μ')² + σ²)/σ'² − 1 − ln(σ²/σ'²)] per dimension (Kingma and Welling 2014, appendix B, for μ' = 0).

        Args:
            other: the distribution with mean μ' and log-variance ln σ'², broadcast against this one.

        Example:
            >>> import torch
            >>> standard = DiagonalGaussian(torch.zeros(2), torch.zeros(2))
            >>> DiagonalGaussian(torch.tensor([0.0, 2.0]), torch.zeros(2)).kl(standard)
            tensor([0., 2.])
        """
        log_ratio = self.log_var - other.log_var
        squared_distance = (self.mean - other.mean).square() * (-other.log_var).exp()
        return 0.5 * (squared_distance + log_ratio.exp() - 1.0 - log_ratio)
