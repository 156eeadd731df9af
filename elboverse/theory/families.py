"""The terms of any VAE: six averages that determine ELBO, entropy sum and residuals, whatever the distributions.

    kl               = cross_entropy − encoder_entropy                                  (H,)
    elbo             = log_likelihood − kl.sum()
    entropy_sum      = log_reference − decoder_entropy + (encoder_entropy − prior_entropy).sum()
    decoder_residual = log_likelihood − log_reference + decoder_entropy
    prior_residual   = prior_entropy − cross_entropy                                    (H,)
    elbo − entropy_sum = decoder_residual + prior_residual.sum()                        always

A model of three `DiagonalGaussian`s is the special, fast case; see `elbo`. Quantities of all latents together, as those
of a mixture prior, are shared out evenly over the latents, so that sums over them are right.
"""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from elboverse.theory import identities
from elboverse.theory.distributions import DecoderDistribution, GaussianDecoder
from elboverse.theory.distributions.latent import second_moments
from elboverse.theory.gaussian import DiagonalGaussian

__all__ = [
    "Family",
    "FamilyTerms",
    "Latents",
    "conditions_of",
    "decode",
    "decoded",
    "described",
    "encode",
    "family_terms",
    "latent_dim",
    "latents",
    "noise_width",
    "observed",
]


@attrs.frozen(eq=False)
class FamilyTerms:
    """The six averages of a batch, or of each point by itself with its axes *B in front, in nats per data point.

    Args:
        log_likelihood: mean_n E_q ln p(x|z), shape ().
        log_reference: mean_n E_q ln h(x), shape ().
        decoder_entropy: H̃_dec relative to h, shape (); not a number where the decoder has none.
        cross_entropy: −mean_n E_q ln p(z_h), shape (H,).
        encoder_entropy: shape (H,).
        prior_entropy: shape (H,); not a number where the prior has none.
    """

    log_likelihood: Tensor
    log_reference: Tensor
    decoder_entropy: Tensor
    cross_entropy: Tensor
    encoder_entropy: Tensor
    prior_entropy: Tensor

    @property
    def kl(self) -> Tensor:
        """KL_h, shape (H,)."""
        return self.cross_entropy - self.encoder_entropy

    @property
    def elbo(self) -> Tensor:
        """The ELBO, shape ()."""
        return identities.elbo(self.log_likelihood, self.kl)

    @property
    def entropy_sum(self) -> Tensor:
        """H_sum, shape ()."""
        return self.log_reference + identities.entropy_sum(
            self.decoder_entropy, self.encoder_entropy, self.prior_entropy
        )

    @property
    def decoder_residual(self) -> Tensor:
        """R_dec, shape ()."""
        return self.log_likelihood - self.log_reference + self.decoder_entropy

    @property
    def prior_residual(self) -> Tensor:
        """R_h, shape (H,)."""
        return self.prior_entropy - self.cross_entropy


@attrs.frozen
class Family:
    """What kind of VAE a model is, for the engine and for what is said about it.

    Args:
        gaussian: q, p(x|z) and p(z) are all `DiagonalGaussian`, without conditions: the fast case.
        decoder: name of the decoder's distribution.
        encoder: name of the encoder's.
        prior: name of the prior's.
        decoder_has_entropy: whether the decoder offers its entropy; else it is judged by replicated data.
        prior_has_entropy: whether the prior does; else it is judged by samples of it.
        factorised: whether cross entropies are per latent.
        conditions: C, how many conditions each point has.
    """

    gaussian: bool
    decoder: str
    encoder: str
    prior: str
    decoder_has_entropy: bool = True
    prior_has_entropy: bool = True
    factorised: bool = True
    conditions: int = 0


@attrs.frozen(eq=False)
class Latents:
    """Latent samples of a batch and the terms that belong to them, per point.

    Args:
        z: shape (*K, B, H).
        cross_entropy: −E_q ln p(z_h), shape (B, H).
        encoder_entropy: shape (B, H).
        prior_entropy: shape (H,), or (B, H) where it depends on the point.
        encoder: q(z|x).
    """

    z: Tensor
    cross_entropy: Tensor
    encoder_entropy: Tensor
    prior_entropy: Tensor
    encoder: Any


def conditions_of(model: Any) -> int:
    """Return C, how many conditions each point of a conditional model has; 0 for any other."""
    return int(getattr(model, "condition_dimension", 0))


def observed(model: Any, x: Tensor) -> Tensor:
    """Return the points themselves, shape (*B, D), of what a batch holds, points with their conditions (*B, D + C)."""
    count = conditions_of(model)
    return x[..., :-count] if count else x


def encode(model: Any, x: Tensor) -> Any:
    """Return q(z|x), or q(z|x, c) of a conditional model, for what a batch holds, shape (*B, D + C)."""
    count = conditions_of(model)
    return model.encode(x[..., :-count], x[..., -count:]) if count else model.encode(x)


def decoded(model: Any, z: Tensor, x: Tensor) -> Any:
    """Return p(x|z), or p(x|z, c), as the model gives it, for latents z of shape (*K, B, H) and a batch (B, D + C)."""
    count = conditions_of(model)
    return model.decode(z, x[..., -count:].expand(*z.shape[:-1], count)) if count else model.decode(z)


def decode(model: Any, z: Tensor, x: Tensor) -> Any:
    """Return p(x|z), or p(x|z, c), given what of the points is not modelled, such as their total count.

    Args:
        model: any.
        z: shape (*K, B, H).
        x: what the batch holds, shape (B, D + C).
    """
    found = decoded(model, z, x)
    if type(found) is DiagonalGaussian:
        found = GaussianDecoder(*found)
    given = getattr(found, "given", None)
    return found if given is None else given(observed(model, x))


