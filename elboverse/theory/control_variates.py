"""Residuals as control variates of the ELBO: quantities of the mean 0 that scatter along with it. NumPy in, NumPy out.

At a stationary point the residuals R = (R_dec, R_1, …, R_H) of a point have the mean 0 (docs/theory.md). So

    ELBO(x) − a · R(x)

has the mean of the ELBO whatever a is, and the least variance, Var[ELBO] (1 − ρ²), ρ the multiple correlation of the
ELBO with R, where a = Cov[R]⁻¹ Cov[R, ELBO] are the regression coefficients. a = 1 gives the entropy sum. Elsewhere the
mean is off by −a · E R, so that away from stationary points none of this may be used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

__all__ = ["ControlVariates", "fit_control_variates", "residual_names"]

Array = npt.NDArray[Any]

TOLERANCE: Final = 0.02
"""Relative mismatch of a variance that still counts as stationary, as in the analysis `stationarity`."""

_RANK: Final = 1e-8
_ZERO: Final = 1e-12


@attrs.frozen(eq=False)
class ControlVariates:
    """Coefficients, and what they were fitted to.

    Args:
        coefficients: a, shape (1 + H,).
        means: of the residuals, which a stationary point has at 0, shape (1 + H,).
        standard_errors: of these, shape (1 + H,).
        tolerances: below which a mean counts as 0, shape (1 + H,).
        correlation: ρ², the share of the ELBO's variance that the residuals explain.
    """

    coefficients: Array
    means: Array
    standard_errors: Array
    tolerances: Array
    correlation: float

    @property
    def moving(self) -> Array:
        """Numbers of the residuals that are not 0: |mean| − 2 SE above the tolerance."""
        return np.flatnonzero(~(np.abs(self.means) - 2 * self.standard_errors <= self.tolerances))

    @property
    def is_stationary(self) -> bool:
        """Whether every residual has the mean 0, as far as is known, so that the estimate is that of the ELBO."""
        return not len(self.moving)

    @property
    def shift(self) -> float:
        """What the means, as far as they are not 0, move the mean of the estimate by: −a · E R."""
        return -float(self.coefficients @ self.means)

    def estimate(self, elbo: Array, residuals: Array) -> Array:
        """Return ELBO − a · R, of the shape of `elbo`.

        Args:
            elbo: any shape.
            residuals: the same shape and an axis 1 + H.
        """
        return np.asarray(elbo - residuals @ self.coefficients)


def fit_control_variates(elbo: Array, residuals: Array, dimension: int) -> ControlVariates:
    """Return the regression of the ELBO on the residuals; those that are constant get the coefficient 0.

    Args:
        elbo: of points or batches, other ones than those that are to be estimated from, shape (N,).
        residuals: R_dec and R_h of the same, shape (N, 1 + H).
        dimension: D, for the tolerance of R_dec, 0.02 · D/2.

    Raises:
        ValueError: there are no more rows than residuals, so that the regression would explain anything.
    """
    count, width = residuals.shape
    if count <= width + 1:
        raise ValueError(f"residuals: got {count} rows; expected more than {width + 1}")
    means = residuals.mean(0)
    centred, target = residuals - means, elbo - elbo.mean()
    spread = centred.std(0)
    used = spread > _ZERO * np.maximum(1.0, np.abs(means))
    coefficients = np.zeros(width)
    if used.any():
        # In units of their spread, so that the rank is not decided by which residual is large.
        found, *_ = np.linalg.lstsq(centred[:, used] / spread[used], target, rcond=_RANK)
        coefficients[used] = found / spread[used]
    left, whole = float(np.square(target - centred @ coefficients).sum()), float(np.square(target).sum())
    return ControlVariates(
        coefficients,
        means,
        spread / math.sqrt(count - 1),
        TOLERANCE * np.array([0.5 * dimension, *[0.5] * (width - 1)]),
        1 - left / whole if whole > 0 else 0.0,
    )


def residual_names(numbers: Sequence[int] | Array) -> list[str]:
    """Return the names of residuals: ``R_dec`` for number 0, ``R_0``, ``R_1`` … of the latents after it."""
    return ["R_dec" if number == 0 else f"R_{number - 1}" for number in map(int, numbers)]
