"""Whatever an encoder returns, seen as q(z|x), and priors, seen as p(z), and the terms of the two."""

from __future__ import annotations

import math
from typing import Any, Final

import attrs
import torch
from torch import Tensor
from torch import distributions as torch_distributions

from elboverse.errors import DataError
from elboverse.integrations.decoders import float32_at_least
from elboverse.theory import distributions as ours
from elboverse.theory import families
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = ["LatentTerms", "Posterior", "encoded", "latent_terms", "prior_log_prob", "prior_sample", "seen_prior"]

_LOG_2PI: Final = math.log(2 * math.pi)


@attrs.frozen(eq=False)
class Posterior:
    """q(z|x) of points (B, …).

    Args:
        of: a `DiagonalGaussian`, a `FullGaussian`, or a torch distribution of another kind.
        mean: E z, shape (B, H), or (B, C, …) for latents with positions.
    """

    of: Any
    mean: Tensor

    @property
    def is_diagonal(self) -> bool:
        """Whether it is a diagonal Gaussian."""
        return isinstance(self.of, DiagonalGaussian)

    @property
    def latent_dim(self) -> int:
        """H, or the number of channels."""
        return self.mean.shape[1]

    def sample(self, samples: int = 1) -> Tensor:
        """Return draws with torch's own generator, shape (samples, B, …)."""
        if isinstance(self.of, DiagonalGaussian | ours.FullGaussian):
            noise = torch.randn(samples, *self.mean.shape, dtype=self.mean.dtype, device=self.mean.device)
            return self.of.sample(noise)
        drawn: Tensor = self.of.rsample((samples,)) if self.of.has_rsample else self.of.sample((samples,))
        return drawn

    def log_prob(self, z: Tensor) -> Tensor:
        """Return ln q(z|x) in nats, shape (K, B), for z of shape (K, B, …)."""
        if isinstance(self.of, DiagonalGaussian):
            square = (z - self.of.mean).square() * (-self.of.log_var).exp()
            return -0.5 * (_LOG_2PI + self.of.log_var + square).flatten(2).sum(-1)
        found: Tensor = self.of.log_prob(z)
        return found.flatten(2).sum(-1) if found.ndim > 2 else found

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each latent, both of the shape of `mean`."""
        if isinstance(self.of, DiagonalGaussian):
            return self.mean, self.of.log_var.exp().expand_as(self.mean)
        if isinstance(self.of, ours.FullGaussian):
            return self.mean, self.of.marginal_variance
        return self.mean, self.of.variance

    def entropy(self) -> Tensor:
        """Return the entropy per latent, shape (B, H), summed over the positions of a channel.

        Raises:
            DataError: its distribution has no entropy.
        """
        if isinstance(self.of, DiagonalGaussian):
            return _by_channel(0.5 * (1 + _LOG_2PI + self.of.log_var.expand_as(self.mean)))
        try:
            found: Tensor = self.of.entropy()
        except NotImplementedError:
            raise DataError(
                f"q: got {type(self.of).__name__}, whose entropy torch does not know; expected a distribution with "
                "one, such as Normal or MultivariateNormal"
            ) from None
        if found.ndim < 2:  # a joint entropy: spread evenly over the latents, so that they sum to it
            return (found / self.latent_dim).unsqueeze(-1).expand(-1, self.latent_dim)
        return _by_channel(found)


def encoded(q: Any, points: int | None = None, argument: str = "q") -> Posterior:
    """Return what a user's encoder gave, seen as q(z|x).

    Args:
        q: a torch distribution, a `DiagonalGaussian`, a `FullGaussian` or a pair (mean, log_var).
        points: B, if it is known.
        argument: how messages call it.

    Raises:
        DataError: it is none of these, or is of another number of points. The message says what to pass.
    """
    posterior = _encoded(q, argument)
    shape = tuple(posterior.mean.shape)
    if len(shape) < 2 or (points is not None and shape[0] != points):
        raise DataError(
            f"{argument}: got a distribution of the shape {shape}{'' if points is None else f' for {points} points'}; "
            "expected (points, latents): encode the same points that are passed as x"
        )
    return posterior


def _encoded(q: Any, argument: str) -> Posterior:
    base = q
    while isinstance(base, torch_distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch_distributions.Normal):
        mean = float32_at_least(base.loc)
        return Posterior(DiagonalGaussian(mean, 2 * float32_at_least(base.scale).log()), mean)
    if isinstance(base, torch_distributions.MultivariateNormal):
        mean = float32_at_least(base.loc)
        return Posterior(ours.FullGaussian(mean, float32_at_least(base.scale_tril)), mean)
    if isinstance(q, ours.FullGaussian):
        return Posterior(q, q.mean)
    if isinstance(q, tuple) and len(q) == 2 and all(isinstance(part, Tensor) for part in q):
        mean, log_var = (float32_at_least(part) for part in q)
        if mean.ndim == log_var.ndim and mean.shape != log_var.shape:
            raise DataError(
                f"{argument}: got a mean of the shape {tuple(mean.shape)} and a log-variance of "
                f"{tuple(log_var.shape)}; expected the same shape: pass (mean, log_var) of the same latents"
            )
        return Posterior(DiagonalGaussian(mean, log_var), mean)
    if isinstance(q, torch_distributions.Distribution):
        return Posterior(q, float32_at_least(q.mean))
    given = "a tensor, which is a mean without a variance" if isinstance(q, Tensor) else f"a {type(q).__name__}"
    raise DataError(
        f"{argument}: got {given}; expected the distribution of z: pass torch.distributions.Normal(mean, std) or a "
        "pair (mean, log_var)"
    )


def seen_prior(prior: Any, like: Posterior) -> Any:
    """Return a user's prior as one of ours where there is one of the same kind; the standard normal for None.

    Args:
        prior: None, a pair (mean, log_var), a prior of ours, or a torch distribution.
        like: the posterior, for its shape and device.

    Raises:
        DataError: it is none of these, or has another number of latents.
    """
    if prior is None:
        return None
    base = prior
    while isinstance(base, torch_distributions.Independent):
        base = base.base_dist
    if isinstance(base, torch_distributions.Normal):
        prior = DiagonalGaussian(base.loc, 2 * base.scale.log())
    elif isinstance(base, torch_distributions.Laplace) and bool((base.loc == 0).all()):
        return ours.LaplacePrior(base.scale.expand(like.latent_dim).log())
    elif isinstance(base, torch_distributions.MultivariateNormal):
        return ours.FullGaussianPrior(base.loc, base.scale_tril)
    if isinstance(prior, tuple) and len(prior) == 2 and type(prior) in (tuple, DiagonalGaussian):
        mean, log_var = (torch.as_tensor(part, device=like.mean.device) for part in prior)
        mean, log_var = torch.broadcast_tensors(mean, log_var)
        if mean.shape[-1:] not in ((), (1,), tuple(like.mean.shape[-1:])):
            raise DataError(
                f"prior: got {mean.shape[-1]} latents; expected {like.mean.shape[-1]}, as q has: pass a prior of z"
            )
        return DiagonalGaussian(mean, log_var)
    if not hasattr(base, "log_prob"):
        raise DataError(
            f"prior: got a {type(prior).__name__}; expected the distribution of z: pass a torch distribution, a pair "
            "(mean, log_var), or None for a standard normal"
        )
    return prior


@attrs.frozen(eq=False)
class LatentTerms:
    """The terms of the latents of each point, in nats.

    Args:
        kl: KL_h, shape (B, H); of a prior that does not factorise its whole, spread evenly.
        encoder_entropy: H_enc,h, shape (B, H).
        prior_entropy: H_prior,h, shape (H,); not a number where it is not known.
        prior_log_var: ln α²_h, shape (H,); not a number where the prior is not a diagonal Gaussian.
    """

    kl: Tensor
    encoder_entropy: Tensor
    prior_entropy: Tensor
    prior_log_var: Tensor


def latent_terms(q: Posterior, prior: Any, z: Tensor | None = None, entropy: Tensor | None = None) -> LatentTerms:
    """Return the terms of the latents, in closed form where there is one.

    Args:
        q: the posterior.
        prior: of `seen_prior`.
        z: samples of q, shape (K, B, …); needed where KL(q ‖ prior) has no closed form.
        entropy: of the prior, where it is known otherwise, shape ().

    Raises:
        DataError: samples are needed.
    """
    mean, variance = q.moments()
    encoder_entropy = q.entropy()
    positions = q.mean[0, 0].numel()
    like = encoder_entropy.new_zeros(q.latent_dim)
    if prior is None or isinstance(prior, DiagonalGaussian):
        if prior is None:
            cross = 0.5 * (_LOG_2PI + mean.square() + variance)
            log_var = like
        else:
            log_var = prior.log_var
            cross = 0.5 * (_LOG_2PI + log_var + ((mean - prior.mean).square() + variance) * (-log_var).exp())
            log_var = like + log_var if log_var.ndim <= 1 else log_var.flatten(-(mean.ndim - 1)).mean() + like
        prior_entropy = positions * 0.5 * (1 + _LOG_2PI + log_var)
        return LatentTerms(_by_channel(cross) - encoder_entropy, encoder_entropy, prior_entropy, log_var)
    unknown = torch.full_like(like, math.nan)
    if hasattr(prior, "cross_entropy"):
        if z is None and not isinstance(prior, ours.LaplacePrior | ours.FullGaussianPrior):
            raise _needs_samples(prior)
        cross = prior.cross_entropy(_ours(q, mean, variance), z)
        found = entropy
        if hasattr(prior, "entropy"):  # of a mixture less the entropy of its components given z, its augmented form
            found = prior.entropy() if z is None else families.prior_entropy(prior, z)
            found = found.mean(0) if found.ndim > 1 else found
    else:
        if z is None:
            raise _needs_samples(prior)
        cross = -prior_log_prob(prior, z).mean(0).unsqueeze(-1)
        found = _own_entropy(prior) if entropy is None else entropy
    cross = cross.expand(-1, q.latent_dim) / q.latent_dim if cross.shape[-1] == 1 < q.latent_dim else cross
    found = unknown if found is None else found
    found = found.expand(q.latent_dim) / q.latent_dim if found.numel() == 1 < q.latent_dim else found
    return LatentTerms(cross - encoder_entropy, encoder_entropy, found + like, unknown)


def prior_log_prob(prior: Any, z: Tensor) -> Tensor:
    """Return ln p(z) in nats, shape (K, B), for z of shape (K, B, …)."""
    if prior is None:
        return -0.5 * (_LOG_2PI + z.square()).flatten(2).sum(-1)
    if isinstance(prior, DiagonalGaussian):
        square = (z - prior.mean).square() * (-prior.log_var).exp()
        return -0.5 * (_LOG_2PI + prior.log_var + square).flatten(2).sum(-1)
    found: Tensor = prior.log_prob(z)
    return found.flatten(2).sum(-1) if found.ndim > 2 else found


def prior_sample(prior: Any, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return latents of the prior with torch's own generator, of a shape (N, …)."""
    noise = torch.randn(shape, dtype=like.dtype, device=like.device)
    if prior is None:
        return noise
    if isinstance(prior, torch_distributions.Distribution):
        count = shape[:1] if (*prior.batch_shape, *prior.event_shape) == shape[1:] else shape
        drawn: Tensor = prior.sample(count)
        return drawn.to(like)
    found: Tensor = prior.sample(noise)
    return found


def _ours(q: Posterior, mean: Tensor, variance: Tensor) -> Any:
    return q.of if isinstance(q.of, DiagonalGaussian | ours.FullGaussian) else DiagonalGaussian(mean, variance.log())


def _own_entropy(prior: Any) -> Tensor | None:
    try:
        found: Tensor = prior.entropy().sum()
    except (NotImplementedError, AttributeError):
        return None
    return found


def _needs_samples(prior: Any) -> DataError:
    return DataError(
        f"z: got None, but KL(q ‖ p) has no closed form for the prior {type(prior).__name__}; expected the samples "
        "of q that were decoded: pass z=z"
    )


def _by_channel(terms: Tensor) -> Tensor:
    return terms.flatten(2).sum(-1) if terms.ndim > 2 else terms
