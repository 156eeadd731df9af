"""Numbers as people and programs write them: decimal commas, thousands, Fortran's exponents, minus signs."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["MISSING_MARKS", "Numerals", "is_missing", "number", "read_numerals"]

MISSING_MARKS: Final = frozenset(
    [
        "",
        "na",
        "n/a",
        "n.a.",
        "<na>",
        "#n/a",
        "#na",
        "nan",
        "-nan",
        "null",
        "none",
        "missing",
        "?",
        ".",
        "-",
        "--",
        "—",
        "..",
        "#n/a n/a",
        "#div/0!",
        "#value!",
        "#ref!",
        "#num!",
        "#name?",
        "#null!",
        "nat",
    ]
)
"""Texts, in small letters, that stand where a value is missing; the errors of spreadsheets are among them."""

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_FORTRAN: Final = re.compile(r"([\d.])[dD]([+-]?\d+)\Z")
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}(?:([ ',])\d{3})(?:\1\d{3})*(?:\.\d+)?\Z")
_MINUS: Final = str.maketrans(
    {"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{HYPHEN}": "-", "\N{ZERO WIDTH SPACE}": ""}
)
_INFINITE: Final = frozenset({"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})


@attrs.frozen(eq=False)
class Numerals:
    """A column of texts read as numbers.

    Args:
        values: float64, shape (N,); NaN where a value is missing or the text is not a number.
        missing: where a value is missing, shape (N,).
        text: where there is something that is not a number, shape (N,).
        marks: how often each mark of a missing value occurs.
        ways: which unusual ways of writing occur, in words.
    """

    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    text: NDArray[np.bool_]
    marks: Counter[str]
    ways: frozenset[str]


def is_missing(cell: str) -> bool:
    """Return whether a cell stands for a missing value."""
    return cell.strip().lower() in MISSING_MARKS


def number(cell: str, decimal: str = ".") -> tuple[float | None, str]:
    """Return the number that a cell holds, None if it is none, and the unusual way in which it is written, if any.

    Underscores are no part of a number, and neither are letters other than those of an exponent.
    """
    text = cell.strip()
    if _NUMBER.match(text) and decimal == ".":
        return float(text), ""
    if text.lower() in _INFINITE:
        return float(text), ""
    way = ""
    plain = unicodedata.normalize("NFKC", text).translate(_MINUS).strip()
    if plain != text:
        way = "typographic signs or digits"
    if decimal == ",":
        plain = plain.replace(".", " ") if re.match(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?\Z", plain) else plain
        if "." in plain:
            return None, ""
        plain = plain.replace(",", ".")
    if plain.endswith("%") and _NUMBER.match(plain[:-1].rstrip()):
        return float(plain[:-1]), "per cent"
    if _GROUPED.match(plain):
        return float(re.sub(r"[ ',]", "", plain)), "thousands apart"
    if _FORTRAN.search(plain):
        plain, way = _FORTRAN.sub(r"\1e\2", plain), "Fortran's exponents (1.0D+03)"
    return (float(plain), way) if plain.isascii() and _NUMBER.match(plain) else (None, "")


def read_numerals(cells: Iterable[Any], decimal: str, missing_values: Iterable[float | str] = ()) -> Numerals:
    """Return a column of texts, numbers and None as numbers.

    Args:
        cells: of the column.
        decimal: the decimal mark.
        missing_values: texts or numbers that mark a missing value besides `MISSING_MARKS`.
    """
    marked_numbers = {float(mark) for mark in missing_values if not isinstance(mark, str)}
    marked = {mark.strip().lower() for mark in missing_values if isinstance(mark, str)}
    cells = list(cells)
    values = np.full(len(cells), np.nan)
    missing, text = np.zeros(len(cells), bool), np.zeros(len(cells), bool)
    marks: Counter[str] = Counter()
    ways: set[str] = set()
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            stripped = cell.strip().lower()
            if stripped in MISSING_MARKS or stripped in marked:
                missing[row] = True
                marks[cell.strip()] += 1
                continue
            found, way = number(cell, decimal)
            if way:
                ways.add(way)
        else:
            found = None if cell is None or cell != cell else _plain_number(cell)
            if found is None and (cell is None or cell != cell):
                missing[row] = True
                marks["" if cell is None else "NaN"] += 1
                continue
        if found is None:
            text[row] = True
        elif found in marked_numbers:
            missing[row] = True
            marks[f"{found:g}"] += 1
        else:
            values[row] = found
    return Numerals(values, missing, text, marks, frozenset(ways))


def _plain_number(cell: Any) -> float | None:
    if isinstance(cell, (bool, int, float, np.bool_, np.integer, np.floating)):
        return float(cell)
    return None