def latent_dim(model: Any) -> int:
    """Return H: of a `DiagonalGaussian` prior its length, else the model's attribute `latent_dim`."""
    prior = model.prior()
    return int(prior.log_var.shape[-1] if type(prior) is DiagonalGaussian else model.latent_dim)


def latents(model: Any, x: Tensor, noise: Tensor) -> Latents:
    """Return samples of q(z|x) with the terms of encoder and prior.

    Args:
        model: any.
        x: what a batch holds, shape (B, D + C).
        noise: ε ~ N(0, I), shape (*K, B, H).
    """
    encoder, prior = encode(model, x), model.prior()
    z = encoder.sample(noise)
    entropy = encoder.entropy()
    shape = encoder.mean.shape
    cross = cross_entropy(prior, encoder, z)
    return Latents(
        z,
        _shared_out(cross, shape),
        _shared_out(entropy, shape),
        _shared_out(prior_entropy(prior, z), shape),
        encoder,
    )


def cross_entropy(prior: Any, encoder: Any, z: Tensor) -> Tensor:
    """Return −E_q ln p(z_h), shape (*B, H) or (*B, 1): in closed form where there is one, else from the samples z."""
    if type(prior) is DiagonalGaussian:
        mean, variance = second_moments(encoder)
        square = (mean - prior.mean).square() + variance
        return 0.5 * (identities.LOG_2PI + prior.log_var + square * (-prior.log_var).exp())
    own = getattr(prior, "cross_entropy", None)
    if own is not None:
        found: Tensor = own(encoder, z)
        return found
    density: Tensor = prior.log_prob(z)
    axes = tuple(range(density.ndim - 1))
    return -(density.mean(axes) if axes else density).unsqueeze(-1)


def prior_entropy(prior: Any, z: Tensor) -> Tensor:
    """Return the prior entropy, less E_q H[r(k|z)] where the prior has components k; not a number if it has none."""
    if not hasattr(prior, "entropy"):
        return z.new_full((1,), torch.nan)
    entropy: Tensor = prior.entropy()
    components = getattr(prior, "component_entropy", None)
    return entropy if components is None else entropy - components(z)


def family_terms(model: Any, x: Tensor, noise: Tensor, *, average_points: bool = True) -> FamilyTerms:
    """Return the six averages of a batch, or of each point.

    Args:
        model: any VAE.
        x: what a batch holds, shape (B, D + C).
        noise: ε ~ N(0, I), shape (B, H) or (K, B, H).
        average_points: average over points too, not over samples alone.
    """
    found = latents(model, x, noise)
    decoder, value = decode(model, found.z, x), observed(model, x)
    count = len(x)

    def average(values: Tensor) -> Tensor:
        """Average (*K, B) over samples, and over points if asked."""
        values = values.reshape(-1, count).mean(0)
        return values.mean() if average_points else values

    def over_points(values: Tensor) -> Tensor:
        values = values.expand(count, values.shape[-1])
        return values.mean(0) if average_points else values

    density = decoder.log_prob(value)
    has_reference = hasattr(decoder, "log_reference")
    reference = decoder.log_reference(value) if has_reference else torch.zeros_like(density)
    entropy = decoder.entropy() if hasattr(decoder, "entropy") else torch.full_like(density, torch.nan)
    return FamilyTerms(
        average(density),
        average(reference.expand_as(density)),
        average(entropy),
        over_points(found.cross_entropy),
        over_points(found.encoder_entropy),
        over_points(found.prior_entropy),
    )


def described(model: Any, x: Tensor) -> Family:
    """Return what kind of VAE a model is, found by encoding and decoding.

    Args:
        model: looked at in evaluation mode.
        x: what a batch holds, at least one point, shape (B, D + C).
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        prior, encoder = model.prior(), encode(model, x)
        z = encoder.mean
        decoder = decode(model, z, x)
        count = conditions_of(model)
        gaussian = all(type(one) is DiagonalGaussian for one in (prior, encoder)) and isinstance(
            decoder, GaussianDecoder
        )
        cross = cross_entropy(prior, encoder, z)
    model.train(training)
    return Family(
        gaussian=gaussian and not count,
        decoder="DiagonalGaussian" if isinstance(decoder, GaussianDecoder) else type(decoder).__name__,
        encoder=type(encoder).__name__,
        prior=type(prior).__name__,
        decoder_has_entropy=hasattr(decoder, "entropy"),
        prior_has_entropy=hasattr(prior, "entropy"),
        factorised=cross.shape[-1] == z.shape[-1],
        conditions=count,
    )


def noise_width(family: Family, latent_count: int, dimension: int) -> int:
    """Return how many normal numbers an evaluation needs per sample: H, and more where entropies come from samples."""
    more_decoder = 0 if family.decoder_has_entropy else dimension
    more_prior = 0 if family.prior_has_entropy else latent_count
    return latent_count + more_decoder + more_prior


def is_decoder_distribution(value: Any) -> bool:
    """Return whether a decoder offers the terms and scores of `DecoderDistribution`."""
    return isinstance(value, DecoderDistribution)


def _shared_out(values: Tensor, shape: torch.Size) -> Tensor:
    """Return (·, 1), of all latents together, as (·, H) with equal parts; what has H latents stays."""
    width = shape[-1]
    if values.shape[-1] == width and width > 1:
        return values
    return (values / width).expand(*values.shape[:-1], width) if values.shape[-1] == 1 else values
