"""Importance-weighted bounds on ln p(x), and what tells how far to trust them. NumPy in, NumPy out.

With samples z_i ~ q(z|x), i = 1 … k, and the log-weights l_i = ln p(x|z_i) + ln p(z_i) − ln q(z_i|x),

    L_k(x) = ln (1/k) Σ_i e^{l_i},    ELBO(x) = E L_1 ≤ E L_k ≤ E L_{k+1} ≤ ln p(x).

All quantities are in nats per point. N points, K samples of each.

Sources: Burda, Grosse and Salakhutdinov 2016 (the bounds); Nowozin 2018 (the jackknife); Vehtari, Simpson, Gelman,
Yao and Gabry 2024 (Pareto k̂); Zhang and Stephens 2009 (its estimate); Grosse, Ghahramani and Adams 2015 (the upper
bound on simulated data); Talts et al. 2018 and Yao et al. 2018 (calibration).
"""

from __future__ import annotations

import math
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

__all__ = [
    "Calibration",
    "Mean",
    "bound",
    "calibration",
    "effective_sample_size",
    "jackknife",
    "mean_of",
    "monte_carlo_variance",
    "pareto_limit",
    "pareto_shape",
    "upper_bound",
]

Array = npt.NDArray[Any]

_FEWEST_IN_TAIL: Final = 5
_PRIOR_WEIGHT: Final = 10
"""The estimate of k̂ is drawn towards ½ as if by that many further values in the tail (Vehtari et al. 2024)."""
_VALUES_AT_ONCE: Final = 1 << 22


