"""What an analysis gives: tables, sentences, numbers and a way to draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

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
