"""Evaluation of any family: the terms of each point, with entropies from samples where a distribution has none."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.theory import families
from elboverse.theory.families import Family

__all__ = ["FamilyStatistics", "family_averages"]

SCALARS = ("log_likelihood", "log_reference", "decoder_entropy", "decoder_varentropy")


@attrs.frozen
class FamilyStatistics:
    """What an evaluation averages, per point: a function ``(model, x, noise) -> (B, 4 + 4H)``.

    The columns are the log-likelihood, ln h(x), the decoder's entropy and varentropy, then per latent the KL
    divergence, the encoder entropy, the prior entropy and the mean of q(z|x). Where a decoder or a prior has no
    entropy, it is −ln p of replicated data x' ~ p(x|z), or of z' ~ p(z): the noise then has the columns that these
    take after its H.

    Args:
        family: of the model.
        latent_dim: H.
        dimension: D.
    """

    family: Family
    latent_dim: int
    dimension: int

    @property
    def noise_width(self) -> int:
        """How many normal numbers each sample takes."""
        return families.noise_width(self.family, self.latent_dim, self.dimension)

    def __call__(self, model: Any, x: Tensor, noise: Tensor | None) -> Tensor:
        """Return the columns of each point, averaged over its samples.

        Args:
            model: of that family.
            x: what a batch holds, shape (B, D + C).
            noise: (B, W) or (K, B, W), W the noise width.
        """
        if noise is None:
            raise ValueError("noise of shape (*K, B, W) is needed: this model's ELBO is estimated from samples")
        own = self.latent_dim
        found = families.latents(model, x, noise[..., :own])
        value, decoder = families.observed(model, x), families.decode(model, found.z, x)
        density = decoder.log_prob(value)
        reference = decoder.log_reference(value) if hasattr(decoder, "log_reference") else torch.zeros_like(density)
        start = own
        if self.family.decoder_has_entropy:
            entropy = decoder.entropy()
        else:
            replicated = decoder.sample(noise[..., start : start + self.dimension])
            start += self.dimension
            replicated_reference = decoder.log_reference(replicated) if hasattr(decoder, "log_reference") else 0
            entropy = replicated_reference - decoder.log_prob(replicated)
        varentropy = decoder.varentropy() if hasattr(decoder, "varentropy") else torch.full_like(density, torch.nan)
        prior_entropy = found.prior_entropy
        if not self.family.prior_has_entropy:
            prior = model.prior()
            drawn = -prior.log_prob(prior.sample(noise[..., start : start + own])) / own
            prior_entropy = drawn.reshape(-1, len(x)).mean(0).unsqueeze(-1).expand(len(x), own)
        scalars = [values.expand_as(density).reshape(-1, len(x)).mean(0) for values in (density, reference, entropy)]
        spread = varentropy.expand_as(density).reshape(-1, len(x)).mean(0)
        return torch.cat(
            (
                torch.stack((*scalars, spread), dim=-1),
                found.cross_entropy - found.encoder_entropy,
                found.encoder_entropy.expand_as(found.cross_entropy),
                prior_entropy.expand_as(found.cross_entropy),
                found.encoder.mean,
            ),
            dim=-1,
        )


def family_averages(table: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what an evaluation keeps of its points: name → values, shape (R,) or (R, H).

    Args:
        table: the columns of `FamilyStatistics` for every point, shape (R, 4 + 4H, M).
    """
    log_likelihood, log_reference, decoder_entropy, varentropy = (table[:, index] for index in range(4))
    kl, encoder_entropy, prior_entropy, mean = np.split(table[:, 4:], 4, axis=1)
    drop = prior_entropy - encoder_entropy
    per_point = {
        "elbo": log_likelihood - kl.sum(1),
        "entropy_sum": log_reference - decoder_entropy - drop.sum(1),
        "decoder_residual": log_likelihood - log_reference + decoder_entropy,
        "prior_residual": drop - kl,
    }
    per_point["gap"] = per_point["elbo"] - per_point["entropy_sum"]
    count = table.shape[-1]
    averages = {name: values.mean(-1) for name, values in per_point.items()}
    for name, values in per_point.items():
        averages[f"{name}_standard_error"] = values.std(-1) / np.sqrt(max(1, count - 1))
    averages |= {
        "log_likelihood": log_likelihood.mean(-1),
        "log_reference": log_reference.mean(-1),
        "decoder_entropy": decoder_entropy.mean(-1),
        "kl": kl.mean(-1),
        "encoder_entropy": encoder_entropy.mean(-1),
        "prior_entropy": prior_entropy.mean(-1),
        "mean_variance": mean.var(-1),
    }
    if np.isfinite(varentropy).all():
        averages["decoder_varentropy"] = varentropy.mean(-1)
    del averages["entropy_sum"]  # it follows from the entropies
    return averages
