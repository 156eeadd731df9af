"""Certificates of trained models: the residuals over all training points, what is still to gain, and saddles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import numpy as np
import torch
from torch import Tensor

from elboverse.theory.certificate import TOLERANCE, Certificate, Residual, escape_gain, worst
from elboverse.theory.linear_optimum import linear_optimum
from elboverse.training.full_batch import FullBatch
from elboverse.training.polish import WINDOW, Polish

__all__ = ["Certifier", "certify", "saddles"]

MOST_DRAWS: Final = 64
"""How many independent sets of samples are drawn at most to decide a residual."""

MOST_DIMENSIONS: Final = 1024
"""Up to how many dimensions covariances are looked at."""

TRIED_VALUES: Final = 4_000_000
"""Up to how many values, points times samples times dimensions, full-batch steps are tried after plain training."""

ACTIVE_KL: Final = 0.05
"""KL divergence in nats from which on a latent is in use."""

NEARLY: Final = 0.02
"""How far below σ² the largest eigenvalue may seem to be where σ² is learned and everything is collapsed."""

_MARGIN: Final = 1e-3


@attrs.frozen(eq=False)
class Certifier:
    """What certificates of all replicas are made with.

    Args:
        objective: the objective of a replica, by its number.
        tolerance: δ₀, a relative mismatch.
    """

    objective: Callable[[int], FullBatch]
    tolerance: float = TOLERANCE


def certify(
    objective: FullBatch,
    theta: Tensor,
    tolerance: float,
    *,
    gain: tuple[float, float] | None = None,
    try_steps: bool = False,
    obstacle: str = "",
) -> Certificate:
    """Return the certificate of one model.

    Samples are drawn until every residual is decided, or `MOST_DRAWS` sets of them are.

    Args:
        objective: of the replica, over all its training points.
        theta: its parameters, shape (P,).
        tolerance: δ₀, a relative mismatch.
        gain: of the last full-batch steps, with its standard error, where some have been done.
        try_steps: whether to try some on a copy, where that is not too much and the verdict hangs on it.
        obstacle: why the run ended without the certificate.
    """
    terms = objective.terms(theta, "certificate")
    dimension = objective.dimension
    must = objective.learns_decoder_variance
    total = np.zeros((2, 2 + objective.latent_dim))
    residuals: tuple[Residual, ...] = ()
    draws = 0
    while draws < (1 if objective.is_exact else MOST_DRAWS):
        total += objective.residual_draws(theta, "certificate", draws)
        draws += 1
        values, errors = total[0] / draws, np.sqrt(total[1]) / draws
        residuals = (
            Residual(
                name="R_σ",
                value=float(values[0]),
                scale=0.5 * dimension,
                standard_error=float(errors[0]),
                must_vanish=must,
            ),
            *(
                Residual(name=f"R_{h}", value=float(value), scale=0.5, standard_error=float(error))
                for h, (value, error) in enumerate(zip(values[1:-1], errors[1:-1], strict=True))
            ),
        )
        if worst([residual.verdict(tolerance) for residual in residuals]) != "undecided":
            break
    steps = WINDOW if gain is not None else 0
    values_in_all = objective.count * dimension * max(1, objective.samples)
    hangs_on_the_gain = worst([residual.verdict(tolerance) for residual in residuals]) == "stationary"
    if try_steps and gain is None and hangs_on_the_gain and values_in_all <= TRIED_VALUES:
        gain, steps = _tried(objective, theta), WINDOW
    small = dimension <= MOST_DIMENSIONS
    eigenvalues = np.linalg.eigvalsh(objective.covariance())[::-1].clip(min=0) if small else None
    baseline = None if eigenvalues is None else linear_optimum(eigenvalues, objective.latent_dim)
    return Certificate(
        residuals=residuals,
        tolerance=tolerance,
        points=objective.count,
        samples=0 if objective.is_exact else 2 * draws * objective.samples,
        gain=None if gain is None else gain[0],
        gain_error=0.0 if gain is None else gain[1],
        steps=steps,
        saddle=saddles(objective, theta, terms.kl, terms.decoder_log_var) if small and must else {},
        explained=objective.explained(theta),
        varies=objective.variance_depends_on_z,
        baseline=None if baseline is None else baseline.elbo,
        elbo=float(total[0, -1] / draws),
        active=int((terms.kl > ACTIVE_KL).sum()),
        obstacle=obstacle,
    )


def saddles(
    objective: FullBatch, theta: Tensor, kl: np.ndarray[tuple[int], np.dtype[np.float64]], decoder_log_var: float
) -> dict[int, float]:
    """Return the collapsed latents that linear theory says could be active, each with what it would gain at first.

    The errors x − μ(ν(x)) have the largest eigenvalue λ. Where λ > σ², a latent along that direction would have the
    divergence ½ ln(λ/σ²); one with less than half of it sits at a saddle.

    Args:
        objective: of the replica.
        theta: its parameters.
        kl: KL_h in nats, shape (H,).
        decoder_log_var: ln σ².
    """
    largest = float(np.linalg.eigvalsh(objective.covariance(theta))[-1])
    variance = float(np.exp(decoder_log_var))
    if (kl < ACTIVE_KL).all() and largest >= variance * (1 - NEARLY):
        # Everything is collapsed at a matched variance: λ is at σ² or above it, the mean of all eigenvalues.
        return {h: escape_gain(largest, variance) for h in range(len(kl))}
    if largest <= variance * (1 + _MARGIN):
        return {}
    reachable = 0.5 * np.log(largest / variance)
    collapsed = (kl < 0.5 * reachable) & (kl < ACTIVE_KL)
    return {int(h): escape_gain(largest, variance) for h in np.flatnonzero(collapsed)}


def _tried(objective: FullBatch, theta: Tensor) -> tuple[float, float]:
    """Return what some full-batch steps gain from here, on a copy of the parameters, with its standard error.

    Where the ELBO is sampled, the gain is that on samples other than those of the steps, which may fit their own.
    """
    tensors = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        polish = Polish(objective, {**tensors, **objective.tensors(theta)}, closed_form=False)
        for _ in range(WINDOW):
            polish.step()
    if objective.is_exact:
        return polish.values[-1] - polish.values[0], 0.0
    return objective.paired_gain(theta, polish.theta, "tried")
