"""``bounds``: the ELBO, the entropy sum that it converges to, and the held-out ELBO, through training.

At every stationary point of a Gaussian VAE with a learned decoder variance the ELBO equals a sum of entropies; here
one sees how soon. The relative difference is 100·(ELBO − H_sum)/|final ELBO| in %, as the paper plots it, but signed.

Source: Damm et al., AISTATS 2023, Theorems 1 to 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import numpy as np

from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import ReplicaOptions, listed, plural
from elboverse.builtin.analyses.bounds.numbers import Bounds, read_bounds
from elboverse.config.structuring import in_range
from elboverse.contracts import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elboverse.runfile import Run

__all__ = ["BoundsOptions", "build"]

_MILESTONES: Final = 11


@attrs.frozen(kw_only=True)
class BoundsOptions(ReplicaOptions):
    """Options of `bounds`.

    Args:
        window: steps over which the moving average is taken, at least 1; None is 100, or a tenth of a shorter run.
        close_up: the figure also shows the last fifth of the training, framed by itself.
    """

    several_runs: ClassVar[bool] = True

    window: int | None = attrs.field(
        default=None,
        validator=in_range(minimum=1),
        metadata={"help": "Steps of the moving average; 100, or a tenth of a shorter run, if not given."},
    )
    close_up: bool = attrs.field(
        default=False,
        metadata={"help": "Whether the figure also shows the last fifth of the training by itself."},
    )


def build(options: BoundsOptions, runs: tuple[Run, ...]) -> Result:
    """Return the bounds at milestones of the training.

    Of several runs, all replicas are taken together, at the steps that every run has recorded. The keys of
    `Result.data`, medians over the replicas read unless they say otherwise: ``window`` in steps; ``final``, one table
    per replica with the path of its ``run``, its number in it, ``replica``, ``elbo``, ``entropy_sum`` and
    ``difference_percent``, averages over the last ``window`` steps; ``relative_gap_percent``, the magnitude of the last
    over the replicas, with ``lower_quartile``, ``median`` and ``upper_quartile``; ``milestones``, each with
    ``step``, ``epoch``, ``elbo``, ``entropy_sum``, ``difference_percent`` and ``mean_difference_percent`` (the moving
    average); ``held_out``, each evaluation with ``step``, ``elbo`` and ``elbo_standard_error``; and
    ``log_likelihood``, the generating density's (averaged over the runs), with ``train`` and ``held_out``, null where
    it is not known.

    Args:
        options: window, replica and close-up.
        runs: of any model, one or more.

    Raises:
        AnalysisError: no step is recorded, or none in all runs, or a run has no such replica.
    """
    reading = Pool.of(runs, options.replica)
    bounds = read_bounds(reading, options.window)

    def draw() -> Figure:
        from elboverse.builtin.analyses.bounds.figure import draw  # matplotlib, which only a figure needs

        return draw(reading, bounds, close_up=options.close_up)

    milestones = _milestones(reading, bounds)
    rows = [
        (
            milestone["step"],
            None if milestone["epoch"] is None else round(milestone["epoch"], 2),
            milestone["elbo"],
            milestone["entropy_sum"],
            round(milestone["difference_percent"], 3),
            round(milestone["mean_difference_percent"], 3),
            *_nearest_held_out(bounds, milestone["step"]),
        )
        for milestone in milestones
    ]
    final = _final(reading, bounds)
    return Result(
        title=f"ELBO and entropy sum in nats per point: {reading.described()}",
        columns=(
            "step",
            "epoch",
            "ELBO",
            "entropy sum",
            "difference %",
            "its mean %",
            "held-out ELBO",
            "± SE",
            "at step",
        ),
        rows=rows,
        notes=_notes(reading, bounds, final),
        data={
            "window": bounds.window,
            "final": final,
            "relative_gap_percent": _relative_gap(final),
            "milestones": milestones,
            "held_out": _held_out_table(bounds),
            "log_likelihood": {split: reading.ground_truth(split) for split in ("train", "held_out")},
        },
        draw=draw,
    )


def _milestones(reading: Pool, bounds: Bounds) -> list[dict[str, Any]]:
    count = len(bounds.steps)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MILESTONES)).round().astype(np.int64))
    difference = bounds.relative_difference
    averaged = bounds.averaged(difference)
    return [
        {
            "step": (step := int(bounds.steps[row])),
            "epoch": reading.epoch(step),
            "elbo": float(np.median(bounds.elbo[row])),
            "entropy_sum": float(np.median(bounds.entropy_sum[row])),
            "difference_percent": float(np.median(difference[row])),
            "mean_difference_percent": float(np.median(averaged[row])),
        }
        for row in chosen
    ]


def _nearest_held_out(bounds: Bounds, step: int) -> tuple[float | None, float | None, int | None]:
    if bounds.held_out is None:
        return None, None, None
    nearest = int(np.abs(bounds.held_out.steps - step).argmin())
    return (
        float(np.median(bounds.held_out.elbo[nearest])),
        float(np.median(bounds.held_out.standard_error[nearest])),
        int(bounds.held_out.steps[nearest]),
    )


def _held_out_table(bounds: Bounds) -> list[dict[str, Any]]:
    if bounds.held_out is None:
        return []
    return [
        {"step": int(step), "elbo": float(np.median(elbo)), "elbo_standard_error": float(np.median(standard_error))}
        for step, elbo, standard_error in zip(
            bounds.held_out.steps, bounds.held_out.elbo, bounds.held_out.standard_error, strict=True
        )
    ]


def _final(reading: Pool, bounds: Bounds) -> list[dict[str, Any]]:
    last = bounds.steps > bounds.steps[-1] - bounds.window
    entropy_sum = bounds.entropy_sum[last].mean(0)
    difference = bounds.relative_difference[last].mean(0)
    return [
        {
            **replica,
            "elbo": float(bounds.final_elbo[r]),
            "entropy_sum": float(entropy_sum[r]),
            "difference_percent": float(difference[r]),
        }
        for r, replica in enumerate(reading.replicas)
    ]


def _relative_gap(final: list[dict[str, Any]]) -> dict[str, float]:
    quartiles = np.quantile([abs(replica["difference_percent"]) for replica in final], (0.25, 0.5, 0.75))
    return dict(zip(("lower_quartile", "median", "upper_quartile"), quartiles.tolist(), strict=True))


def _notes(reading: Pool, bounds: Bounds, final: list[dict[str, Any]]) -> list[str]:
    elbo, entropy_sum, difference = (
        float(np.median([replica[name] for replica in final])) for name in ("elbo", "entropy_sum", "difference_percent")
    )
    recorded = int((bounds.steps > bounds.steps[-1] - bounds.window).sum())
    verdict = (
        f"Averaged over the last {plural(recorded, 'recorded step')}: ELBO {elbo:.4f}, entropy sum {entropy_sum:.4f}, "
        f"difference {elbo - entropy_sum:+z.4f} or {difference:+z.3f} % of |ELBO|."
    )
    notes = [verdict]
    value, standard_error, step = _nearest_held_out(bounds, int(bounds.steps[-1]) + 1)
    if value is None or standard_error is None or step is None:
        notes.append("No held-out evaluation is recorded.")
    else:
        notes.append(f"Held-out ELBO after {plural(step, 'step')}: {value:z.4f} ± {standard_error:z.4f}.")
    truth = reading.ground_truth("held_out")
    if truth is not None:
        notes.append(f"Log-likelihood of the held-out points under the generating density: {truth:z.4f}.")
    notes.append("The difference is a signed sum that can cancel; `elboverse analyze stationarity` shows its terms.")
    mixed = reading.mixed_settings()
    if mixed:
        notes.append(
            f"The runs differ in {listed(mixed)}; medians and bands are over all of them alike. "
            "`elboverse analyze compare` shows each by itself."
        )
    return notes + reading.caveats()
