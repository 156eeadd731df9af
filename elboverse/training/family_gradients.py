"""The gradient of the ELBO for any family: hand-written scores where a distribution offers them, else autodiff.

As in `gradients`, automatic differentiation runs through the encoder and through the decoder; between them

    loss = −mean E_q ln p(x|z) + β Σ_h (cross_entropy_h − encoder_entropy_h)

is differentiated with respect to the fields of p(x|z) by `DecoderDistribution.terms`, which computes the log-density,
the entropy and the score together. The samples go through the decoder a few at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from elboverse.theory import families
from elboverse.theory.distributions import DecoderDistribution
from elboverse.training.seeded import backward_from

__all__ = [
    "ELBO",
    "FamilyFunctions",
    "FamilyGradients",
    "Objective",
    "importance_weighted_bound",
    "latent_terms",
    "own_objective",
    "reconstruct",
]


@attrs.frozen(kw_only=True)
class Objective:
    """What is maximised, where it is more than the ELBO.

    Args:
        free_bits: λ in nats; each latent's KL counts as at least that (Kingma et al. 2016), so that its gradient is
            nothing below. The entropy sum of a floored latent no longer equals the ELBO's.
        importance_weighted: maximise ln (1/K) Σ_k p(x, z_k)/q(z_k|x) instead (Burda et al. 2016); β is not used.
        own: maximise what the model's method ``objective`` returns instead.
        regulariser: terms that are added to the loss, of a component or of the model itself, as a function of the model
            (whose parameters may be those of any replica), x, q and z; None for none.
        names: of the regulariser's terms.
    """

    free_bits: float = 0.0
    importance_weighted: bool = False
    own: bool = False
    regulariser: Callable[[Any, Tensor, Any, Tensor], Mapping[str, Tensor]] | None = None
    names: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series that it adds to a row."""
        bound = "objective" if self.own else "importance_weighted_bound" if self.importance_weighted else ""
        return (*filter(None, (bound,)), *self.names)

    @property
    def bound(self) -> Callable[[Any, Tensor, Tensor, Tensor], Tensor]:
        """What is maximised in place of the ELBO, as a function of model, x, noise and β."""
        return own_objective if self.own else importance_weighted_bound


ELBO: Final = Objective()


def latent_terms(model: Any, x: Tensor, noise: Tensor, objective: Objective = ELBO) -> tuple[Tensor, ...]:
    """Return z, (*K, B, H), cross, encoder and prior entropy averaged over points, (H,), and extra terms, (E,)."""
    found = families.latents(model, x, noise)
    prior = found.prior_entropy if found.prior_entropy.ndim == 1 else found.prior_entropy.mean(0)
    extra = found.cross_entropy.new_zeros(0)
    if objective.regulariser is not None:
        terms = objective.regulariser(model, families.observed(model, x), found.encoder, found.z)
        extra = torch.stack([terms[name] for name in objective.names])
    return found.z, found.cross_entropy.mean(0), found.encoder_entropy.mean(0), prior, extra


