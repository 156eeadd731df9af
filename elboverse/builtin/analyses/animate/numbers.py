"""What ``animate`` shows: the frames and the curves beside them, read from a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import attrs
import numpy as np

from elboverse.analysis.curves import moving_average
from elboverse.analysis.final_latents import final_latents
from elboverse.analysis.reading import Array, Reading, at
from elboverse.contracts import is_image
from elboverse.errors import AnalysisError
from elboverse.theory import identities

__all__ = ["Curves", "Film", "read_film"]

_WINDOW: Final = 100


@attrs.frozen(eq=False, kw_only=True)
class Curves:
    """What was recorded of each step, averaged over some of them, in nats per point.

    Args:
        steps: shape (T,).
        elbo: shape (T,).
        entropy_sum: shape (T,).
        prior_variance: α², not averaged, shape (T, H).
    """

    steps: Array
    elbo: Array
    entropy_sum: Array
    prior_variance: Array

    def row(self, step: int) -> int:
        """Return the row of the recorded step that is the nearest to a number of updates."""
        return int(np.abs(self.steps - step).argmin())


@attrs.frozen(eq=False, kw_only=True)
class Film:
    """The frames of one replica, F in number.

    Args:
        steps: number of updates before each, shape (F,).
        means: ν of M points, shape (F, M, H).
        variances: τ² of these, shape (F, M, H).
        data: the first Q of the points, in data units, shape (Q, D).
        reconstructions: of these, shape (F, Q, D).
        samples: μ(z) of Q latents from the prior, shape (F, Q, D).
        shown: the latents that are drawn, one or two: those of the largest entropy drop.
        names: of the dimensions, length D.
        unit: of the data; empty if they have none.
        image_shape: of a point that is an image; None if it is none.
        curves: what was recorded; None if no step was.
    """

    steps: Array
    means: Array
    variances: Array
    data: Array
    reconstructions: Array
    samples: Array
    shown: tuple[int, ...]
    names: tuple[str, ...]
    unit: str
    image_shape: tuple[int, ...] | None
    curves: Curves | None

    def prior_variance(self, frame: int) -> Array:
        """Return α² of the shown latents at a frame; 1 where nothing was recorded."""
        if self.curves is None:
            return np.ones(len(self.shown))
        return np.asarray(self.curves.prior_variance[self.curves.row(int(self.steps[frame])), list(self.shown)])


def read_film(reading: Reading, replica: int) -> Film:
    """Return the frames of a replica and the curves beside them.

    Raises:
        AnalysisError: no frames are recorded.
    """
    run = reading.run
    if run.frames is None:
        raise AnalysisError(
            f"{run.path}: no frames are recorded, and animate shows them; train with --set training.frames=50, say"
        )
    data = run.frames.data(replica).astype(np.float64)
    shown: Sequence[int] = range(min(2, run.latent_dim))
    if run.latent_dim > 2 and (len(run.steps) or any(reading.evaluated(split) for split in run.splits)):
        shown = sorted(int(latent) for latent in final_latents(reading).order[0, :2])
    dimension, unit = data.shape[1], at(run.data, "unit")
    return Film(
        steps=run.frames.step,
        means=run.frames.read("latent_mean", replica),
        variances=run.frames.read("latent_variance", replica),
        data=data,
        reconstructions=run.frames.read("reconstruction", replica),
        samples=run.frames.read("sample_mean", replica),
        shown=tuple(shown),
        names=_names(at(run.data, "names"), dimension),
        unit=unit if isinstance(unit, str) else "",
        image_shape=_image_shape(at(run.data, "shape"), dimension),
        curves=_curves(reading) if len(run.steps) else None,
    )


def _names(names: Any, dimension: int) -> tuple[str, ...]:
    """Return what a document calls the dimensions; x0, x1, … where it has no text for each of them."""
    if isinstance(names, list) and len(names) == dimension and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(f"x{number}" for number in range(dimension))


def _image_shape(shape: Any, dimension: int) -> tuple[int, ...] | None:
    """Return what a document has as the shape of an image with so many numbers; None where it has none."""
    if not isinstance(shape, list) or not all(isinstance(size, int) and size > 0 for size in shape):
        return None
    return tuple(shape) if is_image(shape) and math.prod(shape) == dimension else None


def _curves(reading: Reading) -> Curves:
    steps = reading.run.steps
    window = max(1, min(_WINDOW, int(steps[-1] - steps[0] + 1) // 50))
    elbo, entropy_sum = (
        moving_average(steps, reading.series(name)[:, 0].astype(np.float64), window) for name in ("elbo", "entropy_sum")
    )
    # Of a prior that is not a diagonal Gaussian, the variance of a Gaussian with its entropy; 1 where it has none.
    entropy = reading.series("prior_entropy")[:, 0].astype(np.float64)
    variance = np.exp(2 * (entropy - identities.STANDARD_NORMAL_ENTROPY))
    variance = np.where(np.isfinite(variance), variance, 1.0)
    return Curves(steps=steps, elbo=elbo, entropy_sum=entropy_sum, prior_variance=variance)
