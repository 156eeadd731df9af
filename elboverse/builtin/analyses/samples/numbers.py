"""Samples and reconstructions of a trained model."""

from __future__ import annotations

import attrs
import numpy as np

from elboverse.analysis.reading import Array

__all__ = ["Samples"]


@attrs.frozen(eq=False)
class Samples:
    """Points in data units, n of each kind, shape (n, D).

    Args:
        data: the first held-out points.
        reconstructions: of these, μ(ν(x)).
        samples: x ~ p(x|z), z ~ p(z).
        sample_means: μ(z) for the same z.
        names: of the dimensions, length D.
        unit: of the values; empty if they have none.
        image_shape: of a point that is an image; None if it is none.
    """

    data: Array
    reconstructions: Array
    samples: Array
    sample_means: Array
    names: tuple[str, ...]
    unit: str
    image_shape: tuple[int, ...] | None

    @property
    def squared_error(self) -> Array:
        """(x_d − μ_d(ν(x)))², averaged over the points, shape (D,)."""
        return np.asarray(np.square(self.data - self.reconstructions).mean(0))
