"""Tables of results as text: at a terminal fitted to its width, elsewhere as wide as they are, with nothing cut off."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal, TextIO

import attrs
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elboverse import contracts
from elboverse.contracts import Result

__all__ = ["formatted", "print_result"]

_UNLIMITED = 10_000
_PADDING = 1
_LEAST_NAMES = 20
"""How wide the column that names the rows may be at least, however narrow the terminal is."""


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
            for part in _fitted(table, console.width):
                console.print(part)
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
        return f"{value:.1e}" if tiny else f"{value:z,.{decimals}f}"
    return str(value)


@attrs.frozen
class _Column:
    heading: str
    texts: list[str]
    is_text: bool

    @property
    def width(self) -> int:
        lines = [line for text in (self.heading, *self.texts) for line in text.splitlines()]
        return max(map(cell_len, lines), default=0) + _PADDING


def _fitted(result: Result | contracts.Table, width: int) -> list[Table]:
    """Return a table in as many parts as the width asks for; each begins with the column that names the rows."""
    columns = []
    for name, values in zip(result.columns, zip(*result.rows, strict=True), strict=True):
        texts = formatted(values)
        heading = "\n".join(
            textwrap.wrap(name, max(8, *map(len, texts)), break_long_words=False, break_on_hyphens=False)
        )
        columns.append(_Column(heading, texts, all(isinstance(value, str | bool) for value in values)))
    first, *others = columns
    parts: list[list[_Column]] = [[first]]
    taken = kept = min(first.width, max(_LEAST_NAMES, width // 2))
    for column in others:
        if taken + column.width > width and len(parts[-1]) > 1:
            parts.append([first])
            taken = kept
        parts[-1].append(column)
        taken += column.width
    return [_table(part) for part in parts]


def _table(columns: Sequence[_Column]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, _PADDING, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.is_text else "right"
        table.add_column(Text(column.heading), justify=justify, vertical="bottom", overflow="fold")
    for row in zip(*(column.texts for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table
