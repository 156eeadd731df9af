"""Evaluation: the terms over a whole set of points, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from elboverse import identities
from elboverse.contracts import Model, VarianceParameters
from elboverse.elbo import closed_form, moments, terms_of
from elboverse.seeding import generator
from elboverse.training.intake import Intake
from elboverse.training.records import Evaluation
from elboverse.training.step import Step

__all__ = ["MOST_TRAINING_POINTS", "Evaluator", "first_points"]

MOST_TRAINING_POINTS: Final = 10_000
"""How many training points an evaluation on the training data uses at most: the first ones of the
training set, which a seeded split has shuffled unless the dataset brings held-out points of its own."""

POINTS_AT_ONCE: Final = 4096

VALUES_AT_ONCE: Final = 1 << 22
"""How many values points have at a time, which bounds what large images take."""


def first_points(points: Tensor, count: int) -> Tensor:
    """Return the first `count` points of (N, D) or (R, N, D)."""
    return points[..., :count, :]


class Evaluator:
    """Evaluates all replicas on fixed points with fixed noise, so that evaluations differ by the parameters alone.

    Args:
        split: ``"train"`` or ``"held_out"``; it names the noise.
        points: shape (M, D), or (R, M, D) where replicas have their own; or a function that returns them for the number
            of updates done, where they change along a stream.
        seeds: one seed per replica.
        sample_shape: (K,), or () for one sample without an axis; None if the model needs no noise.
        latent_dim: H.
        intake: the way of the points to the model; they are used as they are if there is none.
    """

    def __init__(
        self,
        split: str,
        points: Tensor | Callable[[int], Tensor],
        seeds: Sequence[int],
        sample_shape: tuple[int, ...] | None,
        latent_dim: int,
        intake: Intake | None = None,
    ) -> None:
        self.split = split
        self._points = points
        self._seeds = tuple(seeds)
        self._sample_shape = sample_shape
        self._latent_dim = latent_dim
        self._intake = intake

    def evaluate(self, step: Step, done: int, epoch: int) -> Evaluation:
        """Return the terms of every replica, averaged over the points, after `done` updates.

        Args:
            step: holds the parameters.
            done: number of updates done.
            epoch: number of passes done.
        """
        statistics = [step.map_models(point_statistics, x, noise) for x, noise in self._batches(self._at(done))]
        # Points last and contiguous: reductions over them are several times as fast.
        table = torch.cat(statistics, dim=1).double().transpose(1, 2).contiguous().cpu().numpy()
        log_likelihood, decoder_entropy, decoder_log_var = table[:, 0], table[:, 1], table[:, 2]
        share_at_floor = table[:, 3].mean(-1).max()
        kl, encoder_entropy, prior_log_var, mean = np.split(table[:, 4:], 4, axis=1)
        prior_entropy = identities.gaussian_entropy(prior_log_var)
        drop = identities.entropy_drop(encoder_entropy, prior_entropy)
        per_point = {
            "elbo": log_likelihood - kl.sum(1),
            "entropy_sum": -decoder_entropy - drop.sum(1),
            "decoder_residual": identities.decoder_residual(log_likelihood, decoder_entropy),
            "prior_residual": drop - kl,
        }
        per_point["gap"] = per_point["elbo"] - per_point["entropy_sum"]
        count = table.shape[-1]
        averages = {name: values.mean(-1) for name, values in per_point.items()}
        for name, values in per_point.items():
            averages[f"{name}_standard_error"] = values.std(-1) / np.sqrt(max(1, count - 1))
        averages |= {
            "log_likelihood": log_likelihood.mean(-1),
            "decoder_entropy": decoder_entropy.mean(-1),
            "decoder_log_var": decoder_log_var.mean(-1),
            "kl": kl.mean(-1),
            "encoder_entropy": encoder_entropy.mean(-1),
            "prior_entropy": prior_entropy.mean(-1),
            "mean_variance": mean.var(-1),
        }
        del averages["entropy_sum"]  # it follows from the entropies
        return Evaluation(
            split=self.split,
            step=done,
            epoch=epoch,
            points=count,
            scalars={name: values for name, values in averages.items() if values.ndim == 1},
            per_latent={name: values for name, values in averages.items() if values.ndim == 2},
            share_at_floor=float(share_at_floor),
        )

    def closed_form(self, step: Step, done: int, names: VarianceParameters) -> dict[str, Tensor]:
        """Return the closed-form variances over all points, name → shape (R, ...).

        Args:
            step: holds the parameters.
            done: number of updates done.
            names: the model's log-variance parameters.
        """
        found: dict[str, Tensor] = {}
        points = self._at(done)
        for name, part in ((names.decoder, "decoder"), (names.prior, "prior")):
            if name is None:
                continue

            def variance(model: Model, x: Tensor, noise: Tensor | None, part: str = part) -> Tensor:
                value = getattr(closed_form(model, moments(model, x, noise, average_points=True)), part)
                variance: Tensor = value.exp() * x.shape[0]
                return variance

            total = sum(step.map_models(variance, x, noise) for x, noise in self._batches(points))
            assert isinstance(total, Tensor)  # noqa: S101 - there is at least one batch
            found[name] = (total / points.shape[-2]).log()
        return found

    def _at(self, done: int) -> Tensor:
        return self._points if isinstance(self._points, Tensor) else self._points(done)

    def _batches(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield points in batches with their noise, the same in every evaluation."""
        samples = self._sample_shape[0] if self._sample_shape else 1
        at_once = max(64, min(POINTS_AT_ONCE, VALUES_AT_ONCE // points.shape[-1]) // samples)
        for number, stored in enumerate(points.split(at_once, dim=-2)):
            x, noise = stored if self._intake is None else self._intake(stored), None
            if self._sample_shape is not None:
                shape = (*self._sample_shape, x.shape[-2], self._latent_dim)
                noise = torch.stack(
                    [
                        torch.randn(
                            shape,
                            generator=generator(seed, "evaluation", self.split, number, device=x.device),
                            dtype=x.dtype,
                            device=x.device,
                        )
                        for seed in self._seeds
                    ]
                )
            yield x, noise


def point_statistics(model: Model, x: Tensor, noise: Tensor | None) -> Tensor:
    """Return what an evaluation averages, per point: shape (B, 4 + 4H).

    The columns are the log-likelihood, the decoder entropy, the mean decoder log-variance and the share of dimensions
    whose variance is at its floor, then per latent the KL divergence, the encoder entropy, the prior log-variance and
    the mean of q(z|x).

    Args:
        model: any Gaussian VAE.
        x: points, shape (B, D).
        noise: (B, H) or (K, B, H), or None.
    """
    encoder = model.encode(x)
    found = moments(model, x, noise, average_points=False, encoder=encoder)
    terms = terms_of(found)
    at_floor = identities.is_at_floor(found.decoder_log_var).to(x.dtype)
    share_at_floor = at_floor.mean(-1) if at_floor.ndim else at_floor
    scalars = (terms.log_likelihood, terms.decoder_entropy, terms.decoder_log_var, share_at_floor)
    per_point = torch.stack([value.expand(len(x)) for value in scalars], dim=-1)
    prior_log_var = terms.prior_log_var.expand_as(terms.kl)
    return torch.cat((per_point, terms.kl, terms.encoder_entropy, prior_log_var, encoder.mean), dim=-1)
