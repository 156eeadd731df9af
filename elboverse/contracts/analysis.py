"""What an analysis gives: tables, sentences, numbers and a way to draw them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import attrs

from elboverse.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.animation import Animation
    from matplotlib.figure import Figure

__all__ = ["Result", "Table"]


@attrs.frozen(eq=False, kw_only=True)
class Table:
    """A table of a result.

    Args:
        title: one line above it.
        columns: the column heads.
        rows: one sequence of cells per row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bool | None]]


@attrs.frozen(eq=False, kw_only=True)
class Result:
    """What an analysis' `build(options, run)` returns: a table, sentences, numbers and a way to draw a figure.

    An analysis of several runs says so by the class variable ``several_runs = True`` of its options; it is then given a
    tuple of one or more runs: `build(options, runs)`. One that can be animated says so by ``animated = True`` there.

    Args:
        title: one line above the table.
        columns: the table's column heads.
        rows: the table, one sequence of cells per row: str, int, float, bool or None.
        further: more tables below it.
        notes: sentences below the tables, the verdict first.
        data: the same in full precision, for ``--json``: dicts, lists, str, int, float, bool, None.
        draw: returns the figure; called only if a figure is asked for. None if the analysis has none.
        animate: returns an animation of matplotlib's and its frames per second; called only if a GIF or an MP4 is asked
            for. None if the analysis has none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | bool | None]]
    further: Sequence[Table] = ()
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = attrs.field(factory=dict)
    draw: Callable[[], Figure] | None = None
    animate: Callable[[], tuple[Animation, int]] | None = None

    def figure(self) -> Figure:
        """Return the analysis' figure, a new one at each call.

        As the last line of a notebook's cell it is shown, once, whether or not ``%matplotlib inline`` was given.

        Raises:
            AnalysisError: the analysis has none.
        """
        if self.draw is None:
            raise AnalysisError(f"{self.title}: this analysis has no figure")
        return _shown_once(self.draw())

    def to_pandas(self, table: int = 0) -> Any:
        """Return a table as a `pandas.DataFrame`.

        Args:
            table: 0 for the first table, 1 and so on for those in `further`.

        Raises:
            AnalysisError: pandas is not installed, or no such table exists.
        """
        try:
            import pandas as pd  # an optional package
        except ImportError as error:
            raise AnalysisError("to_pandas needs pandas: pip install pandas") from error
        tables: tuple[Result | Table, ...] = (self, *self.further)
        if not 0 <= table < len(tables):
            raise AnalysisError(f"table: got {table}; expected 0 to {len(tables) - 1}")
        return pd.DataFrame([list(row) for row in tables[table].rows], columns=list(tables[table].columns))

    def _repr_html_(self) -> str:
        """Return the tables and sentences for a notebook."""
        tables: tuple[Result | Table, ...] = (self, *self.further)
        return "".join(map(_html, tables)) + "".join(f"<p>{escape(note)}</p>" for note in self.notes)


def _shown_once(figure: Figure) -> Figure:
    """Return a figure that a notebook shows where it is a cell's result, and not once more at the end of the cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)  # one that pyplot made would be shown by pyplot, too
    if not hasattr(figure, "_repr_png_"):
        vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure


def _png(figure: Figure) -> bytes:
    """Return what a notebook shows of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _html(table: Result | Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(_shown(cell))}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><caption>{escape(table.title)}</caption><tr>{head}</tr>{rows}</table>"


def _shown(cell: Any) -> str:
    return "" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)
