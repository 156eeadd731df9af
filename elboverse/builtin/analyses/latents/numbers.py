"""Where a trained model puts its points in latent space, and the density that they make together."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.groups import Groups
from elboverse.analysis.reading import Array

__all__ = ["Encoded", "aggregate_density"]

_GRID: Final = 160


_MOST_MIXED: Final = 5000


@attrs.frozen(eq=False)
class Encoded:
    """The encoder's Gaussians of M points.

    Args:
        means: ν_h(x), shape (M, H).
        variances: τ²_h(x), shape (M, H).
        prior_variance: α²_h, shape (H,).
        drop_threshold: entropy drop in nats below which a latent is collapsed.
        groups: what the points are coloured by; None for nothing.
    """

    means: Array
    variances: Array
    prior_variance: Array
    drop_threshold: float
    groups: Groups | None = None

    @property
    def mean_square(self) -> Array:
        """⟨ν²_h⟩/α²_h, shape (H,)."""
        return np.asarray(np.square(self.means).mean(0) / self.prior_variance)

    @property
    def mean_variance(self) -> Array:
        """⟨τ²_h⟩/α²_h, shape (H,)."""
        return np.asarray(self.variances.mean(0) / self.prior_variance)

    @property
    def entropy_drop(self) -> Array:
        """½ ln α²_h − ½⟨ln τ²_h⟩ in nats, shape (H,)."""
        return np.asarray(0.5 * (np.log(self.prior_variance) - np.log(self.variances).mean(0)))

    @property
    def collapsed(self) -> Array:
        """Which latents have collapsed, shape (H,)."""
        return np.asarray(self.entropy_drop < self.drop_threshold)

    @property
    def order(self) -> Array:
        """The latents, that of the largest entropy drop first, shape (H,)."""
        return np.argsort(-self.entropy_drop, kind="stable")


def aggregate_density(encoded: Encoded, half_width: float) -> tuple[Array, Array]:
    """Return the density of the aggregate encoder, mean_n N(z; ν(x_n), diag τ²(x_n)), on a grid; for H = 2.

    Args:
        encoded: what is mixed; the first 5,000 points.
        half_width: the grid spans ± that many α_h.

    Returns:
        The values of z_h/α_h along each axis, shape (G,), and the density of z/α, shape (G, G), the second latent
        along the first axis.
    """
    axis = np.linspace(-half_width, half_width, _GRID)
    scale = np.sqrt(encoded.prior_variance)
    means = encoded.means[:_MOST_MIXED] / scale
    deviations = np.sqrt(encoded.variances[:_MOST_MIXED]) / scale
    deviations = np.maximum(deviations, 0.5 * (axis[1] - axis[0]))  # a spike between two nodes would be lost
    factors = np.exp(-0.5 * np.square((axis - means[..., None]) / deviations[..., None])) / (
        np.sqrt(2 * np.pi) * deviations[..., None]
    )
    return axis, factors[:, 1].T @ factors[:, 0] / len(means)
