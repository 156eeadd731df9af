"""Posteriors and priors over latents beyond the diagonal Gaussian."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "FullGaussian",
    "FullGaussianPrior",
    "GaussianMixture",
    "LaplacePrior",
    "VampPrior",
    "second_moments",
    "variance_along",
]

LOG_2PI: Final = math.log(2 * math.pi)


class FullGaussian(NamedTuple):
    """The posterior N(ν(x), L Lᵀ) with a lower triangular L(x).

    Its entropy is split over the latents by the chain rule, H(z_h | z_1 … z_h−1) = ½ ln 2πe + ln L_hh, so that the
    parts sum to the whole; the entropies of the margins, `marginal_variance`, sum to more.

    Args:
        mean: ν, shape (*B, H).
        scale_tril: L, shape (*B, H, H), lower triangular with a positive diagonal.
    """

    mean: Tensor
    scale_tril: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return ν + L ε, shape (*K, *B, H), for ε ~ N(0, I) of that shape."""
        return self.mean + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return ½ ln 2πe + ln L_hh in nats, shape (*B, H)."""
        return 0.5 * (LOG_2PI + 1) + self._diagonal().log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln q(z|x) in nats, shape (*K, *B), for z of shape (*K, *B, H)."""
        difference = (value - self.mean).unsqueeze(-1)
        whitened = torch.linalg.solve_triangular(self.scale_tril, difference, upper=False).squeeze(-1)
        return -0.5 * (LOG_2PI + whitened.square()).sum(-1) - self._diagonal().log().sum(-1)

    def variance_along(self, directions: Tensor) -> Tensor:
        """Return Var of A z for each row of A, shape (*B, rows).

        Args:
            directions: A, shape (rows, H).
        """
        return (directions @ self.scale_tril).square().sum(-1)

    @property
    def marginal_variance(self) -> Tensor:
        """The variance of each latent by itself, Σ_j L²_hj, shape (*B, H)."""
        return self.scale_tril.square().sum(-1)

    def _diagonal(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1)


def variance_along(encoder: Any, directions: Tensor) -> Tensor:
    """Return the variance of A z under q(z|x) for each row of A, shape (*B, rows).

    Args:
        encoder: a `DiagonalGaussian` or anything with a method of that name.
        directions: A, shape (rows, H).
    """
    own = getattr(encoder, "variance_along", None)
    if own is not None:
        found: Tensor = own(directions)
        return found
    variance: Tensor = encoder.log_var.exp().expand_as(encoder.mean) @ directions.square().mT
    return variance


