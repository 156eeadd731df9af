"""How many latents probabilistic PCA itself would choose: its maximum likelihood, BIC, and Minka's evidence.

With the covariance's eigenvalues λ_1 ≥ … ≥ λ_D over N points, a model with q latents has σ² = Σ_{i>q} λ_i / (D − q)
and, per point,

    ℓ_q = −½ [D ln 2π + Σ_{i≤q} ln λ_i + (D − q) ln σ² + D].

Sources: Tipping and Bishop 1999; Minka 2000, "Automatic choice of dimensionality for PCA", equations 76 to 78.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from elboverse.theory import identities

__all__ = ["bayesian_information_criterion", "laplace_evidence", "maximum_log_likelihood"]

Array = npt.NDArray[Any]


def maximum_log_likelihood(eigenvalues: Array, latents: int) -> float:
    """Return ℓ_q in nats per point; −∞ or ∞ never: where no spread is left over, σ² is the least positive eigenvalue.

    Args:
        eigenvalues: λ of the covariance divided by N, falling, shape (D,), at least one of them positive.
        latents: q, 0 ≤ q < D.
    """
    dimension = len(eigenvalues)
    positive = np.maximum(eigenvalues, _least(eigenvalues))
    variance = float(positive[latents:].mean())
    logarithms = float(np.log(positive[:latents]).sum()) + (dimension - latents) * math.log(variance)
    return -0.5 * (dimension * identities.LOG_2PI + logarithms + dimension)


def bayesian_information_criterion(eigenvalues: Array, points: int, latents: int) -> float:
    """Return −2 N ℓ_q + m ln N; the least is best.

    The free parameters are the mean's D, the D q − q (q − 1) / 2 of the loadings up to rotation, and σ².

    Args:
        eigenvalues: λ, falling, shape (D,).
        points: N.
        latents: q, 0 ≤ q < D.
    """
    dimension = len(eigenvalues)
    parameters = dimension + dimension * latents - latents * (latents - 1) // 2 + 1
    return -2 * points * maximum_log_likelihood(eigenvalues, latents) + parameters * math.log(points)


def laplace_evidence(eigenvalues: Array, points: int, latents: int) -> float:
    """Return Minka's ln p(data | q) by Laplace's method, up to a constant; the largest is best.

    Args:
        eigenvalues: λ, falling, shape (D,).
        points: N.
        latents: q, 1 ≤ q < D.
    """
    dimension, q = len(eigenvalues), latents
    values = np.maximum(eigenvalues, _least(eigenvalues))
    variance = float(values[q:].mean())
    sizes = (dimension - np.arange(q)) / 2
    log_volume = -q * math.log(2) + sum(math.lgamma(size) - size * math.log(math.pi) for size in sizes)
    free = dimension * q - q * (q + 1) // 2
    shown = np.where(np.arange(dimension) < q, values, variance)
    first, second = np.triu_indices(dimension, 1)
    kept = first < q
    first, second = first[kept], second[kept]
    curvature = np.log(np.maximum(1 / shown[second] - 1 / shown[first], 1e-300)).sum()
    curvature += np.log(np.maximum(values[first] - values[second], 1e-300)).sum() + len(first) * math.log(points)
    return float(
        log_volume
        - 0.5 * points * np.log(values[:q]).sum()
        - 0.5 * points * (dimension - q) * math.log(variance)
        + 0.5 * (free + q) * math.log(2 * math.pi)
        - 0.5 * curvature
        - 0.5 * q * math.log(points)
    )


def _least(eigenvalues: Array) -> float:
    return max(1e-12 * float(eigenvalues[0]), float(np.finfo(np.float64).tiny))
