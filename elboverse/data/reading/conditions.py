"""Conditions of a plain array: some of its columns, by their numbers, are no dimensions."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from elboverse.data.reading.findings import RawPoints, ReadingOptions
from elboverse.errors import DataError

__all__ = ["with_conditions_of_columns"]


def with_conditions_of_columns(raw: RawPoints, path: Path, options: ReadingOptions) -> RawPoints:
    """Return points whose columns of conditions are no dimensions any more.

    Raises:
        DataError: the points are no rows of numbers, a column is not there, or none is left.
    """
    if raw.values.ndim != 2:
        raise DataError(
            f"{path}: dataset.conditions: got points of shape {raw.values.shape[1:]}; expected rows of numbers, whose "
            "columns can be conditions"
        )
    width = raw.values.shape[1]
    names = raw.names or tuple(map(str, range(width)))
    given = []
    for wanted in options.conditions:
        text = str(wanted)
        at = wanted if isinstance(wanted, int) else names.index(text) if text in names else -1
        if text.isdecimal() and at < 0:
            at = int(text)
        if not 0 <= at < width:
            raise DataError(f"{path}: dataset.conditions: no column is called {wanted!r}; expected 0 … {width - 1}")
        given.append(at)
    left = [at for at in range(width) if at not in given]
    if not left:
        raise DataError(f"{path}: no column is left to train on besides the conditions")
    return attrs.evolve(
        raw,
        values=np.ascontiguousarray(raw.values[:, left]),
        names=tuple(raw.names[at] for at in left) if raw.names else (),
        conditions={names[at] if raw.names else f"column {at}": raw.values[:, at].astype(np.float64) for at in given},
    )
