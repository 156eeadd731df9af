"""The figure of ``bounds``: ELBO, entropy sum and held-out ELBO above, their relative difference below."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from elboverse.analysis import style
from elboverse.analysis.curves import envelope, quartiles, robust_limits
from elboverse.analysis.pool import Pool
from elboverse.analysis.reading import Array, plural
from elboverse.builtin.analyses.bounds.numbers import Bounds, HeldOut

__all__ = ["draw"]

_TRANSIENT: Final = 0.05
_TRANSIENT_DIFFERENCE: Final = 0.2
"""The share of the run whose values may fall outside the frame. The difference fades more slowly than its terms."""

_NOTE: Final = 0.15
"""The share of the frame's height that a note in a corner takes."""

_CLOSE_UP: Final = 0.8
"""The share of the run after which the close-up begins."""

_FEW: Final = 30
"""Up to how many points a line's points are marked, since a line through few of them may be too short to see."""


def draw(reading: Pool, bounds: Bounds, *, close_up: bool = False) -> Figure:
    """Return the figure. Of several replicas, medians and quartile bands of the moving averages are drawn.

    Args:
        reading: the runs.
        bounds: what is drawn.
        close_up: draw the last fifth of the training again beside it, framed by itself.
    """
    with style.applied():
        figure = style.new_figure(height=4.2)
        widths = (1.6, 1) if close_up else (1,)
        panels = figure.subplots(
            2, len(widths), sharex="col", height_ratios=(1.7, 1), width_ratios=widths, squeeze=False
        )
        upper, lower = panels[:, 0]
        _draw_bounds(upper, reading, bounds)
        _draw_difference(lower, bounds)
        _draw_legend(figure, upper, lower)
        style.label_steps(upper, reading.steps_per_epoch, label=False)
        style.label_steps(lower)
        if close_up:
            _draw_close_up(panels[0, 1], panels[1, 1], reading, bounds)
    return figure


def _draw_close_up(upper: Axes, lower: Axes, reading: Pool, bounds: Bounds) -> None:
    start = _settled(bounds, _CLOSE_UP)
    recent = _since(bounds, start)
    _draw_bounds(upper, reading, recent, frame_truth=False)
    _draw_difference(lower, recent)
    upper.set_title("the last fifth", fontsize=8)
    for axes in (upper, lower):
        axes.set_ylabel("")
    style.label_steps(lower)
    lower.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))


def _since(bounds: Bounds, start: float) -> Bounds:
    """Return the part of the bounds from a step on; the differences stay relative to the same final ELBO."""
    late = bounds.steps >= start
    held_out = bounds.held_out
    if held_out is not None:
        kept = held_out.steps >= start
        held_out = HeldOut(held_out.steps[kept], held_out.elbo[kept], held_out.standard_error[kept])
    return attrs.evolve(
        bounds,
        steps=bounds.steps[late],
        elbo=bounds.elbo[late],
        entropy_sum=bounds.entropy_sum[late],
        held_out=held_out,
    )


def _draw_bounds(axes: Axes, reading: Pool, bounds: Bounds, *, frame_truth: bool = True) -> None:
    framed = []
    for values, colour, line, name in (
        (bounds.elbo, style.ACTIVE, "-", "ELBO"),
        (bounds.entropy_sum, style.ACCENT, (0, (3.5, 1.5)), "entropy sum"),
    ):
        if values.shape[1] == 1:
            _draw_line(axes, bounds.steps, values[:, 0], color=colour, linewidth=0.5, alpha=0.22, zorder=1)
        low, median, high = quartiles(bounds.averaged(values))
        _draw_line(axes, bounds.steps, median, color=colour, linestyle=line, linewidth=1.3, label=name, zorder=3)
        _draw_band(axes, bounds.steps, low, high, colour)
        framed += [(bounds.steps, low), (bounds.steps, high)]
    if bounds.held_out is not None:
        low, median, high = quartiles(bounds.held_out.elbo)
        error = np.stack((median - low, high - median))
        if bounds.elbo.shape[1] == 1:
            error = np.broadcast_to(bounds.held_out.standard_error[:, 0], error.shape)
        axes.errorbar(
            bounds.held_out.steps,
            median,
            error,
            linestyle="",
            marker="o",
            markersize=3.5,
            color=style.INK,
            markerfacecolor="white",
            elinewidth=0.8,
            label="held-out ELBO",
            zorder=4,
        )
        framed.append((bounds.held_out.steps, median))
    truth = reading.ground_truth("held_out")
    if truth is not None:
        label = "generating log-likelihood"
        axes.axhline(truth, color=style.INK, linewidth=0.9, linestyle=":", label=label, zorder=2)
        if frame_truth:
            framed.append((bounds.steps[-1:], np.array([truth])))
    axes.set_ylabel("nats per point")
    _frame(axes, framed, _settled(bounds, _TRANSIENT))


