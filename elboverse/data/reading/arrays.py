"""The judgement of plain arrays: which axis counts the points, what their type says, where values are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table
from elboverse.errors import DataError

__all__ = ["points_of_array", "settled"]

_CHANNELS: Final = (1, 3, 4)
_FEW: Final = 10
_EXACT: Final = 2.0**53


def points_of_array(
    array: NDArray[Any], path: Path, options: ReadingOptions, findings: list[Finding], **more: Any
) -> RawPoints | Table:
    """Return the points of an array, whose first axis counts them; a table where its values are records of fields.

    Raises:
        DataError: it holds anything but real numbers, or no axis counts points.
    """
    if array.dtype.names:
        if any(array.dtype[name].kind not in "fiub" for name in array.dtype.names):
            raise DataError(f"{path}: got records of type {array.dtype}; expected fields that are numbers")
        columns = [np.ascontiguousarray(array[name]) for name in array.dtype.names]
        if array.ndim == 1 and all(column.ndim == 1 and column.dtype.kind in "fiub" for column in columns):
            findings.append(Finding("columns", "the fields of the records are the columns"))
            return Table(names=list(array.dtype.names), columns=columns, findings=findings)
    if array.ndim == 0:
        raise DataError(f"{path}: got a single number; expected an array whose first axis counts the points")
    if options.transpose:
        array = array.transpose()
    if array.ndim == 4 and array.shape[-1] in _CHANNELS and array.shape[1] not in _CHANNELS:
        findings.append(
            Finding("axes", f"points of shape {array.shape[1:]} are images, channels last; the channels are put first")
        )
        array = np.moveaxis(array, -1, 1)
    dimensions = int(np.prod(array.shape[1:]))
    if array.ndim == 2 and len(array) < _FEW < dimensions and dimensions > 4 * len(array):
        findings.append(
            Finding(
                "axes",
                f"rows are points, so there are {len(array)} points of {dimensions} dimensions; "
                "is the array transposed?",
                "dataset.transpose",
                True,
            )
        )
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        largest = max(abs(int(array.min())), abs(int(array.max())))
        if largest > _EXACT:
            findings.append(Finding("numbers", f"whole numbers up to {largest:,} lose their last digits as float64"))
    values = _numbers(array)
    rows = np.arange(len(values))
    values, kept = settled(values, path, options, findings)
    index = more.pop("index", rows)
    labels = more.pop("labels", None)
    return RawPoints(
        values=values,
        index=np.asarray(index)[kept],
        labels=None if labels is None else np.asarray(labels)[kept],
        findings=tuple(findings),
        place=lambda row: f"row {int(np.flatnonzero(kept)[row])} (counted from 0)",
        **more,
    )


def settled(
    values: NDArray[Any], path: Path, options: ReadingOptions, findings: list[Finding]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the values without the rows that lack some, if the user says so, and which rows those are.

    Raises:
        DataError: values are missing, which is what NaN means in an array.
    """
    kept = np.ones(len(values), bool)
    if values.dtype.kind != "f" or not values.size:
        return values, kept
    flat = values.reshape(len(values), -1)
    for mark in options.missing_values:
        if not isinstance(mark, str):
            flat = np.where(flat == mark, np.nan, flat)
    if np.isfinite(flat.sum(dtype=np.float64)):
        return flat.reshape(values.shape), kept
    missing = np.isnan(flat)
    kept = ~missing.any(axis=1)
    if not kept.all():
        row, column = (int(place[0]) for place in np.nonzero(missing))
        lacking = int((~kept).sum())
        if options.missing == "error":
            raise DataError(
                f"{path}: got {int(missing.sum()):,} missing values (NaN) in {lacking:,} of {len(values):,} rows, the "
                f"first in row {row}, column {column} (counted from 0); expected numbers. "
                'dataset.missing = "drop-rows" leaves these rows out'
            )
        findings.append(Finding("missing", f"{lacking:,} rows with missing values (NaN) are left out"))
    return flat[kept].reshape(-1, *values.shape[1:]), kept


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return real numbers as bytes where they are bytes, as float32 where that is exact, as float64 otherwise."""
    if array.dtype == np.uint8 or array.dtype.kind == "b":
        return np.ascontiguousarray(array).view(np.uint8)
    small = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    return np.require(array, np.float32 if small else np.float64, ["C_CONTIGUOUS", "WRITEABLE"])
