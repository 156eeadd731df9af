"""Whether the first line of a text file holds names, and which; the second, units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.findings import Finding, ReadingOptions
from elboverse.data.reading.numerals import is_missing, number

__all__ = ["Header", "NumericLine", "judge_first_line", "judge_numeric_line"]

_OPTION: Final = "dataset.header"
_FAR: Final = 10.0
"""How many times the range of the other values a first line lies away, to be no value of its column."""
_MANY: Final = 8
"""Columns from which on evenly spaced numbers in a first line are no accident."""
_YEARS: Final = (1800, 2200)

Rows = Sequence[tuple[int, list[str]]]


@attrs.frozen
class Header:
    """The first lines of a table.

    Args:
        lines: how many rows are names and units.
        names: of the columns, or empty.
        units: of the columns, or empty.
    """

    lines: int = 0
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()


@attrs.frozen
class NumericLine:
    """What a first line of numbers alone was taken for.

    Args:
        is_header: whether for names.
        finding: says so.
    """

    is_header: bool
    finding: Finding


def judge_first_line(
    rows: Rows,
    width: int,
    commented: Sequence[str] | None,
    options: ReadingOptions,
    decimal: str,
    findings: list[Finding],
    *,
    short: bool,
) -> Header:
    """Return which of the first rows are names and units, judged by texts among the numbers.

    A first line with any text is a header, unless each of its texts occurs again below, in the same column.

    Args:
        rows: the first ones, each with its line in the file.
        width: cells of a row.
        commented: the last line of comment above, where it has as many cells.
        options: the user's.
        decimal: the decimal mark.
        findings: what was taken for what; added to.
        short: whether the header lacks the first cell, as R writes it.
    """
    first = [cell.strip() for cell in rows[0][1]]
    below = [row for _, row in rows[1:] if len(row) == width]
    texts = [at for at, cell in enumerate(first) if _is_text(cell, decimal)]
    if options.header is False:
        return Header()
    if options.header == "auto" and not texts:
        if commented is not None and any(number(cell)[0] is None for cell in commented):
            findings.append(
                Finding("header", "the last comment before the numbers is taken for the names of the columns")
            )
            return Header(names=_clean(commented))
        return Header()
    if options.header == "auto" and not short:
        recurs = [any(row[at].strip() == first[at] for row in below) for at in texts]
        numeric_below = any(not all(_is_text(row[at], decimal) for row in below) for at in texts) if below else True
        if all(recurs) and below and not numeric_below and len(texts) < width:
            findings.append(
                Finding(
                    "header",
                    f"the file has no header: {first[texts[0]]!r} of the first line occurs again below",
                    _OPTION,
                    True,
                )
            )
            return Header()
        if not numeric_below and 0 < len(texts) < width and _is_among(first, below, texts, decimal):
            findings.append(
                Finding(
                    "header", "the first line is taken for a header, though its numbers look like data", _OPTION, True
                )
            )
    names = _clean(["", *first] if short else first)
    units, lines = _units(rows, width, decimal), 1
    if units:
        lines = 2
        findings.append(Finding("header", f"line {rows[1][0]} is taken for the units of the columns"))
    findings.insert(0, Finding("header", f"line {rows[0][0]} is taken for the names of the columns"))
    return Header(lines, names, units)


def judge_numeric_line(values: NDArray[np.float64], cells: Sequence[str]) -> NumericLine | None:
    """Return what a first line of numbers alone is taken for; None where nothing speaks for a header.

    Names that are numbers are whole numbers that count, years, or evenly spaced, such as wavelengths. They are told
    from data by being unlike what is below them: written otherwise, or far outside.

    Args:
        values: the whole table, the first line included, shape (N, D).
        cells: the first line as it is written.
    """
    first, rest = values[0], values[1:]
    low, high = np.nanmin(rest, axis=0), np.nanmax(rest, axis=0)
    spread = high - low
    distance = np.maximum(np.maximum(low - first, first - high), 0)
    far = distance > _FAR * np.where(spread > 0, spread, np.maximum(np.abs(high), 1e-300))
    ascending = len(first) > 2 and bool((np.diff(first) > 0).all() or (np.diff(first) < 0).all())
    pattern = _pattern(first)
    written_otherwise = _are_whole(cells) and not bool(np.isclose(rest, np.round(rest)).all(axis=0).any())
    unlike = bool(far.mean() > 0.5) or (written_otherwise and bool(pattern))
    others = sum(bool(_pattern(row)) for row in rest[:200])
    if pattern and others == 0 and (unlike or len(first) >= _MANY):
        return NumericLine(
            True, Finding("header", f"the first line ({pattern}) is taken for the names of the columns", _OPTION, True)
        )
    if bool(far.all()) and (ascending or len(first) > 1):
        return NumericLine(
            True,
            Finding(
                "header",
                "the first line, far outside of all others, is taken for the names of the columns",
                _OPTION,
                True,
            ),
        )
    if pattern and others == 0:
        return NumericLine(False, Finding("header", f"the first line ({pattern}) is taken for a point", _OPTION, True))
    if bool((distance > spread).all()):
        return NumericLine(
            False,
            Finding("header", "the first line lies outside of all others; it is taken for a point", _OPTION, True),
        )
    return None


def _pattern(line: NDArray[np.float64]) -> str:
    count = len(line)
    if count < 2 or not np.isfinite(line).all():
        return ""
    steps = np.diff(line)
    if (steps == 1).all() and line[0] in {0, 1}:
        return f"{line[0]:g} … {line[-1]:g}"
    if (np.abs(steps) == 1).all() and _YEARS[0] <= line.min() and line.max() <= _YEARS[1]:
        return f"the years {line[0]:g} … {line[-1]:g}"
    if count > 2 and steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0):
        return f"evenly spaced numbers, {line[0]:g} … {line[-1]:g}"
    return ""


def _are_whole(cells: Sequence[str]) -> bool:
    return all(re.match(r"[+-]?\d+\Z", cell) for cell in cells)


def _is_text(cell: str, decimal: str) -> bool:
    return not is_missing(cell) and number(cell, decimal)[0] is None and cell.strip().lower() not in {"true", "false"}


def _is_among(first: Sequence[str], below: Sequence[Sequence[str]], texts: Sequence[int], decimal: str) -> bool:
    """Return whether the numbers of a first line lie among those below them, and are neither ascending nor spaced."""
    numeric = [at for at in range(len(first)) if at not in texts]
    line = [number(first[at], decimal)[0] for at in numeric]
    if any(value is None for value in line):
        return False
    found = np.asarray(line, float)
    for at, value in zip(numeric, found, strict=True):
        column = [cell for cell in (number(row[at], decimal)[0] for row in below) if cell is not None]
        if not column or not min(column) - 1 <= value <= max(column) + 1:
            return False
    return not _pattern(found)


def _units(rows: Rows, width: int, decimal: str) -> tuple[str, ...]:
    """Return the second row, if all of it is text, or empty, and the rows below are numbers there."""
    if len(rows) < 3 or len(rows[1][1]) != width:
        return ()
    second, third = rows[1][1], rows[2][1]
    texts = [at for at in range(width) if _is_text(second[at], decimal)]
    empty = all(at in texts or not second[at].strip() or is_missing(second[at]) for at in range(width))
    if not texts or not empty or len(third) != width or any(_is_text(third[at], decimal) for at in texts):
        return ()
    return tuple("" if is_missing(cell) else cell.strip() for cell in second)


def _clean(cells: Sequence[Any]) -> tuple[str, ...]:
    return tuple(" ".join(str(cell).split()) for cell in cells)
