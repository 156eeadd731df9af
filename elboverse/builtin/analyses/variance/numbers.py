"""Estimates of the bounds from few points, again and again."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array
from elboverse.theory.control_variates import ControlVariates

__all__ = ["PAIRS", "Estimates"]

PAIRS: Final = (
    ("ELBO", "entropy sum"),
    ("−KL", "encoder − prior entropy"),
    ("log-likelihood", "−decoder entropy"),
)
"""What is estimated, the terms of the ELBO and those of the entropy sum that they converge to."""


@attrs.frozen(eq=False)
class Estimates:
    """Estimates of the six quantities of `PAIRS`, pair by pair, in nats per point.

    Args:
        sizes: numbers of points, shape (S,).
        values: shape (S, draws, 6).
        control: of the residuals as control variates; None where there are too few points to fit them.
        controlled: ELBO − a · R, shape (S, draws); None likewise, and away from stationary points.
    """

    sizes: Array
    values: Array
    control: ControlVariates | None = None
    controlled: Array | None = None

    @property
    def means(self) -> Array:
        """Over the draws, shape (S, 6)."""
        return np.asarray(self.values.mean(1))

    @property
    def deviations(self) -> Array:
        """Standard deviations over the draws, dividing by draws − 1, shape (S, 6); rounding errors count as 0."""
        found = self.values.std(1, ddof=1)
        return np.where(found > 1e-12 * np.abs(self.means), found, 0.0)

    @property
    def controlled_deviations(self) -> Array:
        """Standard deviations of ELBO − a · R over the draws, shape (S,); rounding errors count as 0."""
        if self.controlled is None:
            raise ValueError("there are no control variates away from stationary points")
        found = self.controlled.std(1, ddof=1)
        return np.where(found > 1e-9 * np.abs(self.controlled.mean(1)), found, 0.0)
