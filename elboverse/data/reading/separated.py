"""Tables as text: CSV and its relatives. pandas does the reading; which separator, marks and lines, is judged here."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.findings import Finding, ReadingOptions, Table
from elboverse.data.reading.header import judge_first_line, judge_numeric_line
from elboverse.data.reading.numerals import number
from elboverse.data.reading.text import Text, is_comment, read_text, without_comments
from elboverse.errors import DataError

__all__ = ["read_separated", "table_of_text"]

SEPARATORS: Final = ("\t", ";", "|", ",", " ")
_IN_WORDS: Final = {"\t": "a tab", ";": "a semicolon", "|": "a bar", ",": "a comma", " ": "white space"}
_LOOKED_AT: Final = 200
"""Rows that the judgement of separator and decimal mark looks at."""
_LONGEST_PREAMBLE: Final = 40
_FEW: Final = 10
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?\Z")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+\Z")


def read_separated(path: Path, options: ReadingOptions) -> Table:
    """Return the table of a text file.

    Raises:
        DataError: it has no rows, is damaged, or has a row with another number of cells than the others.
    """
    if options.key is not None:
        raise DataError(f"{path}: dataset.key: got {options.key!r}; a text file holds one table, so leave the key out")
    return table_of_text(read_text(path), path, options)


def table_of_text(text: Text, path: Path, options: ReadingOptions) -> Table:
    """Return the table that a text holds; see `read_separated`."""
    findings = list(text.findings)
    separator = _separator(text, path, options, findings)
    rows = list(itertools.islice(text.rows(separator), _LOOKED_AT))
    if not rows:
        raise DataError(f"{path}: there are no rows in it")
    counted = rows if len(rows) < _FEW else rows[len(rows) // 4 :]  # a preamble counts little
    width = Counter(len(cells) for _, cells in counted).most_common(1)[0][0]
    skipped, short = _preamble(rows, width)
    if skipped:
        findings.append(
            Finding(
                "header", f"{skipped} lines before the table, which have other numbers of cells, are left out", "", True
            )
        )
    rows = rows[skipped:]
    decimal = options.decimal or _decimal(rows, findings)
    if separator == "," and width == 2 and options.separator is None and _one_column(rows):
        findings.append(
            Finding(
                "decimal", "the comma is taken for a decimal mark, so there is one column", "dataset.separator", True
            )
        )
        separator, decimal, width = ";", ",", 1
        rows = list(itertools.islice(text.rows(separator), _LOOKED_AT))
    commented = _commented_names(text, separator, width)
    header = judge_first_line(rows, width, commented, options, decimal, findings, short=short)
    frame = _parsed(
        text, separator, decimal, rows[0][0] if header.lines == 0 else rows[header.lines - 1][0] + 1, width, path
    )
    columns = [
        frame[number].to_numpy(dtype=object if frame[number].dtype.kind not in "fiub" else None) for number in frame
    ]
    _require_no_short_rows(columns, text, separator, width, path)
    table = Table(
        names=list(header.names) or [""] * width,
        columns=columns,
        units=list(header.units),
        findings=findings,
        decimal=decimal,
        place=_Places(text, separator, skipped + header.lines),
    )
    if header.lines == 0 and not header.names:
        _recheck_numeric_header(table, rows, options)
    if short and header.lines:
        table.index, table.columns, table.names = table.columns[0], table.columns[1:], table.names[1:]
        table.units = table.units[1:]
        findings.append(Finding("index", "the first column has no name in the header, so it is taken for the index"))
    return table


def _separator(text: Text, path: Path, options: ReadingOptions, findings: list[Finding]) -> str:
    first, _, rest = text.content.partition("\n")
    declared = re.match(r'"?sep=(.)"?\s*\Z', first.strip(" "))
    if declared:
        text.content = "\n" + rest  # the line stays in the count
        findings.append(Finding("separator", f"the first line declares {declared[1]!r} as separator"))
    if options.separator is not None:
        chosen = {"tab": "\t", "\\t": "\t", "space": " "}.get(options.separator, options.separator)
        if len(chosen) != 1:
            raise DataError(f"dataset.separator: got {options.separator!r}; expected one character, 'tab' or 'space'")
        return chosen
    if declared:
        return declared[1]
    scores = {}
    for order, candidate in enumerate(SEPARATORS):
        try:
            widths = Counter(len(cells) for _, cells in itertools.islice(text.rows(candidate), _LOOKED_AT))
        except csv.Error as error:
            raise DataError(f"{path}: no table that can be read: {error}") from error
        usual, times = widths.most_common(1)[0] if widths else (0, 0)
        if usual > 1:
            scores[candidate] = (round(times / widths.total(), 1) if times < widths.total() else 1.0, -order)
    if not scores:
        return ","
    best = max(scores, key=lambda candidate: scores[candidate])
    if best != "," and (best != "\t" or path.suffix.lower() != ".tsv"):
        findings.append(Finding("separator", f"cells are separated by {_IN_WORDS[best]}"))
    return best


def _preamble(rows: Sequence[tuple[int, list[str]]], width: int) -> tuple[int, bool]:
    """Return how many rows come before the table, and whether its header has a cell less than the rows."""
    first = next((at for at, (_, cells) in enumerate(rows[:_LONGEST_PREAMBLE]) if len(cells) == width), 0)
    before, after = rows[first - 1][1], rows[first][1]
    numbers_below = any(number(cell)[0] is not None for cell in after[1:])
    if first and len(before) == width - 1 and numbers_below and not any(number(cell)[0] is not None for cell in before):
        return first - 1, True
    # A single odd row before the others is a mistake, unless it is text.
    textual = all(any(number(cell)[0] is None for cell in cells) for _, cells in rows[:first])
    return (first, False) if textual else (0, False)


def _decimal(rows: Sequence[tuple[int, list[str]]], findings: list[Finding]) -> str:
    cells = [cell.strip() for _, row in rows for cell in row]
    commas = [cell for cell in cells if _DECIMAL_COMMA.match(cell)]
    points = sum("." in cell and number(cell)[0] is not None and "," not in cell for cell in cells)
    if not commas or points:
        return "."
    if all(map(_THOUSANDS.match, commas)):
        findings.append(
            Finding(
                "decimal", f"{commas[0]!r} is read as a whole number with its thousands apart", "dataset.decimal", True
            )
        )
        return "."
    findings.append(Finding("decimal", "the decimal mark is a comma"))
    return ","


def _one_column(rows: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether two whole numbers per line are rather one with a decimal comma: a second part begins with 0."""
    pairs = [cells for _, cells in rows if len(cells) == 2]
    whole = all(re.match(r"-?\d+\Z", first.strip()) and re.match(r"\d+\Z", second.strip()) for first, second in pairs)
    return len(pairs) > 2 and whole and any(re.match(r"0\d+\Z", second.strip()) for _, second in pairs)


