"""The numbers of ``dimension``: paired differences of held-out ELBOs, what is indistinguishable, and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array

__all__ = ["Candidate", "Choice", "choose", "outliers"]

ERRORS: Final = 2.0
"""Standard errors within which two candidates are indistinguishable."""

GROSS: Final = 12.0
"""Robust standard deviations below the median from which on a point's ELBO makes it an outlier."""


@attrs.frozen(eq=False)
class Candidate:
    """Models with one number of latents, one per seed.

    Attributes:
        latents: H.
        elbo: of the held-out points, in nats, shape (S, N).
        train_elbo: over the training points, in nats per point, shape (S,).
        active: latents that are active, shape (S,).
        verdicts: on each model's convergence; empty where none is recorded.
    """

    latents: int
    elbo: Array
    train_elbo: Array
    active: Array
    verdicts: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class Choice:
    """What paired differences on the same points say.

    Attributes:
        candidates: by rising H.
        best: index of the one with the largest mean.
        chosen: index of the smallest one that is indistinguishable from the best.
        difference: mean of ELBO − best ELBO in nats per point, shape (C,).
        standard_error: of that, over points and seeds, shape (C,).
        mean: of the ELBO, shape (C,).
        mean_error: of that, shape (C,).
        left_out: held-out points that were left out as outliers.
    """

    candidates: tuple[Candidate, ...]
    best: int
    chosen: int
    difference: Array
    standard_error: Array
    mean: Array
    mean_error: Array
    left_out: Array

    @property
    def indistinguishable(self) -> list[int]:
        """The numbers of latents whose ELBO is within two standard errors of the best one's."""
        close = self.difference + ERRORS * self.standard_error >= 0
        return [candidate.latents for candidate, one in zip(self.candidates, close, strict=True) if one]


def outliers(elbo: Array) -> Array:
    """Return the points whose ELBO lies far below all others', in any model's median over seeds.

    Args:
        elbo: shape (C, N).
    """
    median = np.median(elbo, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(elbo - median), axis=1, keepdims=True)
    return np.flatnonzero((elbo < median - GROSS * np.maximum(spread, 1e-12)).any(0))


def choose(candidates: Sequence[Candidate], left_out: Array | None = None) -> Choice:
    """Return the smallest number of latents that nothing tells from the best.

    The same points are given to all models, so their differences are compared point by point. A difference's variance
    is that over points, Var_n[mean_s d] / N, and that over seeds, Var_s[mean_n d] / S.

    Args:
        candidates: with the same held-out points in the same order.
        left_out: points to leave out; by default those that `outliers` finds.
    """
    ordered = tuple(sorted(candidates, key=lambda one: one.latents))
    per_point = np.stack([one.elbo.mean(0) for one in ordered])
    left_out = outliers(per_point) if left_out is None else left_out
    kept = np.setdiff1d(np.arange(per_point.shape[1]), left_out)
    elbos = [one.elbo[:, kept] for one in ordered]
    mean = np.array([values.mean() for values in elbos])
    best = int(mean.argmax())
    difference, errors, mean_errors = [], [], []
    for values in elbos:
        shared = min(len(values), len(elbos[best]))
        apart = values[:shared] - elbos[best][:shared]
        difference.append(values.mean() - mean[best])
        errors.append(_standard_error(apart))
        mean_errors.append(_standard_error(values))
    standard_error = np.array(errors)
    close = np.array(difference) + ERRORS * standard_error >= 0
    return Choice(
        candidates=ordered,
        best=best,
        chosen=int(np.flatnonzero(close)[0]),
        difference=np.array(difference),
        standard_error=standard_error,
        mean=mean,
        mean_error=np.array(mean_errors),
        left_out=left_out,
    )


def _standard_error(values: Array) -> float:
    seeds, points = values.shape
    variance = values.mean(0).var(ddof=1) / points if points > 1 else 0.0
    if seeds > 1:
        variance += values.mean(1).var(ddof=1) / seeds
    return float(np.sqrt(variance))