def own_objective(model: Any, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:
    """Return what a model says that is to be maximised, shape (); see `contracts.OwnObjective`."""
    found: Tensor = model.objective(x, noise, beta)
    return found


def importance_weighted_bound(model: Any, x: Tensor, noise: Tensor, beta: Tensor) -> Tensor:  # noqa: ARG001 - unused
    """Return mean_n ln (1/K) Σ_k p(x_n, z_k)/q(z_k|x_n), shape ().

    Args:
        model: any whose encoder offers `log_prob`.
        x: what a batch holds, shape (B, D + C).
        noise: (B, H) or (K, B, H).
        beta: not used.
    """
    encoder, prior = families.encode(model, x), model.prior()
    z = encoder.sample(noise)
    decoder = families.decode(model, z, x)
    log_weights = decoder.log_prob(families.observed(model, x)) + prior.log_prob(z) - encoder.log_prob(z)
    log_weights = log_weights.reshape(-1, len(x))
    return (log_weights.logsumexp(0) - math.log(len(log_weights))).mean()


def reconstruct(model: Any, z: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Return Σ ln p, Σ ln h and Σ H̃ over points and samples, and the fields of p(x|z) with their scores, if it has any.

    Args:
        model: any.
        z: shape (*K, B, H).
        x: what the batch holds, shape (B, D + C).
    """
    decoder, value = families.decode(model, z, x), families.observed(model, x)
    if isinstance(decoder, DecoderDistribution):
        fields: tuple[Tensor, ...] = tuple(decoder)  # type: ignore[arg-type]
        with torch.no_grad():
            terms = type(decoder)(*(field.detach() for field in fields)).terms(value)
        kept = [(field, score) for field, score in zip(fields, terms.score, strict=True) if score is not None]
        return (
            terms.log_prob,
            terms.log_reference,
            terms.entropy,
            *(field for field, _ in kept),
            *(score for _, score in kept),
        )
    density = decoder.log_prob(value)
    zero = torch.zeros_like(density)
    with torch.no_grad():
        reference = decoder.log_reference(value).expand_as(density) if hasattr(decoder, "log_reference") else zero
        entropy = decoder.entropy().expand_as(density) if hasattr(decoder, "entropy") else zero
    return density.sum(), reference.detach().sum(), entropy.detach().sum()


@attrs.frozen(eq=False, kw_only=True)
class FamilyFunctions:
    """A model's functions at its present parameters, for one model or, all with R in front, for R replicas at once.

    Args:
        latents: (x, noise) → as of `latent_terms`.
        reconstruct: (z, x) → as of `reconstruct`.
        bound: (x, noise, β) → what is maximised in place of the ELBO.
        penalty: the constraint's penalty, summed over replicas, or None.
        replicated: whether everything has R in front.
    """

    latents: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    reconstruct: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    bound: Callable[[Tensor, Tensor, Tensor], Tensor]
    penalty: Callable[[], Tensor] | None
    replicated: bool


class FamilyGradients:
    """Adds ∂loss/∂θ to the `grad` of every parameter, and returns the averages that a row is made of.

    Called as `gradients.Gradients` is; the columns are those of `records.FAMILY_LAYOUT`.

    Args:
        functions: of the model.
        samples_at_once: how many of the K samples go through the decoder together.
        objective: what is maximised.
    """

    def __init__(self, functions: FamilyFunctions, *, samples_at_once: int, objective: Objective = ELBO) -> None:
        self._objective = objective
        self._functions = functions
        self._samples_at_once = samples_at_once
        self._lead = int(functions.replicated)

    def in_parts(self, noise: Tensor | None) -> bool:
        """Return whether the samples go through the decoder a few at a time, so that gradients are added up."""
        several = noise is not None and noise.ndim > self._lead + 2
        return several and noise is not None and noise.shape[self._lead] > self._samples_at_once

    def __call__(self, x: Tensor, noise: Tensor | None, beta: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Add the gradients of one batch; return the columns of a row, shape (3 + 3H,), and no closed forms.

        Args:
            x: points, shape (B, D + C).
            noise: ε, shape (B, H) or (K, B, H).
            beta: the KL weight, shape ().
        """
        if noise is None:
            raise ValueError("noise of shape (*K, B, H) is needed: this model's ELBO is estimated from samples")
        z, cross, encoder_entropy, prior_entropy, extra = self._functions.latents(x, noise)
        weighted = bool(self._objective.importance_weighted or self._objective.own)
        leaf = z.detach().requires_grad_(not weighted)
        several = noise.ndim > self._lead + 2
        parts = leaf.split(self._samples_at_once, dim=self._lead) if several else (leaf,)
        count = z[0].numel() // z.shape[-1] if self._lead else z.numel() // z.shape[-1]
        sums: Tensor | None = None
        for part in parts:
            found = self._functions.reconstruct(part, x)
            totals = torch.stack([total.detach() for total in found[:3]], dim=-1)
            sums = totals if sums is None else sums + totals
            pairs = len(found[3:]) // 2
            if weighted:
                continue
            if pairs:
                backward_from([(found[3 + index], found[3 + pairs + index] / count) for index in range(pairs)])
            else:
                backward_from([(found[0], torch.full_like(found[0], -1.0 / count))])
        recorded = [extra.detach()]
        if weighted:
            bound = self._functions.bound(x, noise, beta)
            backward_from([(bound, torch.full_like(bound, -1.0)), (extra, torch.ones_like(extra))])
            recorded = [bound.detach().unsqueeze(-1), extra.detach()]
        else:
            weight = beta.expand_as(cross)
            if self._objective.free_bits > 0:
                weight = weight * (cross - encoder_entropy > self._objective.free_bits).to(cross.dtype)
            grad = torch.zeros_like(z) if leaf.grad is None else leaf.grad
            backward_from([(z, grad), (cross, weight), (encoder_entropy, -weight), (extra, torch.ones_like(extra))])
        if self._functions.penalty is not None:
            self._functions.penalty().backward()
        assert sums is not None  # noqa: S101 - there is at least one part
        columns = (
            sums / count,
            *recorded,
            cross.detach(),
            encoder_entropy.detach(),
            prior_entropy.detach().nan_to_num(),
        )
        return torch.cat([part.expand(*cross.shape[:-1], part.shape[-1]) for part in columns], dim=-1), []