def _draw_difference(axes: Axes, bounds: Bounds) -> None:
    relative = bounds.relative_difference
    axes.axhline(0, color=style.GREY, linewidth=0.8, zorder=0)
    several = relative.shape[1] > 1
    start = _settled(bounds, _TRANSIENT_DIFFERENCE)
    low, median, high = quartiles(bounds.averaged(relative))
    framed = [(bounds.steps, low), (bounds.steps, high), (bounds.steps[-1:], np.zeros(1))]
    if not several:
        _draw_line(
            axes,
            bounds.steps,
            relative[:, 0],
            color=style.GREY,
            linewidth=0.5,
            alpha=0.55,
            label="difference at each step",
            zorder=1,
        )
        extent = np.quantile(relative[bounds.steps >= start, 0], (0.02, 0.98))
        framed.append((np.broadcast_to(bounds.steps[-1], extent.shape), extent))
    average = f"average over {plural(bounds.window, 'step')}"
    label = f"its {average}" if not several else f"difference, {average}"
    _draw_line(axes, bounds.steps, median, color=style.INK, linewidth=1.3, label=label, zorder=3)
    _draw_band(axes, bounds.steps, low, high, style.INK)
    axes.set_ylabel("difference (%)")
    _frame(axes, framed, start, above=True)


def _draw_legend(figure: Figure, upper: Axes, lower: Axes) -> None:
    handles = [handle for axes in (upper, lower) for handle in axes.get_legend_handles_labels()[0]]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=3)
    for line in legend.get_lines():
        line.set_alpha(1)
        line.set_linewidth(max(1.0, line.get_linewidth()))


def _settled(bounds: Bounds, share: float) -> float:
    return float(bounds.steps[0] + share * (bounds.steps[-1] - bounds.steps[0]))


def _draw_line(axes: Axes, steps: Array, values: Array, **style_of_line: object) -> None:
    kept = envelope(values)
    axes.plot(steps[kept], values[kept], marker="." if len(steps) <= _FEW else "", **style_of_line)  # type: ignore[arg-type]


def _draw_band(axes: Axes, steps: Array, low: Array, high: Array, colour: str) -> None:
    if low is not high:
        kept = np.union1d(envelope(low), envelope(high))
        axes.fill_between(steps[kept], low[kept], high[kept], color=colour, alpha=0.2, linewidth=0, zorder=2)


def _frame(axes: Axes, curves: list[tuple[Array, Array]], start: float, *, above: bool = False) -> None:
    """Set the vertical limits to what is settled, and say so where that leaves out the beginning of the first curve.

    Args:
        axes: what is framed.
        curves: steps and values of each.
        start: the step from which on values are settled.
        above: whether there is room for the note above the axes; else it is put where no curve runs.
    """
    limits = robust_limits(curves, start)
    if limits is None:
        return
    axes.set_ylim(*limits)
    first = float(curves[0][1][0])
    if limits[0] <= first <= limits[1]:
        return
    note = f"starts outside the frame, at {first:,.4g}".replace("-", "−")
    if above:
        axes.set_title(note, loc="right", fontsize=7, color=style.INK, pad=2)
        return
    at_bottom = _is_free(curves, limits, bottom=True) or not _is_free(curves, limits, bottom=False)
    axes.annotate(
        f"ELBO {note}",
        (0.995, 0.05 if at_bottom else 0.96),
        xycoords="axes fraction",
        ha="right",
        va="bottom" if at_bottom else "top",
        fontsize=7,
        color=style.INK,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )


def _is_free(curves: list[tuple[Array, Array]], limits: tuple[float, float], *, bottom: bool) -> bool:
    """Return whether no curve runs where a note in the lower or upper right corner would cover it."""
    low, high = limits
    for steps, values in curves:
        right = values[steps >= (steps[0] + steps[-1]) / 2]
        height = (right - low) / (high - low)
        if bool(((height < _NOTE) if bottom else (height > 1 - _NOTE)).any()):
            return False
    return True
