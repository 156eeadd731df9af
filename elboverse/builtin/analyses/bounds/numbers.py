"""The bounds through training, read from runs."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.curves import moving_average
from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import Array, plural
from elboverse.errors import AnalysisError

__all__ = ["Bounds", "HeldOut", "read_bounds"]

_WINDOW: Final = 100


@attrs.frozen(eq=False)
class HeldOut:
    """The evaluations on held-out points.

    Args:
        steps: number of updates before each, shape (E,).
        elbo: in nats per point, shape (E, R).
        standard_error: of the ELBO, over points, shape (E, R).
    """

    steps: Array
    elbo: Array
    standard_error: Array


@attrs.frozen(eq=False)
class Bounds:
    """The bounds through training, in nats per point.

    Args:
        steps: recorded steps, shape (T,).
        elbo: the ELBO of each step's batch, shape (T, R).
        entropy_sum: H_sum of the same batch, shape (T, R).
        window: steps over which averages are taken.
        final_elbo: the ELBO averaged over the last `window` steps, shape (R,).
        held_out: the held-out evaluations; None if there are none.
    """

    steps: Array
    elbo: Array
    entropy_sum: Array
    window: int
    final_elbo: Array
    held_out: HeldOut | None

    @property
    def relative_difference(self) -> Array:
        """100·(ELBO − H_sum)/|final ELBO| in %, shape (T, R)."""
        relative: Array = 100 * (self.elbo - self.entropy_sum) / np.abs(self.final_elbo)
        return relative

    def averaged(self, values: Array) -> Array:
        """Return the moving average of values of shape (T, R)."""
        return moving_average(self.steps, values, self.window)


def read_bounds(reading: Pool, window: int | None) -> Bounds:
    """Return the bounds of runs, averages taken over so many steps.

    Raises:
        AnalysisError: no step is recorded, or the final ELBO is 0 or not finite.
    """
    reading.require_rows("bounds")
    steps = reading.steps
    if window is None:
        window = max(1, min(_WINDOW, int(steps[-1] - steps[0] + 1) // 10))
    elbo = reading.series("elbo").astype(np.float64)
    final = elbo[steps > steps[-1] - window].mean(0)
    if not (np.isfinite(final) & (final != 0)).all():
        raise AnalysisError(
            f"{reading.where}: the ELBO of the last {plural(window, 'step')} is {final.tolist()} per replica, "
            f"and the difference is measured relative to it, so it must be finite and not zero"
        )
    held_out = None
    if reading.evaluated("held_out"):
        held_out = HeldOut(
            reading.evaluation_steps("held_out"),
            reading.evaluation("held_out", "elbo"),
            reading.evaluation("held_out", "elbo_standard_error"),
        )
    return Bounds(steps, elbo, reading.series("entropy_sum").astype(np.float64), window, final, held_out)