def second_moments(encoder: Any) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each latent under q(z|x), both of shape (*B, H).

    Args:
        encoder: a `DiagonalGaussian` or anything with `mean` and `marginal_variance`.
    """
    variance = getattr(encoder, "marginal_variance", None)
    if variance is None:
        variance = encoder.log_var.exp().expand_as(encoder.mean)
    return encoder.mean, variance


class LaplacePrior(NamedTuple):
    """The prior Π_h e^(−|z_h|/β_h)/2β_h.

    R_h = 1 − E|z_h|/β_h, which is −∂ELBO/∂ln β_h. E_q|z| of a Gaussian is known, so nothing is sampled.

    Args:
        log_scale: ln β, shape (H,).
    """

    log_scale: Tensor

    def entropy(self) -> Tensor:
        """Return 1 + ln 2β_h in nats, shape (H,)."""
        return 1 + math.log(2) + self.log_scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(z), shape (*K, *B), for z of shape (*K, *B, H)."""
        return -(math.log(2) + self.log_scale + value.abs() * (-self.log_scale).exp()).sum(-1)

    def cross_entropy(self, encoder: Any, samples: Tensor) -> Tensor:  # noqa: ARG002 - a closed form needs none
        """Return −E_q ln p(z_h) = ln 2β_h + E_q|z_h|/β_h, shape (*B, H).

        E_q|z| = τ √(2/π) e^(−ν²/2τ²) + ν erf(ν/√2τ).

        Args:
            encoder: q(z|x), Gaussian along each latent.
            samples: not used.
        """
        mean, variance = second_moments(encoder)
        ratio = mean * (0.5 / variance).sqrt()
        size = (2 * variance / math.pi).sqrt() * (-ratio.square()).exp() + mean * torch.erf(ratio)
        return math.log(2) + self.log_scale + size * (-self.log_scale).exp()

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws of the shape of the noise, ε ~ N(0, I)."""
        tail = -torch.special.log_ndtr(-noise.abs()) - math.log(2)
        return self.log_scale.exp() * noise.sign() * tail


class FullGaussianPrior(NamedTuple):
    """The prior N(m, C), C = L Lᵀ.

    R_h = ½ (1 − mean E_q u_h²) with u = L⁻¹(z − m): the diagonal of ½ (I − L⁻¹ M L⁻ᵀ), M = mean E_q (z − m)(z − m)ᵀ.

    Args:
        mean: m, shape (H,).
        scale_tril: L, shape (H, H), lower triangular with a positive diagonal.
    """

    mean: Tensor
    scale_tril: Tensor

    def entropy(self) -> Tensor:
        """Return ½ ln 2πe + ln L_hh in nats, shape (H,): by the chain rule, so that the parts sum to the whole."""
        return 0.5 * (LOG_2PI + 1) + self.scale_tril.diagonal(dim1=-2, dim2=-1).log()

    def _inverse(self) -> Tensor:
        identity = torch.eye(self.mean.shape[-1], dtype=self.mean.dtype, device=self.mean.device)
        return torch.linalg.solve_triangular(self.scale_tril, identity, upper=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(z), shape (*K, *B), for z of shape (*K, *B, H)."""
        whitened = (value - self.mean) @ self._inverse().mT
        return -(0.5 * (LOG_2PI + whitened.square()) + self.scale_tril.diagonal(dim1=-2, dim2=-1).log()).sum(-1)

    def cross_entropy(self, encoder: Any, samples: Tensor) -> Tensor:  # noqa: ARG002 - a closed form needs none
        """Return ½ ln 2π + ln L_hh + ½ E_q u_h², shape (*B, H).

        Args:
            encoder: q(z|x), with mean and covariance.
            samples: not used.
        """
        inverse = self._inverse()
        square = ((encoder.mean - self.mean) @ inverse.mT).square() + variance_along(encoder, inverse)
        return 0.5 * (LOG_2PI + square) + self.scale_tril.diagonal(dim1=-2, dim2=-1).log()

    def sample(self, noise: Tensor) -> Tensor:
        """Return m + L ε, of the shape of the noise, ε ~ N(0, I)."""
        return self.mean + noise @ self.scale_tril.mT


class GaussianMixture(NamedTuple):
    """The prior Σ_k π_k N(m_k, diag c_k) of M components, judged in its augmented form.

    With the component k as a further latent and r(k|z) its exact posterior, every entropy but one has a closed form,

        ELBO = −H_dec + H_enc + E_q H[r(k|z)] − H[π] − Σ_k π_k H[N_k],

    at stationary points where π, m_k and c_k are learned (or π and one c for all). The last three terms together are
    minus the prior entropy here. Quantities are of all latents together.

    Args:
        log_weights: ln π, shape (M,); need not be normalised.
        means: m_k, shape (M, H).
        log_vars: ln c_k, shape (M, H).
    """

    log_weights: Tensor
    means: Tensor
    log_vars: Tensor

    def _log_joint(self, value: Tensor) -> Tensor:
        """Return ln π_k + ln N(z; m_k, c_k), shape (*K, *B, M)."""
        square = (value.unsqueeze(-2) - self.means).square() * (-self.log_vars).exp()
        density = -0.5 * (LOG_2PI + self.log_vars + square).sum(-1)
        return self.log_weights.log_softmax(-1) + density

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(z), shape (*K, *B), for z of shape (*K, *B, H)."""
        return self._log_joint(value).logsumexp(-1)

    def entropy(self) -> Tensor:
        """Return H[π] + Σ_k π_k H[N_k] in nats, shape (1,): that of z and k together."""
        log = self.log_weights.log_softmax(-1)
        of_components = 0.5 * (LOG_2PI + 1 + self.log_vars).sum(-1)
        return (log.exp() * (of_components - log)).sum(-1, keepdim=True)

    def component_entropy(self, samples: Tensor) -> Tensor:
        """Return E_q H[r(k|z)] of each point, shape (*B, 1): at least 0, at most ln M.

        Args:
            samples: of q(z|x), shape (*K, *B, H).
        """
        log = self._log_joint(samples).log_softmax(-1)
        return _over_samples(-(log.exp() * log).sum(-1, keepdim=True))

    def cross_entropy(self, encoder: Any, samples: Tensor) -> Tensor:  # noqa: ARG002 - it is estimated from samples
        """Return −E_q ln p(z), shape (*B, 1), from samples.

        Args:
            encoder: not used.
            samples: of q(z|x), shape (*K, *B, H).
        """
        return _over_samples(-self.log_prob(samples).unsqueeze(-1))

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws of shape (*K, *B, H), a function of noise ~ N(0, I) of that shape.

        The component is chosen by the noise of the first latent, which is then stretched back to N(0, 1).
        """
        return sample_mixture(self.log_weights, self.means, self.log_vars, noise)


