"""What a trained model is worth on points: bounds on ln p(x) with what tells how far to trust them, and calibration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from elboverse.integrations.decoders import Family, decoded
from elboverse.integrations.encoders import prior_log_prob, prior_sample
from elboverse.integrations.gaps import POINTS, Gaps, gap_split
from elboverse.integrations.points import POINTS_AT_ONCE, Callables, PointTable, filled, point_table, still
from elboverse.theory import distributions as ours
from elboverse.theory import importance
from elboverse.theory.information import mutual_information

__all__ = ["Assessment", "Bracket", "assess"]

Array = npt.NDArray[Any]

VALUES_AT_ONCE: Final = 1 << 22
INFORMATION_POINTS: Final = 2000
SECONDS_BETWEEN_TOLD: Final = 2.0


@attrs.frozen(eq=False)
class Bracket:
    """Bounds on ln p(x) of points that the model made, where a sample of the posterior is known.

    Args:
        lower: L_k of the points, shape (N,).
        upper: the upper bound, shape (N,).
        calibration: of the encoder.
    """

    lower: Array
    upper: Array
    calibration: importance.Calibration


@attrs.frozen(eq=False)
class Assessment:
    """All that was found; in nats per point.

    Args:
        table: the terms of every point.
        dimension: D.
        log_weights: importance weights of the first points, shape (n, k); None without a likelihood.
        bracket: on simulated points; None without a likelihood that can be sampled.
        without_latents: log-likelihood of the best factorised model without latents; None where it is not known.
        remarks: on the data, a sentence each.
        information: I(x; z); None where q is not a diagonal Gaussian.
        information_points: of how many points.
        gaps: the parts of the gap, where they were asked for.
        log_volume: Σ ln scale of the scaling that the model sees points with: subtract it for data units.
        is_discrete: whether bits per dimension are defined.
        points_are: ``"held-out"`` or ``"training"``.
    """

    table: PointTable
    dimension: int
    log_weights: Array | None
    bracket: Bracket | None
    without_latents: float | None
    remarks: list[str]
    information: importance.Mean | None = None
    information_points: int = 0
    gaps: Gaps | None = None
    log_volume: float = 0.0
    is_discrete: bool = False
    points_are: str = "held-out"

    @property
    def sizes(self) -> list[int]:
        """The k of the bounds: powers of ten up to the number of samples, and that number."""
        if self.log_weights is None:
            return []
        most = self.log_weights.shape[1]
        return sorted({*(10**power for power in range(7) if 10**power <= most), most})

    def bound(self, samples: int) -> importance.Mean:
        """Return the mean of L_k with its standard error."""
        if self.log_weights is None:
            raise ValueError("there are no weights of a model without a likelihood")
        return importance.mean_of(importance.bound(self.log_weights, samples))


def assess(
    model: Callables,
    x: Tensor,
    *,
    points: int = 1000,
    samples: int = 1000,
    seed: int = 0,
    gaps: bool = False,
    log_volume: float = 0.0,
    dequantised: bool = False,
    points_are: str = "held-out",
    progress: Callable[[str], None] = lambda _stage: None,
) -> Assessment:
    """Return what a model is worth on points.

    Args:
        model: its callables.
        x: held-out points, shape (N, …).
        points: of how many of them, the first ones, and of how many simulated points the bounds are taken.
        samples: k of the largest bound.
        seed: of all draws.
        gaps: split the gap of 128 points.
        log_volume: as of `Assessment`.
        dequantised: whether the points are integers with uniform noise added.
        points_are: as of `Assessment`.
        progress: told what is being done.

    Raises:
        DataError: a callable returns something else than is expected.
    """
    progress(f"terms of {len(x):,} points")
    table = point_table(model, x)
    weights = bracket = without = split = None
    remarks: list[str] = []
    discrete = dequantised
    information, known = _information(model, x[:INFORMATION_POINTS], seed + 3)
    if model.decode is not None:
        chosen = x[:points]
        progress(f"importance weights of {len(chosen):,} points, {samples:,} samples each")
        weights, _, _ = _log_weights(model, chosen, samples, table.profiled_log_var, seed, None, progress)
        progress(f"importance weights of {len(chosen):,} simulated points")
        bracket = _bracket(model, chosen, samples, table.profiled_log_var, seed + 1, progress)
        if gaps:
            few = chosen[:POINTS]
            split = gap_split(
                model, few, importance.bound(weights[: len(few)]), table.profiled_log_var, seed + 2, progress
            )
        without, remarks, fits = _about_data(model, x, table)
        discrete = discrete or fits
    return Assessment(
        table,
        x[0].numel(),
        weights,
        bracket,
        without,
        remarks,
        information,
        known,
        split,
        log_volume,
        discrete,
        points_are,
    )


def _information(model: Callables, x: Tensor, seed: int) -> tuple[importance.Mean | None, int]:
    """Return I(x; z), and of how many points; None for a q that is not a diagonal Gaussian of latents alone."""
    moments = []
    with still(model.encode, seed=seed):
        for batch in x.split(POINTS_AT_ONCE):
            q = model.encoded_at(batch)
            if not q.is_diagonal or q.mean.ndim > 2:
                return None, 0
            moments.append([_numpy(part) for part in q.moments()])
    means, variances = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    if len(means) < 2 or not np.isfinite(means).all() or not (variances > 0).all():
        return None, 0
    return mutual_information(means, variances, np.random.default_rng(seed).normal(size=means.shape)), len(means)


def _log_weights(
    model: Callables,
    x: Tensor,
    samples: int,
    log_var: float | None,
    seed: int,
    truth: Tensor | None,
    progress: Callable[[str], None],
) -> tuple[Array, Array | None, tuple[Array, Array]]:
    """Return ln w of samples of q, (N, k), and of the latents that made the points, (N,); and the moments of q."""
    at_once = max(1, min(len(x), VALUES_AT_ONCE // (samples * x[0].numel())))
    rows, of_truth, means, variances = [], [], [], []
    with still(model.encode, model.decode, seed=seed):
        told = time.monotonic()
        for first in range(0, len(x), at_once):
            if time.monotonic() - told > SECONDS_BETWEEN_TOLD:
                told = time.monotonic()
                progress(f"{first:,} of {len(x):,} points")
            batch = x[first : first + at_once]
            q = model.encoded_at(batch)
            prior = model.current_prior(q)
            parts = []
            left = samples
            per_turn = max(1, VALUES_AT_ONCE // (len(batch) * x[0].numel()))
            while left:
                z = q.sample(min(left, per_turn))
                parts.append(_log_weight(model, batch, q, prior, z, log_var))
                left -= len(z)
            rows.append(torch.cat(parts).T)
            mean, variance = q.moments()
            means.append(mean.flatten(1))
            variances.append(variance.flatten(1))
            if truth is not None:
                of_truth.append(_log_weight(model, batch, q, prior, truth[first : first + at_once][None], log_var)[0])
    moments = (_numpy(torch.cat(means)), _numpy(torch.cat(variances)))
    return _numpy(torch.cat(rows)), _numpy(torch.cat(of_truth)) if of_truth else None, moments


def _log_weight(model: Callables, x: Tensor, q: Any, prior: Any, z: Tensor, log_var: float | None) -> Tensor:
    repeated = x.repeat(len(z), *[1] * (x.ndim - 1))
    p = decoded(filled(model.decoded_at(z), log_var), repeated, "decode")
    return p.log_prob(repeated).reshape(len(z), -1) + prior_log_prob(prior, z) - q.log_prob(z)


def _bracket(
    model: Callables,
    like: Tensor,
    samples: int,
    log_var: float | None,
    seed: int,
    progress: Callable[[str], None],
) -> Bracket | None:
    with still(model.encode, model.decode, seed=seed):
        q = model.encoded_at(like)
        prior = model.current_prior(q)
        z = prior_sample(prior, tuple(q.mean.shape), q.mean)
        made = filled(model.decoded_at(z[None]), log_var)
        if hasattr(made, "given"):
            return None  # points that are made have other total counts than those that they are given
        p = decoded(made, like, "decode")
        x = p.sample().to(like.dtype)
    weights, truth, (mean, variance) = _log_weights(model, x, samples, log_var, seed + 1, z, progress)
    if truth is None or len(x) < 2:
        return None
    found = importance.calibration(_numpy(z.flatten(1)), mean, variance)
    return Bracket(importance.bound(weights), importance.upper_bound(weights, truth), found)


def _about_data(model: Callables, x: Tensor, table: PointTable) -> tuple[float | None, list[str], bool]:
    """Return ln p of the best model without latents, remarks on the data, and whether they are discrete."""
    with still(model.encode, model.decode):
        few = x[:2]
        z = model.encoded_at(few).sample(1)
        p = decoded(filled(model.decoded_at(z), table.profiled_log_var), few, "decode")
    flat = _numpy(x.flatten(1))
    family = type(p.parts) if isinstance(p, Family) else None
    binary = bool(np.isin(flat, (0.0, 1.0)).all())
    whole = bool((flat == np.round(flat)).all())
    remarks = []
    if family is ours.GaussianDecoder:
        variance = flat.var(0).mean()
        if whole:
            remarks.append(
                "All values are integers, and a Gaussian density on them has no bound: its ELBO grows as σ² falls. "
                "Use a Bernoulli, categorical or count likelihood, or dequantise."
            )
        return float(-0.5 * flat.shape[1] * (1 + np.log(2 * np.pi * max(variance, 1e-300)))), remarks, False
    if family is ours.Bernoulli:
        if not binary:
            remarks.append(
                "Values other than 0 and 1 under a Bernoulli likelihood: the figures are expected cross-entropies of "
                "binarised points, no log-likelihoods. Binarise, or use a continuous Bernoulli."
            )
        share = np.clip(flat.mean(0), 1e-12, 1 - 1e-12)
        return float((share * np.log(share) + (1 - share) * np.log(1 - share)).sum()), remarks, binary
    if family is ours.Laplace:
        scale = np.abs(flat - np.median(flat, 0)).mean()
        return float(-flat.shape[1] * (1 + np.log(2 * max(scale, 1e-300)))), remarks, False
    if family is ours.Poisson:
        if not whole:
            remarks.append("Values that are no integers under a Poisson likelihood: pass counts.")
        rate = np.maximum(flat.mean(0), 1e-300)
        factorials = _numpy(torch.lgamma(torch.from_numpy(flat) + 1)).sum(1).mean()
        return float((rate * np.log(rate) - rate).sum() - factorials), remarks, whole
    counts = family in {ours.Categorical, ours.NegativeBinomial, ours.PoissonSoftmax, ours.PoissonWithLibrary}
    return None, remarks, counts and whole


def _numpy(tensor: Tensor) -> Array:
    found: Array = tensor.detach().double().cpu().numpy()
    return found
