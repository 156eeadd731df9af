"""Tables of results as text: at a terminal fitted to its width, elsewhere as wide as they are, with nothing cut off."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elboverse import contracts
from elboverse.contracts import Result

__all__ = ["formatted", "print_result"]

_UNLIMITED = 10_000


def print_result(result: Result, file: TextIO) -> None:
    """Print the title, the tables and the notes of a result.

    Args:
        result: of an analysis.
        file: where to; without colours unless it is a terminal.
    """
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, markup=False, emoji=False, width=_UNLIMITED, no_color=True)
    tables: tuple[Result | contracts.Table, ...] = (result, *result.further)
    for table in tables:
        console.print(Text(table.title, style="bold"))
        if table.rows:
            console.print(_table(table))
    for note in result.notes:
        console.print(Text(note))


def formatted(values: Sequence[Any]) -> list[str]:
    """Return the cells of one column as text: floats with one number of decimals, integers with separated thousands.

    Four decimals, fewer for large values or where fewer are exact; a value that would be shown as zero but is none
    gets an exponent. None and not-a-number are shown as ``–``, truth values as ``yes`` and ``no``.

    Args:
        values: str, int, float, bool or None.
    """
    numbers = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    digits = len(str(int(max(map(abs, numbers), default=0.0))))
    most = max(1, min(4, 7 - digits))
    decimals = next(
        (fewer for fewer in range(1, most) if all(round(number, fewer) == number for number in numbers)), most
    )
    return [_cell(value, decimals) for value in values]


def _cell(value: Any, decimals: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        tiny = 0 < abs(value) < 0.5 * 10**-decimals
        return f"{value:.1e}" if tiny else f"{value:,.{decimals}f}"
    return str(value)


def _table(result: Result | contracts.Table) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    columns = [list(column) for column in zip(*result.rows, strict=True)]
    cells = [formatted(column) for column in columns]
    for name, column, texts in zip(result.columns, columns, cells, strict=True):
        is_text = all(isinstance(value, str | bool) for value in column)
        heading = "\n".join(
            textwrap.wrap(name, max(8, *map(len, texts)), break_long_words=False, break_on_hyphens=False)
        )
        table.add_column(Text(heading), justify="left" if is_text else "right", vertical="bottom", overflow="fold")
    for row in zip(*cells, strict=True):
        table.add_row(*map(Text, row))
    return table
