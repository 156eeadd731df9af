"""``animate``: latent space and data space through training, from the frames that the run recorded.

A frame has, of always the same points, the encoder's means and variances and the reconstructions μ(ν(x)), and the
decoded means μ(z) of always the same z from the prior. It is drawn beside the ELBO and the entropy sum, whose curves
meet while the latent space unfolds. How many frames there are is a setting of the training, `training.frames`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.animation import FASTEST_GIF
from elboverse.analysis.reading import Reading, plural
from elboverse.analysis.trained_reading import OneReplicaOptions
from elboverse.builtin.analyses.animate.numbers import Film, read_film
from elboverse.config.structuring import in_range
from elboverse.contracts import Result

if TYPE_CHECKING:
    from matplotlib.animation import Animation
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["AnimateOptions", "build"]

_MOST_ROWS: Final = 11


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
    film = read_film(reading, options.replica)

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
