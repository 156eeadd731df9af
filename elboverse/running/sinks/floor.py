"""The sink that says when the decoder variance is held at its floor."""

from __future__ import annotations

from typing import Final

import numpy as np

from elboverse.contracts.records import Evaluation, Record, Rows
from elboverse.theory.identities import LOG_VAR_FLOOR, is_at_floor
from elboverse.warning import warn

__all__ = ["FloorSink"]

LEAST_SHARE: Final = 1e-3
"""A smaller share of the variances at the floor, those of a few odd points, is not worth a warning."""


class FloorSink:
    """Warns, once, when some replica's decoder variance is first seen at its floor.

    A recorded step shows it where it is there in every dimension, an evaluation where it is in some.
    """

    def __init__(self) -> None:
        self._told = False

    def receive(self, record: Record) -> None:
        """Take one record; pictures are not looked at."""
        if self._told:
            return
        if isinstance(record, Rows):
            low = np.flatnonzero(is_at_floor(record.scalars["decoder_log_var"]).any(1))
            if len(low):
                self._tell(int(record.step[low[0]]), 1.0)
        elif isinstance(record, Evaluation) and record.share_at_floor >= LEAST_SHARE:
            self._tell(record.step, record.share_at_floor)

    def _tell(self, step: int, share: float) -> None:
        self._told = True
        where = "" if share == 1 else f" in {100 * share:.3g} % of points and dimensions"
        warn(
            f"step {step}: the decoder variance is held at its floor, ln σ² = {LOG_VAR_FLOOR:g}{where}: "
            "the model fits the data without an error, as where they lie on a lower-dimensional manifold. The ELBO "
            "is what the floor makes of it and need not equal the entropy sum. Add noise to the data, or fix the "
            "variance (vae-0)."
        )

    def close(self) -> None:
        """Nothing is to be released."""
