"""Mutual information of points and latents, from a sample of encoders. NumPy in, NumPy out.

    I(x; z) = E_x KL(q(z|x) ‖ p(z)) − KL(q̄ ‖ p) = E [ln q(z|x) − ln q̄(z)],   q̄(z) = E_x q(z|x).

Source: Hoffman and Johnson 2016 (ELBO surgery).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from elboverse.theory.importance import Mean, mean_of

__all__ = ["mutual_information"]

Array = npt.NDArray[Any]

_LOG_2PI: Final = math.log(2 * math.pi)
_ROWS_AT_ONCE: Final = 256


def mutual_information(means: Array, variances: Array, noise: Array) -> Mean:
    """Return I(x; z) of all latents together in nats, with its standard error over points.

    q̄ is the mixture of the M encoders given. Since each z_n comes from one of them, no estimate exceeds ln M by more
    than its noise.

    Args:
        means: ν(x), shape (M, H).
        variances: τ²(x), shape (M, H).
        noise: N(0, 1), shape (M, H).
    """
    means, variances = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    z = means + np.sqrt(variances) * noise
    precision = 1 / variances
    constant = -0.5 * (np.log(variances) + _LOG_2PI + np.square(means) * precision).sum(1)
    own = -0.5 * (np.log(variances) + _LOG_2PI + np.square(noise)).sum(1)
    aggregate = np.empty(len(z))
    for first in range(0, len(z), _ROWS_AT_ONCE):
        rows = z[first : first + _ROWS_AT_ONCE]
        exponents = constant - 0.5 * np.square(rows) @ precision.T + rows @ (means * precision).T
        largest = exponents.max(1)
        total = np.exp(exponents - largest[:, None]).mean(1)
        aggregate[first : first + len(rows)] = largest + np.log(total)
    return mean_of(own - aggregate)
