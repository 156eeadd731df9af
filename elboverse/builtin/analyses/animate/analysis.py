"""``animate``: latent space and data space through training, from the frames that the run recorded.

A frame has, of always the same points, the encoder's means and variances and the reconstructions μ(ν(x)), and the
decoded means μ(z) of always the same z from the prior. It is drawn beside the ELBO and the entropy sum, whose curves
meet while the latent space unfolds. How many frames there are is a setting of the training, `training.frames`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.animation import FASTEST_GIF
from elboverse.analysis.curves import moving_average
from elboverse.analysis.final_latents import final_latents
from elboverse.analysis.reading import Array, Reading, at, plural
from elboverse.analysis.trained_reading import OneReplicaOptions
from elboverse.config.structuring import in_range
from elboverse.contracts import Result, is_image
from elboverse.errors import AnalysisError
from elboverse.theory import identities

if TYPE_CHECKING:
    from matplotlib.animation import Animation
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["AnimateOptions", "Curves", "Film", "build"]

_MOST_ROWS: Final = 11
_WINDOW: Final = 100


@attrs.frozen(kw_only=True)
class AnimateOptions(OneReplicaOptions):
    """Options of `animate`.

    Args:
        rate: frames per second.
    """

    animated: ClassVar[bool] = True

    rate: int = attrs.field(
        default=10,
        validator=in_range(minimum=1, maximum=60),
        metadata={"help": "Frames per second of a GIF, at most 50, or an MP4."},
    )


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


def build(options: AnimateOptions, run: Run) -> Result:
    """Return the frames as numbers: how the reconstructions and the shown latents change.

    The keys of `Result.data`: ``replica``; ``points`` in latent space and ``points_shown`` in data space;
    ``latents``, the numbers of those that are drawn; and ``frames``, a list with ``step``, ``epoch``, ``elbo`` and
    ``entropy_sum`` of training (moving averages at the recorded step that is the nearest, in nats per point), and
    ``root_mean_squared_error`` of the reconstructions in data units, and in a list ``latents``, for every shown one,
    ``mean_deviation``, the standard deviation of ν over the points, and ``root_mean_variance``, that of the mean τ².

    Args:
        options: replica and rate.
        run: one that was trained with `training.frames`.

    Raises:
        AnalysisError: it has no frames, or no such replica.
    """
    reading = Reading(run, options.replica)
    film = _read(reading, options.replica)

    def draw() -> Figure:
        from elboverse.builtin.analyses.animate.figure import draw_sheet  # matplotlib, which only a figure needs

        return draw_sheet(film)

    def animate() -> tuple[Animation, int]:
        from elboverse.builtin.analyses.animate.figure import animate  # matplotlib, which only a figure needs

        return animate(film, options.rate), options.rate

    frames = [_frame(reading, film, number) for number in range(len(film.steps))]
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_ROWS)).round().astype(np.int64))
    described = reading.described() if run.replicas > 1 else Reading(run).described()
    return Result(
        title=f"Frames of the training: {described}",
        columns=(
            *("step", "epoch", "ELBO", "entropy sum", "RMS error of reconstructions"),
            *(head for latent in film.shown for head in (f"SD of ν, latent {latent}", f"τ, latent {latent}")),
        ),
        rows=[_row(frames[number]) for number in chosen],
        notes=_notes(reading, film, options.rate),
        data={
            "replica": options.replica,
            "points": film.means.shape[1],
            "points_shown": len(film.data),
            "latents": list(film.shown),
            "frames": frames,
        },
        draw=draw,
        animate=animate,
    )


def _read(reading: Reading, replica: int) -> Film:
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


def _frame(reading: Reading, film: Film, number: int) -> dict[str, Any]:
    step, curves = int(film.steps[number]), film.curves
    row = None if curves is None else curves.row(step)
    error = np.square(film.reconstructions[number] - film.data).mean()
    return {
        "step": step,
        "epoch": reading.epoch(step),
        "elbo": None if curves is None else float(curves.elbo[row]),
        "entropy_sum": None if curves is None else float(curves.entropy_sum[row]),
        "root_mean_squared_error": float(np.sqrt(error)),
        "latents": [
            {
                "mean_deviation": float(film.means[number, :, latent].std(dtype=np.float64)),
                "root_mean_variance": float(np.sqrt(film.variances[number, :, latent].mean(dtype=np.float64))),
            }
            for latent in film.shown
        ],
    }


def _row(frame: dict[str, Any]) -> tuple[Any, ...]:
    return (
        frame["step"],
        None if frame["epoch"] is None else round(frame["epoch"], 2),
        *(frame[name] for name in ("elbo", "entropy_sum", "root_mean_squared_error")),
        *(value for latent in frame["latents"] for value in latent.values()),
    )


def _notes(reading: Reading, film: Film, rate: int) -> list[str]:
    frames, points = plural(len(film.steps), "frame"), plural(film.means.shape[1], "point")
    notes = [f"{frames} of {points}; ELBO and entropy sum are moving averages of training."]
    if len(film.data) < film.means.shape[1]:
        notes.append(f"The first {len(film.data):,} of the points are shown in data space.")
    if film.means.shape[2] > len(film.shown):
        notes.append(
            f"Of {film.means.shape[2]} latents, two are shown, those of the largest entropy drop: "
            f"{film.shown[0]} and {film.shown[1]}."
        )
    notes.append("The animation itself: --figure with a file that ends in .gif or .mp4; other endings give a sheet.")
    if rate > FASTEST_GIF:
        notes.append(
            f"A GIF is played at {FASTEST_GIF} frames per second, the most that it can; give an .mp4 for {rate}."
        )
    return notes + reading.caveats()
