"""Reading a CSV file of numbers, separated by commas, with or without a line of column names."""

from __future__ import annotations

import array
import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elboverse.errors import DataError

__all__ = ["read_csv"]


def read_csv(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the numbers of a CSV file, shape (N, D), and the names of its columns (empty if it gives none).

    The first line gives the names if none of its cells is a number. Empty lines are skipped.

    Raises:
        DataError: it has no numbers, is no UTF-8 text, or a line has a cell that is no finite number or another
            number of cells than the first; the message names line and column, counted from 1.
    """
    values = array.array("d")
    names: tuple[str, ...] = ()
    width, first_line = 0, 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, strict=True)
            for cells in lines:
                if not cells:
                    continue
                if not width:
                    width, first_line = len(cells), lines.line_num
                    if not any(map(_is_number, cells)):
                        names = (cells[0].lstrip("# "), *(cell.strip() for cell in cells[1:]))
                        continue
                if len(cells) != width:
                    raise DataError(
                        f"{path}: line {lines.line_num} has {len(cells)} cells, line {first_line} has {width}"
                    )
                values.extend(_numbers(cells, names, f"{path}: line {lines.line_num}"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8, so no CSV file: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num}: no valid CSV: {error}") from error
    if not values:
        raise DataError(f"{path}: there are no numbers in it")
    return np.frombuffer(values, dtype=np.float64).reshape(-1, width), names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: list[str], names: tuple[str, ...], where: str) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        numbers = [math.nan]
    if math.isfinite(sum(numbers)):
        return numbers
    for column, cell in enumerate(cells):
        if not (_is_number(cell) and math.isfinite(float(cell))):
            named = f" ({names[column]})" if names else ""
            shown = cell if len(cell) <= 40 else f"{cell[:37]}..."
            raise DataError(f"{where}, column {column + 1}{named}: {shown!r} given, allowed is a finite number")
    return numbers
