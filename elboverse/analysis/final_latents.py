"""The latents of the trained model: the last evaluation of a run, or its last recorded steps."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from elboverse.analysis.reading import Array, Reading, plural
from elboverse.errors import AnalysisError
from elboverse.theory import identities

__all__ = ["FinalLatents", "final_latents"]

_LAST_ROWS: Final = 100


@attrs.frozen(eq=False)
class FinalLatents:
    """The latents of the trained model.

    Args:
        split: ``"held_out"``, ``"train"``, or ``"trajectory"`` where no evaluation was made.
        step: number of updates before the evaluation, or the last recorded step.
        source: where the values are from, in words.
        encoder_entropy: H_enc,h in nats, shape (R, H).
        prior_entropy: H_prior,h in nats, shape (R, H).
        kl: KL_h in nats, shape (R, H).
        mean_variance: Var_x E_q[z_h], shape (R, H); None where no evaluation was made.
    """

    split: str
    step: int
    source: str
    encoder_entropy: Array
    prior_entropy: Array
    kl: Array
    mean_variance: Array | None

    @property
    def entropy_drop(self) -> Array:
        """H_prior,h − H_enc,h in nats, shape (R, H)."""
        drop: Array = identities.entropy_drop(self.encoder_entropy, self.prior_entropy)
        return drop

    @property
    def order(self) -> Array:
        """The latents of each replica, that of the largest entropy drop first, shape (R, H)."""
        return np.argsort(-self.entropy_drop, axis=1, kind="stable")


def final_latents(reading: Reading) -> FinalLatents:
    """Return the latents at the last held-out evaluation, else the last on training data, else the last rows' mean.

    An evaluation made before the first update says nothing about the trained model, so it is used only where no step
    is recorded.

    Raises:
        AnalysisError: the run has neither an evaluation nor a recorded step.
    """
    run, steps = reading.run, reading.run.steps
    for split, points in (("held_out", "held-out points"), ("train", "training points")):
        if not reading.evaluated(split):
            continue
        step = int(run.evaluation_steps(split)[-1])
        if step > 0 or len(steps) == 0:
            last = {
                name: reading.evaluation(split, name)[-1]
                for name in ("encoder_entropy", "prior_entropy", "kl", "mean_variance")
            }
            source = f"evaluation of {run.evaluation_points(split):,} {points} after {plural(step, 'step')}"
            return FinalLatents(split, step, source, **last)
    if len(steps) == 0:
        raise AnalysisError(
            f"{run.path}: neither an evaluation nor a training step is recorded (status: {run.status}), "
            f"so there are no latents to analyse; let the run train longer"
        )
    count = min(_LAST_ROWS, len(steps))
    means = {
        name: reading.series(name, count).mean(0, dtype=np.float64)
        for name in ("encoder_entropy", "prior_entropy", "kl")
    }
    source = f"mean over the last {plural(count, 'recorded step')} up to step {int(steps[-1]):,}"
    return FinalLatents("trajectory", int(steps[-1]), source, **means, mean_variance=None)
