"""The tables of a run file: series that share their steps, stored or derived from others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from elboverse.errors import AnalysisError, RunFileError, nearest
from elboverse.runfile import schema
from elboverse.runfile.hdf5 import Stored

__all__ = ["Evaluations", "Table", "counts", "required"]

Values = NDArray[Any]

_VALUES_AT_ONCE: Final = 1 << 22
"""How many values of a series are in memory while another is derived from it."""


@attrs.frozen(eq=False)
class Table:
    """Series that share their steps.

    Args:
        where: how messages call it, file included.
        step: shape (T,).
        series: the stored ones by name, (T, R) or (T, R, H).
    """

    where: str
    step: Values
    series: Mapping[str, Stored]

    @property
    def names(self) -> tuple[str, ...]:
        """All series, those that are derived included."""
        return (*self.series, *(name for name in schema.FOLLOWING if name not in self.series))

    def read(self, name: str, replica: int | None, last: int | None = None, rows: slice | None = None) -> Values:
        """Return a series, or only its last or some rows, as stored or, in float64, as derived from others.

        Raises:
            AnalysisError: no such series exists.
        """
        first, end = 0 if last is None else max(0, len(self.step) - last), len(self.step)
        if rows is not None:
            first, end, _ = rows.indices(len(self.step))
        if name in self.series:
            rows = slice(first, end)
            return self.series[name].read(rows if replica is None else (rows, replica))
        if name not in schema.FOLLOWING:
            hint = nearest(name, self.names)
            raise AnalysisError(
                f"{self.where}: no series {name!r}{f' ({hint})' if hint else ''}; known: {', '.join(self.names)}"
            )
        at_once = max(1, _VALUES_AT_ONCE // max(math.prod(stored.shape[1:]) for stored in self.series.values()))
        starts = range(first, max(first + 1, end), at_once)
        parts = [self._float64(name, slice(start, min(end, start + at_once)), replica) for start in starts]
        return np.concatenate(parts)

    def _float64(self, name: str, rows: slice, replica: int | None) -> Values:
        if name in self.series:
            return self.series[name].read(rows if replica is None else (rows, replica)).astype(np.float64)
        if name in schema.ZERO_UNLESS_STORED:
            return np.zeros_like(self._float64("elbo", rows, replica))
        function, arguments = schema.DERIVED[name]
        derived: Values = function(*(self._float64(argument, rows, replica) for argument in arguments))
        return derived


@attrs.frozen(eq=False)
class Evaluations:
    """The evaluations of one split: as a table, with the epoch of each, shape (E,), and the number of points."""

    table: Table
    epoch: Values
    points: int


def required(path: Path, where: str, stored: Mapping[str, Stored], name: str) -> Stored:
    """Return what is stored under a name, which must be there."""
    if name not in stored:
        raise RunFileError(f"{path}: {where}/{name}: missing")
    return stored[name]


def counts(stored: Stored) -> Values:
    """Return a vector of integers, none negative, that nobody can change."""
    if stored.dtype != "int64" or len(stored.shape) != 1:
        raise stored.fault(f"got {stored.dtype} {stored.shape}; expected int64 with one axis")
    found = stored.read()
    if len(found) and found.min() < 0:
        raise stored.fault(f"got {found.min()}; expected 0 or more")
    found.flags.writeable = False
    return found
