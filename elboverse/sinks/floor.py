"""The sink that says when the decoder variance is held at its floor."""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from elboverse.identities import LOG_VAR_FLOOR
from elboverse.training.records import Record, Rows

__all__ = ["FloorSink", "is_at_floor"]

ROUNDING: Final = 1e-4
"""How far above the floor the average of D log-variances that are all at it may come out."""


def is_at_floor(decoder_log_var: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where decoder log-variances, averaged over dimensions, are held at `LOG_VAR_FLOOR`."""
    return np.less_equal(decoder_log_var, LOG_VAR_FLOOR + ROUNDING)


class FloorSink:
    """Warns, once, at the first step in which some replica's decoder variance is at its floor in every dimension."""

    def __init__(self) -> None:
        self._told = False

    def receive(self, record: Record) -> None:
        """Take one record; rows alone are looked at."""
        if self._told or not isinstance(record, Rows):
            return
        low = np.flatnonzero(is_at_floor(record.scalars["decoder_log_var"]).any(1))
        if len(low):
            self._told = True
            warnings.warn(
                f"step {record.step[low[0]]}: the decoder variance is held at its floor, ln σ² = {LOG_VAR_FLOOR:g}: "
                "the model fits the data without an error, as where they lie on a lower-dimensional manifold. The ELBO "
                "is what the floor makes of it and need not equal the entropy sum. Add noise to the data, or fix the "
                "variance (vae-0).",
                RuntimeWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Nothing is to be released."""
