"""The figure of ``compare``: the ELBO of every run through its training, and where ELBO and entropy sum ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from elboverse.analysis import style
from elboverse.analysis.curves import envelope, robust_limits
from elboverse.builtin.analyses.compare.numbers import Compared

__all__ = ["draw"]

_TRANSIENT: Final = 0.05
_LONGEST: Final = 28
"""How many characters of a run's label are shown, its end: that is where the labels differ."""


def draw(compared: Sequence[Compared]) -> Figure:
    """Return the figure.

    Args:
        compared: the runs.
    """
    with style.applied():
        figure = style.new_figure(height=max(2.7, 1.5 + 0.22 * len(compared)))
        training, ends = figure.subplots(1, 2, width_ratios=(1.3, 1))
        _draw_training(training, compared)
        _draw_ends(ends, compared)
        markers: list[tuple[str, dict[str, Any]]] = [
            ("ELBO", {"marker": "o"}),
            ("entropy sum", {"marker": "D", "markerfacecolor": "white"}),
            ("held-out ELBO ± SE", {"marker": "|", "markersize": 8, "markeredgewidth": 1.4}),
        ]
        handles = [Line2D([], [], color=style.INK, linestyle="", label=name, **look) for name, look in markers]
        figure.legend(handles=handles, loc="outside lower right", ncols=3)
    return figure


def _look(index: int) -> tuple[Any, Any]:
    return style.CYCLE[index % len(style.CYCLE)]


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"…{label[1 - _LONGEST :]}"


def _draw_training(axes: Axes, compared: Sequence[Compared]) -> None:
    axes.set_title("ELBO through training, averaged")
    framed = []
    longest = max((run.step for run in compared), default=0)
    for index, run in enumerate(compared):
        if run.elbo is None:
            continue
        steps, values = run.reading.run.steps, run.averaged("elbo")
        kept = envelope(values, style.points_per_line(len(compared)))
        colour, line = _look(index)
        axes.plot(steps[kept], values[kept], color=colour, linestyle=line, linewidth=1.1, label=_short(run.label))
        framed.append((steps, values))
    limits = robust_limits(framed, _TRANSIENT * longest)
    if limits is not None:
        axes.set_ylim(*limits)
    if 0 < len(framed) <= len(style.CYCLE):
        axes.legend(loc="lower right", handlelength=2.6)
    axes.set_ylabel("nats per point")
    style.label_steps(axes)


def _draw_ends(axes: Axes, compared: Sequence[Compared]) -> None:
    axes.set_title("at the end")
    for index, run in enumerate(compared):
        colour, line = _look(index)
        if run.elbo is not None and run.entropy_sum is not None:
            axes.plot([run.elbo, run.entropy_sum], [index, index], color=colour, linewidth=1.0, linestyle=line)
            axes.plot(run.elbo, index, marker="o", color=colour, zorder=3)
            axes.plot(run.entropy_sum, index, marker="D", color=colour, markerfacecolor="white", zorder=3)
        if run.held_out_elbo is not None:
            error = np.nan_to_num(run.held_out_standard_error or 0.0)
            axes.errorbar(
                run.held_out_elbo,
                index,
                xerr=error,
                color=colour,
                marker="|",
                markersize=9,
                markeredgewidth=1.4,
                elinewidth=1.0,
            )
    axes.set_yticks(range(len(compared)), [_short(run.label) for run in compared])
    for index, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(_look(index)[0])
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel("nats per point")
