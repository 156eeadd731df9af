"""Evaluation: the terms over a whole set of points, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.contracts import Model, VarianceParameters
from elboverse.contracts.records import Evaluation
from elboverse.seeding import generator
from elboverse.theory import identities
from elboverse.theory.elbo import closed_form, moments, terms_of
from elboverse.training.family_evaluation import FamilyStatistics, family_averages
from elboverse.training.intake import Intake
from elboverse.training.step import Step
from elboverse.warning import warn

__all__ = ["MOST_TRAINING_POINTS", "Evaluator", "first_points", "replica_blocks"]

MOST_TRAINING_POINTS: Final = 10_000
"""How many training points an evaluation on the training data uses at most: the first ones of the
training set, which a seeded split has shuffled unless the dataset brings held-out points of its own."""

POINTS_AT_ONCE: Final = 4096

VALUES_AT_ONCE: Final = 1 << 22
"""How many values points have at a time, which bounds what large images take."""

ROWS_AT_ONCE: Final = 1 << 16
"""How many points times samples times replicas a model sees at a time."""

SAMPLED_AT_ONCE: Final = 1 << 13
"""How many points times samples of one replica a model sees at a time, where points have more samples than that."""


def first_points(points: Tensor, count: int) -> Tensor:
    """Return the first `count` points of (N, D) or (R, N, D)."""
    return points[..., :count, :]


def replica_blocks(replicas: int, rows: int, values: int) -> list[slice]:
    """Return which replicas go through their models together, so that memory does not grow with their number.

    Args:
        replicas: R.
        rows: how many points times samples each model sees at a time.
        values: how many values those are, or what comes of them, whichever is more.
    """
    size = max(1, min(ROWS_AT_ONCE // rows, VALUES_AT_ONCE // values))
    return [slice(first, first + size) for first in range(0, replicas, size)]


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
        family: what is averaged of a model that is not three diagonal Gaussians; None for one that is.
    """

    def __init__(
        self,
        split: str,
        points: Tensor | Callable[[int], Tensor],
        seeds: Sequence[int],
        sample_shape: tuple[int, ...] | None,
        latent_dim: int,
        intake: Intake | None = None,
        family: FamilyStatistics | None = None,
    ) -> None:
        self._family = family
        self._noise_width = latent_dim if family is None else family.noise_width
        self.split = split
        self._points = points
        self._seeds = tuple(seeds)
        self._sample_shape = sample_shape
        self._samples = sample_shape[0] if sample_shape else 1
        self._latent_dim = latent_dim
        self._intake = intake
        self._told = False

    def evaluate(self, step: Step, done: int, epoch: int) -> Evaluation:
        """Return the terms of every replica, averaged over the points, after `done` updates.

        Args:
            step: holds the parameters.
            done: number of updates done.
            epoch: number of passes done.
        """
        points = self._at(done)
        blocks, share_at_floor = [], 0.0
        tables = []
        for replicas in self._blocks(points):
            statistics = list(self._mapped(step, self._family or point_statistics, points, replicas))
            # Points last and contiguous: reductions over them are several times as fast.
            tables.append(torch.cat(statistics, dim=1).double().transpose(1, 2).contiguous().cpu().numpy())
        count = points.shape[-2]
        if self.split == "held_out":
            tables, count = self._usable(tables, count)
        for table in tables:
            blocks.append(averages_of(table) if self._family is None else family_averages(table))
            if self._family is None:
                share_at_floor = max(share_at_floor, float(table[:, 3].mean(-1).max()))
        averages = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return Evaluation(
            split=self.split,
            step=done,
            epoch=epoch,
            points=count,
            scalars={name: values for name, values in averages.items() if values.ndim == 1},
            per_latent={name: values for name, values in averages.items() if values.ndim == 2},
            share_at_floor=share_at_floor,
        )

    def _usable(self, tables: list[npt.NDArray[np.float64]], count: int) -> tuple[list[npt.NDArray[np.float64]], int]:
        """Return the held-out terms without points whose terms are not finite, and how many points are left.

        Such points, outliers as a rule, are told once. Where no point is usable, the model is to blame.
        """
        usable = np.logical_and.reduce([np.isfinite(table).all(axis=(0, 1)) for table in tables])
        bad = np.flatnonzero(~usable)
        if not len(bad) or len(bad) == count:
            return tables, count
        if not self._told:
            self._told = True
            listed = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            warn(
                f"{len(bad):,} of {count:,} held-out points have no finite ELBO, so their averages leave them out: "
                f"held-out points {listed} (counted from 0). Look for outliers with `elboverse data info`."
            )
        return [table[..., usable] for table in tables], count - len(bad)

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

            totals = [sum(self._mapped(step, variance, points, replicas)) for replicas in self._blocks(points)]
            found[name] = (torch.cat(cast(list[Tensor], totals)) / points.shape[-2]).log()
        return found

    def _at(self, done: int) -> Tensor:
        return self._points if isinstance(self._points, Tensor) else self._points(done)

    def _at_once(self, points: Tensor) -> int:
        """Return how many points go through a model together; the noise depends on it, so it may not depend on R."""
        if self._sample_shape is None:  # no noise: as many as memory allows
            return max(64, VALUES_AT_ONCE // (2 * (points.shape[-1] + 4 + 4 * self._latent_dim)))
        return max(64, min(POINTS_AT_ONCE, VALUES_AT_ONCE // points.shape[-1]) // self._samples)

    def _blocks(self, points: Tensor) -> list[slice]:
        """Return which replicas are evaluated together, so that memory does not grow with their number."""
        rows = min(self._at_once(points), points.shape[-2]) * min(self._samples, self._samples_at_once(points))
        table = points.shape[-2] * (4 + 4 * self._latent_dim)
        return replica_blocks(len(self._seeds), rows, max(rows * points.shape[-1], table))

    def _samples_at_once(self, points: Tensor) -> int:
        rows = min(SAMPLED_AT_ONCE, VALUES_AT_ONCE // points.shape[-1])
        return max(1, rows // self._at_once(points))

    def _mapped(self, step: Step, function: Callable[..., Tensor], points: Tensor, replicas: slice) -> Iterator[Tensor]:
        """Yield the value of a function for some replicas and each batch of points.

        Args:
            step: holds the parameters.
            function: of a model, points and noise; an average over samples.
            points: all of them.
            replicas: which.
        """
        some = points[replicas] if points.ndim == 3 else points
        for number, stored in enumerate(some.split(self._at_once(points), dim=-2)):
            x = stored if self._intake is None else self._intake(stored)
            if not self._sample_shape:
                noise = None if self._sample_shape is None else self._noise(number, x, replicas)
                yield step.map_models(function, x, noise, replicas)
                continue
            parts = self._noise(number, x, replicas).split(self._samples_at_once(points), dim=1)
            yield sum(step.map_models(function, x, part, replicas) * (part.shape[1] / self._samples) for part in parts)

    def _noise(self, number: int, x: Tensor, replicas: slice) -> Tensor:
        """Return some replicas' noise of a batch of points, the same in every evaluation, shape (r, *K, B, H)."""
        assert self._sample_shape is not None  # noqa: S101 - for the type checker
        shape = (*self._sample_shape, x.shape[-2], self._noise_width)
        streams = [generator(seed, "evaluation", self.split, number, device=x.device) for seed in self._seeds[replicas]]
        return torch.stack([torch.randn(shape, generator=one, dtype=x.dtype, device=x.device) for one in streams])


def averages_of(table: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what an evaluation keeps of its points: name → values, shape (R,) or (R, H).

    Args:
        table: the columns of `point_statistics` for every point, shape (R, 4 + 4H, M).
    """
    # A term that is not finite is found and told by the loop; arithmetic with it must not warn on any processor.
    with np.errstate(invalid="ignore", over="ignore"):
        return _averages_of(table)


def _averages_of(table: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    log_likelihood, decoder_entropy, decoder_log_var = table[:, 0], table[:, 1], table[:, 2]
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
    return averages


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
