"""The figure of ``selection``: both estimates, their BIC and the model that it picks, through a stream."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from elboverse.analysis import style
from elboverse.analysis.curves import averager, envelope, quartiles, robust_limits
from elboverse.analysis.reading import Array, plural
from elboverse.builtin.analyses.selection.numbers import ESTIMATES, Selection
from elboverse.builtin.analyses.selection.regimes import Span

__all__ = ["draw"]

_WINDOW: Final = 100
_TRANSIENT: Final = 0.2
"""The share of each regime whose values may fall outside the frame: the models are still following the change."""

_BINS: Final = 240
_MOST_SHADED: Final = 60
_MOST_NAMED: Final = 6


def draw(selection: Selection) -> Figure:
    """Return the figure. Of several replicas, medians are drawn, and the shares are over all of them.

    Args:
        selection: what is drawn.
    """
    with style.applied():
        figure = style.new_figure(height=5.0)
        panels = figure.subplots(3, 2, sharex=True, sharey="row", height_ratios=(1.25, 1.25, 0.42))
        window = max(1, min(_WINDOW, int(np.ptp(selection.steps) + 1) // 10))
        average = averager(selection.steps, window)
        spans = selection.spans
        for column, (name, words) in zip(panels.T, ESTIMATES.items(), strict=True):
            bic = selection.bic(name)
            column[0].set_title(f"from the {words}", pad=14 if len(spans) <= _MOST_NAMED else 6)
            _draw_curves(column[0], selection, selection.estimates[name], average)
            _draw_curves(column[1], selection, bic, average)
            _draw_theory(column[0], selection, spans)
            _draw_shares(column[2], selection, bic.argmin(0))
            for axes in column:
                _mark_regimes(axes, spans)
            _name_regimes(column[0], selection, spans)
            style.label_steps(column[2])
        for axes, values, label in (
            (panels[0, 0], selection.estimates, "nats per point"),
            (panels[1, 0], {name: selection.bic(name) for name in ESTIMATES}, "BIC of a batch"),
        ):
            axes.set_ylabel(label)
            _frame(axes, selection, values, spans)
        panels[2, 0].set(
            ylabel="lowest\nBIC", ylim=(0, 1), yticks=[], xlim=(selection.steps[0], selection.steps[-1] + 1)
        )
        _draw_legend(figure, selection, window)
    return figure


def _look(model: int) -> tuple[Any, Any]:
    return style.CYCLE[model % len(style.CYCLE)]


def _draw_curves(axes: Axes, selection: Selection, values: Array, average: Any) -> None:
    most = style.points_per_line(8 * len(values))
    for model, of_model in enumerate(values):
        colour, line = _look(model)
        for curve, look in (
            (quartiles(of_model)[1], {"linewidth": 0.5, "alpha": 0.25, "zorder": 1}),
            (quartiles(average(of_model))[1], {"linewidth": 1.2, "linestyle": line, "zorder": 3}),
        ):
            kept = envelope(curve, most)
            axes.plot(selection.steps[kept], curve[kept], color=colour, **look)


def _draw_theory(axes: Axes, selection: Selection, spans: list[Span]) -> None:
    for span in spans[:_MOST_SHADED]:
        for model in range(len(selection.candidates)):
            optimum = selection.theory(model, selection.timeline.regimes[span.regime])
            if optimum is not None:
                axes.hlines(optimum, span.first, span.end, colors=style.INK, linewidth=0.9, linestyle=":", zorder=4)


def _draw_shares(axes: Axes, selection: Selection, lowest: Array) -> None:
    """Draw in which share of the batches around each step each model, by number (T, R), has the lowest BIC."""
    steps = selection.steps
    edges = np.unique(np.linspace(0, len(steps), min(_BINS, len(steps)) + 1).astype(np.int64))
    counts = [np.add.reduceat((lowest == model).sum(1), edges[:-1]) for model in range(len(selection.candidates))]
    shares = np.stack(counts) / (np.diff(edges) * lowest.shape[1])
    places = np.append(steps[edges[:-1]], steps[-1] + 1)
    tops = np.cumsum(np.concatenate((shares, shares[:, -1:]), axis=1), axis=0)
    for model, top in enumerate(tops):
        bottom = tops[model - 1] if model else np.zeros_like(top)
        axes.fill_between(places, bottom, top, step="post", color=_look(model)[0], linewidth=0)
    spans = selection.spans
    for span in spans if len(spans) <= _MOST_NAMED else ():
        inside = lowest[(steps >= span.first) & (steps < span.end)]
        if len(inside):
            label = selection.candidates[np.bincount(inside.ravel()).argmax()].label
            place = (span.first + min(span.end, int(steps[-1]) + 1)) / 2
            axes.text(place, 0.5, label, color="white", weight="bold", fontsize=7, ha="center", va="center")


def _mark_regimes(axes: Axes, spans: list[Span]) -> None:
    for span in spans[1:_MOST_SHADED]:
        axes.axvline(span.first, color=style.INK, linewidth=0.6, zorder=5)
    for span in spans[1:_MOST_SHADED:2]:
        axes.axvspan(span.first, span.end, color=style.GREY, alpha=0.13, linewidth=0, zorder=0)


def _name_regimes(axes: Axes, selection: Selection, spans: list[Span]) -> None:
    if not 1 < len(spans) <= _MOST_NAMED:
        return
    last = int(selection.steps[-1]) + 1
    for span in spans:
        axes.annotate(
            selection.timeline.regimes[span.regime].name,
            ((span.first + min(span.end, last)) / 2, 1.02),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=7,
        )


def _frame(axes: Axes, selection: Selection, values: dict[str, Array], spans: list[Span]) -> None:
    """Set the vertical limits to what is settled in each regime."""
    firsts, ends = (np.array([getattr(span, end) for span in spans]) for end in ("first", "end"))
    number = np.searchsorted(firsts, selection.steps, side="right") - 1
    ends = np.minimum(ends, selection.steps[-1] + 1)
    settled = selection.steps >= (firsts + _TRANSIENT * (ends - firsts))[number]
    steps = selection.steps[settled]
    curves = [(steps, quartiles(of_model[settled])[1]) for estimate in values.values() for of_model in estimate]
    limits = robust_limits(curves, start=-1)
    if limits is not None:
        axes.set_ylim(*limits)


def _draw_legend(figure: Figure, selection: Selection, window: int) -> None:
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=candidate.label)
        for (colour, line), candidate in zip(
            map(_look, range(len(selection.candidates))), selection.candidates, strict=True
        )
    ]
    regimes = selection.timeline.regimes
    if any(selection.theory(model, regime) is not None for model in range(len(handles)) for regime in regimes):
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, linestyle=":", label="exact optimum"))
    handles.append(
        Line2D([], [], color=style.GREY, linewidth=1.2, label=f"average over {plural(window, 'step')} (faint: each)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
