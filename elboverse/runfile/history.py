"""What a run has recorded so far, kept in memory: columns of equal length that grow row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from elboverse.errors import RunFileError
from elboverse.runfile import schema

Values = NDArray[Any]

_AXES: Final = {2: "t, R", 3: "t, R, H"}


class Column:
    """Rows of one shape in an array that doubles when it is full.

    Memory that no row has touched is only reserved, not used, so the doubling costs little.

    Args:
        row_shape: shape of one row.
        dtype: type of the values.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: str) -> None:
        self._array: Values = np.empty((0, *row_shape), schema.little_endian(dtype))
        self._rows = 0

    @property
    def values(self) -> Values:
        """All rows, as a view that the next append may leave behind."""
        return self._array[: self._rows]

    def append(self, rows: Values) -> None:
        """Add rows at the end; they are copied."""
        needed = self._rows + len(rows)
        if needed > len(self._array):
            grown = np.empty((max(needed, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype)
            grown[: self._rows] = self.values
            self._array = grown
        self._array[self._rows : needed] = rows
        self._rows = needed

    def truncate(self, rows: int) -> None:
        """Keep the first rows only."""
        self._rows = min(self._rows, rows)


class History:
    """Named series that share their steps, of shape (T, R) or (T, R, H).

    Which series there are is settled by the first rows; all required ones must be among them.

    Args:
        where: how messages call it.
        replicas: R.
        latent_dim: H.
        dtype: type of the values.
        scalars: names of the required series (T, R).
        per_latent: names of the required series (T, R, H).
    """

    def __init__(
        self,
        where: str,
        replicas: int,
        latent_dim: int,
        dtype: str,
        scalars: Mapping[str, str],
        per_latent: Mapping[str, str],
    ) -> None:
        self._where = where
        self._rows_of = {2: (replicas,), 3: (replicas, latent_dim)}
        self._dtype = dtype
        self._required = {**dict.fromkeys(scalars, 2), **dict.fromkeys(per_latent, 3)}
        self._ranks: dict[str, int] | None = None
        self.step = Column((), "int64")
        self.series = {name: self._column(rank) for name, rank in self._required.items()}

    def append(self, step: Values, scalars: Mapping[str, Values], per_latent: Mapping[str, Values]) -> None:
        """Add rows; all of them or, where anything is wrong, none.

        Args:
            step: strictly increasing and above the last one, shape (t,).
            scalars: values of shape (t, R) by name.
            per_latent: values of shape (t, R, H) by name.

        Raises:
            RunFileError: a series is missing or new, or a shape or a step is wrong.
        """
        self._check_steps(step)
        ranks = {**dict.fromkeys(scalars, 2), **dict.fromkeys(per_latent, 3)}
        self._check_names(ranks, scalars, per_latent)
        rows = {**scalars, **per_latent}
        for name, values in rows.items():
            expected = (len(step), *self._rows_of[ranks[name]])
            if np.shape(values) != expected:
                raise RunFileError(f"{self._where}/{name}: got shape {np.shape(values)}; expected {expected}")
        if self._ranks is None:
            self._ranks = ranks
            self.series = {name: self._column(rank) for name, rank in ranks.items()}
        self.step.append(step)
        for name, values in rows.items():
            self.series[name].append(values)

    def truncate(self, step: int) -> int:
        """Drop the rows of later steps and return how many rows are left."""
        rows = int(np.searchsorted(self.step.values, step, side="right"))
        for column in (self.step, *self.series.values()):
            column.truncate(rows)
        return rows

    def _column(self, rank: int) -> Column:
        return Column(self._rows_of[rank], self._dtype)

    def _check_steps(self, step: Values) -> None:
        if step.ndim != 1 or step.dtype.kind not in "iu":
            raise RunFileError(f"{self._where}/step: got {step.dtype} {step.shape}; expected integers (t,)")
        last = self.step.values[-1] if len(self.step.values) else -1
        if not bool(np.all(np.diff(step, prepend=last) > 0)):
            raise RunFileError(f"{self._where}/step: steps must increase from above {last}, given {step[:5]} …")

    def _check_names(
        self, ranks: Mapping[str, int], scalars: Mapping[str, Values], per_latent: Mapping[str, Values]
    ) -> None:
        for name in ranks:
            if not schema.is_name(name) or name in {"step", "epoch"} or (name in scalars and name in per_latent):
                raise RunFileError(f"{self._where}/{name}: no usable name of a series")
        known = self._required if self._ranks is None else self._ranks
        for name, rank in known.items():
            if ranks.get(name) != rank:
                raise RunFileError(f"{self._where}/{name}: missing among the series ({_AXES[rank]})")
        new = sorted(set(ranks) - set(known))
        if new and self._ranks is not None:
            raise RunFileError(f"{self._where}/{new[0]}: new, but the series were settled by the first rows")


@attrs.frozen(eq=False)
class EvaluationHistory:
    """The evaluations of one split.

    Args:
        points: how many points it has.
        history: their steps and series, in float64.
        epoch: their epochs, as many as steps.
    """

    points: int
    history: History
    epoch: Column = attrs.field(factory=lambda: Column((), "int64"))

    def truncate(self, step: int) -> None:
        """Drop the evaluations of later steps."""
        self.epoch.truncate(self.history.truncate(step))