class VampPrior(NamedTuple):
    """The prior (1/M) Σ_k q(z|u_k) of M pseudo-inputs u_k (Tomczak and Welling 2018).

    Its components' variances are the encoder's, so the temperature of the prior is not a direction of training: the
    theorem does not hold. It offers no entropy; its residual comes from samples and is a calibration, no certificate.

    Args:
        means: of q(z|u_k), shape (M, H).
        log_vars: of q(z|u_k), shape (M, H).
    """

    means: Tensor
    log_vars: Tensor

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(z), shape (*K, *B), for z of shape (*K, *B, H)."""
        return GaussianMixture(torch.zeros_like(self.means[..., 0]), self.means, self.log_vars).log_prob(value)

    def cross_entropy(self, encoder: Any, samples: Tensor) -> Tensor:  # noqa: ARG002 - it is estimated from samples
        """Return −E_q ln p(z), shape (*B, 1), from samples.

        Args:
            encoder: not used.
            samples: of q(z|x), shape (*K, *B, H).
        """
        return _over_samples(-self.log_prob(samples).unsqueeze(-1))

    def sample(self, noise: Tensor) -> Tensor:
        """Return draws of shape (*K, *B, H), a function of noise ~ N(0, I) of that shape."""
        return sample_mixture(torch.zeros_like(self.means[..., 0]), self.means, self.log_vars, noise)


def sample_mixture(log_weights: Tensor, means: Tensor, log_vars: Tensor, noise: Tensor) -> Tensor:
    """Return draws from a mixture of diagonal Gaussians, shape (*K, *B, H).

    u = Φ(ε_1) falls into the interval of one component; its place there is uniform again, and Φ⁻¹ of it is the noise
    that the component's first latent takes.

    Args:
        log_weights: shape (M,).
        means: shape (M, H).
        log_vars: shape (M, H).
        noise: ε ~ N(0, I), shape (*K, *B, H).
    """
    weights = log_weights.double().softmax(-1)
    upper = weights.cumsum(-1)
    share = torch.special.ndtr(noise[..., 0].double())
    chosen = (share.unsqueeze(-1) > upper[..., :-1]).sum(-1)
    inside = ((share - (upper - weights)[chosen]) / weights[chosen]).clamp(1e-12, 1 - 1e-12)
    first = torch.special.ndtri(inside).to(noise.dtype).unsqueeze(-1)
    stretched = torch.cat((first, noise[..., 1:]), -1)
    return means[chosen] + (0.5 * log_vars[chosen]).exp() * stretched


def _over_samples(values: Tensor) -> Tensor:
    """Average (*K, B, ·) over the sample axes."""
    axes = tuple(range(values.ndim - 2))
    return values.mean(axes) if axes else values