def _commented_names(text: Text, separator: str, width: int) -> list[str] | None:
    """Return the cells of the last line of comment before the first row, if they are as many as a row has."""
    last = ""
    for line in text.content.split("\n")[: _LONGEST_PREAMBLE * 5]:
        if is_comment(line):
            last = line
        elif line.strip():
            break
    cells = next(csv.reader([last.lstrip("#%/ \t")], delimiter=separator, skipinitialspace=True), [])
    return cells if len(cells) == width and width > 1 and all(cell.strip() for cell in cells) else None


def _parsed(text: Text, separator: str, decimal: str, first_line: int, width: int, path: Path) -> Any:
    import pandas as pd  # only who reads a table needs it

    start = 0
    for _ in range(first_line - 1):
        start = text.content.index("\n", start) + 1
    body = without_comments(text.content[start:])
    try:
        return pd.read_csv(
            io.StringIO(body),
            sep=r"\s+" if separator == " " else separator,
            header=None,
            names=range(width),
            index_col=False,
            na_values=[],
            keep_default_na=False,
            decimal=decimal,
            skipinitialspace=separator not in "\t ",
            low_memory=False,
            engine="c",
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: there are no rows in it besides the header") from error
    except (pd.errors.ParserError, ValueError, OverflowError) as error:
        for line, cells in text.rows(separator):
            if line >= first_line and len(cells) > width:
                raise DataError(
                    f"{path}: line {line}: got {len(cells)} cells; expected {width}, as in other lines"
                ) from error
        raise DataError(f"{path}: no table that can be read: {' '.join(str(error).split())}") from error


def _require_no_short_rows(columns: Sequence[NDArray[Any]], text: Text, separator: str, width: int, path: Path) -> None:
    """Check that no row lacks cells: pandas fills them up, as if they were there and empty."""
    last = columns[-1]
    if width == 1 or not (any(cell == "" or cell != cell for cell in last) if last.dtype.kind in "Of" else False):
        return
    rows = list(text.rows(separator))
    usual = [line for line, cells in rows if len(cells) == width]
    for line, cells in rows:
        if usual and line > usual[0] and len(cells) < width:
            raise DataError(f"{path}: line {line}: got {len(cells)} cells; expected {width}, as in line {usual[0]}")


@attrs.define(eq=False)
class _Places:
    """Finds the line of a row, when a message asks for it."""

    text: Text
    separator: str
    before: int
    lines: list[int] | None = None

    def __call__(self, row: int) -> str:
        if self.lines is None:
            self.lines = [line for line, _ in self.text.rows(self.separator)][self.before :]
        return f"line {self.lines[row]}" if row < len(self.lines) else f"row {row}"


def _recheck_numeric_header(table: Table, rows: Sequence[tuple[int, list[str]]], options: ReadingOptions) -> None:
    """Take a first line of numbers for a header where it looks like one beside the numbers below it."""
    if options.header != "auto" or any(column.dtype == object for column in table.columns) or table.rows < 3:
        return
    values = np.stack([column.astype(np.float64) for column in table.columns], axis=1)
    verdict = judge_numeric_line(values, [cell.strip() for cell in rows[0][1]])
    if verdict is None:
        return
    table.findings.append(verdict.finding)
    if verdict.is_header:
        table.names = [cell.strip() for cell in rows[0][1]]
        table.columns = [column[1:] for column in table.columns]
        places = table.place
        if isinstance(places, _Places):
            places.before += 1