@attrs.frozen
class Mean:
    """An average over points with its standard error.

    Args:
        value: the average.
        standard_error: sd/√N; not a number for a single point.
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.standard_error:.4f}"


def mean_of(values: Array) -> Mean:
    """Return the average over points with its standard error sd/√N.

    For bounds, the scatter over points holds the Monte-Carlo part too.

    Args:
        values: one per point, shape (N,).

    Example:
        >>> import numpy as np
        >>> print(mean_of(np.array([1.0, 2.0, 3.0])))
        2.0000 ± 0.5774
    """
    values = np.asarray(values, dtype=np.float64)
    count = len(values)
    error = float(values.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    return Mean(float(values.mean()), error)


def bound(log_weights: Array, samples: int | None = None) -> Array:
    """Return the importance-weighted bound L_k(x) of each point, shape (N,).

    For k < K it is the average of L_k over the K // k disjoint blocks of k samples, so that bounds at several k come
    from the same weights. k = 1 gives the ELBO.

    Args:
        log_weights: l_i, shape (N, K).
        samples: k, 1 … K; K by default.

    Raises:
        ValueError: k is not in 1 … K.

    Example:
        >>> import numpy as np
        >>> log_weights = np.log([[1.0, 3.0]])
        >>> bound(log_weights).round(4), bound(log_weights, samples=1).round(4)  # ln 2, and the ELBO
        (array([0.6931]), array([0.5493]))
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    available = log_weights.shape[-1]
    samples = available if samples is None else samples
    if not 1 <= samples <= available:
        raise ValueError(f"samples: got {samples}; expected 1 … {available}, the number of weights per point")
    blocks = log_weights[:, : available // samples * samples].reshape(len(log_weights), -1, samples)
    return np.asarray((_log_sum(blocks) - math.log(samples)).mean(-1))


def effective_sample_size(log_weights: Array) -> Array:
    """Return 1/Σ w̃_i², w̃ = softmax(l), of each point, shape (N,): from 1 to K.

    It tends to K/(1 + χ²(posterior ‖ q)), but knows nothing of what was not sampled: see `pareto_shape`.

    Args:
        log_weights: l_i, shape (N, K).

    Example:
        >>> import numpy as np
        >>> effective_sample_size(np.zeros((1, 10))).round(6)
        array([10.])
    """
    return np.asarray(1 / np.square(_normalised(log_weights)).sum(-1))


def monte_carlo_variance(log_weights: Array) -> Array:
    """Return the Monte-Carlo variance of L_K(x), (1/ESS − 1/K) K/(K − 1), of each point, shape (N,).

    Half of it is, to first order, the bias that is left: ln p(x) − E L_K(x) ≈ v/2.

    Args:
        log_weights: l_i, shape (N, K), K ≥ 2.

    Example:
        >>> import numpy as np
        >>> monte_carlo_variance(np.zeros((1, 10))).round(6)
        array([0.])
    """
    count = np.shape(log_weights)[-1]
    if count < 2:
        raise ValueError(f"log_weights: got {count} per point; expected 2 or more")
    variance = (1 / effective_sample_size(log_weights) - 1 / count) * count / (count - 1)
    return np.asarray(np.maximum(variance, 0.0))


def jackknife(log_weights: Array) -> Array:
    """Return the jackknife estimate of ln p(x), K L_K − (K − 1) mean_i L_{K−1}^{(−i)}, of each point, shape (N,).

    Its bias is O(K⁻²) (Nowozin 2018, JVI-1). It is an estimate, not a bound.

    Args:
        log_weights: l_i, shape (N, K), K ≥ 2.

    Example:
        >>> import numpy as np
        >>> jackknife(np.ones((1, 10))).round(6)
        array([1.])
    """
    weights = _normalised(log_weights)
    count = weights.shape[-1]
    if count < 2:
        raise ValueError(f"log_weights: got {count} per point; expected 2 or more")
    largest = weights.argmax(-1)[:, None]
    others = weights.copy()
    np.put_along_axis(others, largest, 0.0, axis=-1)
    left = 1.0 - weights
    # 1 − w̃ of the largest weight cancels where it carries all: the sum of the others does not.
    np.put_along_axis(left, largest, others.sum(-1, keepdims=True), axis=-1)
    with np.errstate(divide="ignore"):
        without = np.log(left) + math.log(count / (count - 1))  # L_{K−1}^{(−i)} − L_K
    return np.asarray(bound(log_weights) - (count - 1) * without.mean(-1))


def pareto_limit(samples: int) -> float:
    """Return the k̂ above which k samples are too few, min(1 − 1/log₁₀ k, 0.7) (Vehtari et al. 2024).

    Args:
        samples: k ≥ 2.

    Example:
        >>> round(pareto_limit(100), 3), round(pareto_limit(10_000), 3)
        (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(samples), 0.7) if samples > 1 else -math.inf


def pareto_shape(log_weights: Array) -> Array:
    """Return Pareto k̂ of each point, shape (N,): how heavy the tail of its weights is.

    A generalised Pareto distribution is fitted to the min(K/5, 3√K) largest weights. The variance of the weights is
    finite for k̂ < ½. For q = N(ν, r τ²) about a posterior N(ν, τ²) in one dimension the tail has the shape 1 − r.
    It is −∞ where the weights do not differ, and not a number where the tail has fewer than 5 values.

    Args:
        log_weights: l_i, shape (N, K).

    Example:
        >>> import numpy as np
        >>> pareto_shape(np.zeros((1, 100)))  # weights that do not differ
        array([-inf])
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    count = log_weights.shape[-1]
    tail = int(min(0.2 * count, 3 * math.sqrt(count)))
    if tail < _FEWEST_IN_TAIL:
        return np.full(len(log_weights), np.nan)
    largest = np.sort(np.partition(log_weights, count - tail - 1, axis=-1)[:, count - tail - 1 :], axis=-1)
    relative = np.exp(largest - largest[:, -1:])
    exceedances = relative[:, 1:] - relative[:, :1]
    grid = 30 + int(math.sqrt(tail))
    at_once = max(1, _VALUES_AT_ONCE // (tail * grid))
    parts = [_pareto_fit(exceedances[first : first + at_once], grid) for first in range(0, len(exceedances), at_once)]
    return np.concatenate(parts) if parts else np.empty(0)


def upper_bound(log_weights: Array, log_weight_of_truth: Array) -> Array:
    """Return an upper bound on ln p(x) of simulated points, in expectation, shape (N,).

    For x simulated together with its latent z* from the model, z* is an exact sample of the posterior. With it in the
    place of one of the K samples of q, E L_K ≥ ln p(x). On simulated points L_K and this value bracket ln p(x).

    Args:
        log_weights: l_i of samples of q, shape (N, K).
        log_weight_of_truth: ln p(x|z*) + ln p(z*) − ln q(z*|x), shape (N,).

    Example:
        >>> import numpy as np
        >>> upper_bound(np.zeros((1, 4)), np.array([0.0])).round(6)
        array([0.])
    """
    weights = np.array(log_weights, dtype=np.float64)
    weights[:, 0] = log_weight_of_truth
    return bound(weights)


@attrs.frozen(eq=False)
class Calibration:
    """Whether an encoder covers the latents that made the points: 0 and 1 for the exact posterior.

    Args:
        mean: average of (z_h − ν_h)/τ_h, shape (H,).
        mean_standard_error: shape (H,).
        square: average of (z_h − ν_h)²/τ²_h, shape (H,); above 1 where q is too narrow or misplaced.
        square_standard_error: shape (H,).
    """

    mean: Array
    mean_standard_error: Array
    square: Array
    square_standard_error: Array


def calibration(latents: Array, mean: Array, variance: Array) -> Calibration:
    """Return how the latents that made simulated points lie in q(z|x) = N(ν, diag τ²).

    Args:
        latents: z ~ p(z), shape (N, H), N ≥ 2.
        mean: ν(x) of x ~ p(x|z), shape (N, H).
        variance: τ²(x), shape (N, H).

    Example:
        >>> import numpy as np
        >>> found = calibration(np.array([[-1.0], [1.0]]), np.zeros((2, 1)), np.ones((2, 1)))
        >>> found.mean, found.square
        (array([0.]), array([1.]))
    """
    standardised = (np.asarray(latents) - mean) / np.sqrt(variance)
    root = math.sqrt(len(standardised))
    squares = np.square(standardised)
    return Calibration(
        standardised.mean(0),
        standardised.std(0, ddof=1) / root,
        squares.mean(0),
        squares.std(0, ddof=1) / root,
    )


def _log_sum(values: Array) -> Array:
    """Return ln Σ e^v over the last axis; −∞ where all are."""
    highest = values.max(-1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(values - highest).sum(-1)) + highest[..., 0])


def _normalised(log_weights: Array) -> Array:
    log_weights = np.asarray(log_weights, dtype=np.float64)
    weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _pareto_fit(exceedances: Array, grid: int) -> Array:
    """Return k̂ of ascending exceedances by Zhang and Stephens (2009), shape (N,).

    Args:
        exceedances: shape (N, M).
        grid: how many values of their parameter θ the posterior is averaged over.
    """
    count = exceedances.shape[-1]
    largest, quartile = exceedances[:, -1], exceedances[:, int(count / 4 + 0.5) - 1]
    differ = (quartile > 0) & np.isfinite(largest)
    safe = np.where(differ[:, None], exceedances, np.arange(1.0, count + 1) / count)
    largest, quartile = safe[:, -1], safe[:, int(count / 4 + 0.5) - 1]
    thetas = 1 / largest[:, None] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile[:, None])
    shapes = np.log1p(-thetas[..., None] * safe[:, None]).mean(-1)
    log_posterior = count * (np.log(-thetas / shapes) - shapes - 1)
    posterior = np.exp(log_posterior - log_posterior.max(-1, keepdims=True))
    theta = (thetas * posterior).sum(-1) / posterior.sum(-1)
    shape = np.log1p(-theta[:, None] * safe).mean(-1)
    drawn = (count * shape + _PRIOR_WEIGHT * 0.5) / (count + _PRIOR_WEIGHT)
    return np.asarray(np.where(differ, drawn, -np.inf))
