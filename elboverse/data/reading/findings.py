"""What a reader returns: raw points with their names, index and labels, and what it took for what, as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Finding", "RawPoints", "ReadingOptions", "Table", "listed"]


@attrs.frozen
class Finding:
    """One thing that a reader took for something, such as a first line for a header.

    Args:
        about: what it concerns, in one word: ``"header"``, ``"index"``, ``"label"``, ``"missing"``, …
        text: a sentence that says what was taken for what.
        option: the option that settles it, such as ``"dataset.header"``; empty where nothing is left open.
        doubtful: whether the guess could be wrong without anybody noticing; it then becomes a warning.
    """

    about: str
    text: str
    option: str = ""
    doubtful: bool = False

    def __str__(self) -> str:
        """Return the sentence, with the option that settles it."""
        return f"{self.text} ({self.option} settles it)" if self.option else self.text


@attrs.frozen(kw_only=True)
class ReadingOptions:
    """What a user may settle instead of leaving it to the reader's judgement.

    Args:
        key: name of the array, variable, sheet or group, for files that hold several.
        columns: the columns that are dimensions, by name or by number from 0; names that begin with ``!`` are left out
            of all others. None for the reader's judgement.
        label: the column of the labels, by name or number; an empty string for none; None for the reader's judgement.
        conditions: columns that are conditions and no dimensions, by name or number.
        header: whether the first line of a text file holds names.
        separator: what separates the cells of a text file; None for the reader's judgement.
        decimal: the decimal mark of a text file; None for the reader's judgement.
        missing: what becomes of rows with missing values.
        missing_values: numbers or texts that mark a missing value besides the usual ones.
        transpose: whether the axes of an array are reversed.
    """

    key: str | None = None
    columns: tuple[str | int, ...] | None = None
    label: str | int | None = None
    conditions: tuple[str | int, ...] = ()
    header: Literal["auto"] | bool = "auto"
    separator: str | None = None
    decimal: str | None = None
    missing: Literal["error", "drop-rows"] = "error"
    missing_values: tuple[str | float, ...] = ()
    transpose: bool = False


def row_number(row: int) -> str:
    """Return how messages call a row of an array."""
    return f"row {row} (counted from 0)"


@attrs.define(eq=False, kw_only=True)
class Table:
    """A table as a file holds it, before anything is judged.

    Args:
        names: of the columns; empty strings where the file gives none.
        columns: numbers, booleans, or objects (texts and None for nothing), shape (N,) each.
        index: the names of the rows, where the file marks them as such; None otherwise.
        index_name: what the file calls them.
        units: of the columns, or empty.
        place: how messages call a row, such as ``"line 17"``.
        findings: what was taken for what so far.
        decimal: the decimal mark of texts that are numbers.
    """

    names: list[str]
    columns: list[NDArray[Any]]
    index: NDArray[Any] | None = None
    index_name: str = ""
    units: list[str] = attrs.Factory(list)
    place: Callable[[int], str] = row_number
    findings: list[Finding] = attrs.Factory(list)
    decimal: str = "."

    @property
    def rows(self) -> int:
        """N, the number of rows."""
        return len(self.columns[0]) if self.columns else 0


@attrs.frozen(eq=False, kw_only=True)
class RawPoints:
    """Points as a file holds them, and what was taken for what.

    Args:
        values: shape (N, *shape of a point): floating point, or `numpy.uint8`; finite unless a number in the file is
            infinite.
        names: of the D dimensions, or empty.
        index: name or number of each point in the file, shape (N,).
        index_name: what the file calls the index; empty if it does not.
        labels: of the points, shape (N,); None where there are none.
        label_name: what the file calls them.
        conditions: what the model is to be given beside each point, name → values, shape (N,).
        findings: what was taken for what, in order.
        place: how messages call a row of `values`, such as ``"line 17"``.
        is_curve: whether the names of the dimensions are ascending numbers, as in spectra.
    """

    values: NDArray[Any]
    names: tuple[str, ...] = ()
    index: NDArray[Any]
    index_name: str = ""
    labels: NDArray[Any] | None = None
    label_name: str = ""
    conditions: dict[str, NDArray[Any]] = attrs.Factory(dict)
    findings: tuple[Finding, ...] = ()
    place: Callable[[int], str] = row_number
    is_curve: bool = False

    @classmethod
    def of_array(cls, values: NDArray[Any], findings: tuple[Finding, ...] = (), **more: Any) -> RawPoints:
        """Return the points of a plain array, numbered from 0."""
        return cls(values=values, index=np.arange(len(values)), findings=findings, **more)


def listed(names: list[str], most: int = 20) -> str:
    """Return names in a sentence, the first few if there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Reader = Callable[[Path, ReadingOptions], "Table | RawPoints"]
