"""What ``compare`` sets side by side of a run."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.curves import moving_average, quartiles
from elboverse.analysis.final_latents import final_latents
from elboverse.analysis.reading import Array, Reading

__all__ = ["Compared", "read_compared"]

_LAST_ROWS: Final = 100


@attrs.frozen(eq=False, kw_only=True)
class Compared:
    """One of the runs; its values are medians over the replicas read, in nats per point.

    Args:
        label: what tells it from the others.
        reading: the run.
        step: how many steps were recorded.
        elbo: of training, averaged over the last rows; None if no step is recorded.
        entropy_sum: likewise.
        held_out_elbo: of the last held-out evaluation; None if there is none.
        held_out_standard_error: of that.
        active: number of latents that are active by entropy drop; None if nothing is recorded.
        seconds: of training, all resumptions together; None if the file does not say.
        started: when, in ISO 8601.
    """

    label: str
    reading: Reading
    step: int
    elbo: float | None
    entropy_sum: float | None
    held_out_elbo: float | None
    held_out_standard_error: float | None
    active: float | None
    seconds: float | None
    started: str

    @property
    def gap(self) -> float | None:
        """ELBO − entropy sum of training."""
        return None if self.elbo is None or self.entropy_sum is None else self.elbo - self.entropy_sum

    def averaged(self, name: str) -> Array:
        """Return the moving average of a recorded term, the median over the replicas, shape (T,)."""
        steps = self.reading.run.steps
        window = max(1, min(_LAST_ROWS, int(steps[-1] - steps[0] + 1) // 10))
        return quartiles(moving_average(steps, self.reading.series(name), window))[1]


def read_compared(label: str, reading: Reading, threshold: float) -> Compared:
    """Return what is compared of a run; a latent whose entropy drop is below the threshold has collapsed."""
    run = reading.run
    recorded = len(run.steps)
    last = {
        name: float(np.median(reading.series(name, _LAST_ROWS).mean(0, dtype=np.float64))) if recorded else None
        for name in ("elbo", "entropy_sum")
    }
    training = run.config.get("training")
    if isinstance(training, dict) and training.get("until") == "stationary" and reading.evaluated("train"):
        # Its last rows are those of a polish that still rises; the end is what the run is about.
        last = {name: float(np.median(reading.evaluation("train", name)[-1])) for name in last}
    held_out: dict[str, float | None] = dict.fromkeys(("elbo", "elbo_standard_error"))
    if reading.evaluated("held_out"):
        held_out = {name: float(np.median(reading.evaluation("held_out", name)[-1])) for name in held_out}
    active = None
    if recorded or any(reading.evaluated(split) for split in run.splits):
        active = float(np.median((final_latents(reading).entropy_drop >= threshold).sum(1)))
    return Compared(
        label=label,
        reading=reading,
        step=int(run.steps[-1]) + 1 if recorded else 0,
        elbo=last["elbo"],
        entropy_sum=last["entropy_sum"],
        held_out_elbo=held_out["elbo"],
        held_out_standard_error=held_out["elbo_standard_error"],
        active=active,
        seconds=run.training_seconds,
        started=run.created,
    )
