"""The figure of ``variance``: the estimates themselves, and their standard deviations against the number of points."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from elboverse.analysis import style
from elboverse.builtin.analyses.variance.numbers import Estimates

__all__ = ["draw"]

_SERIES: Final = ((0, style.ACTIVE, "o", "-", "ELBO"), (1, style.ACCENT, "D", "--", "entropy sum"))
_ASIDE: Final = 1.09
"""By which factor the two are moved apart, so that neither hides the other."""


def draw(estimates: Estimates) -> Figure:
    """Return the figure.

    Args:
        estimates: what is drawn.
    """
    with style.applied():
        figure = style.new_figure(height=2.9)
        values, deviations = figure.subplots(1, 2)
        _draw_values(values, estimates)
        _draw_deviations(deviations, estimates)
        for axes in (values, deviations):
            axes.set_xscale("log")
            axes.set_xticks(estimates.sizes)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(estimates.sizes[0] / 1.8, estimates.sizes[-1] * 1.8)
            axes.set_xlabel("points")
        named = dict(zip(*reversed(deviations.get_legend_handles_labels()), strict=True))
        named.update(zip(*reversed(values.get_legend_handles_labels()), strict=True))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3)
    return figure


def _draw_values(axes: Axes, estimates: Estimates) -> None:
    axes.set_title(f"{estimates.values.shape[1]} estimates, their mean and standard deviation")
    for column, colour, marker, _, name in _SERIES:
        aside = 1 / _ASIDE if column == 0 else _ASIDE
        positions = estimates.sizes * aside
        each = np.repeat(positions / (1.13 if column == 0 else 1 / 1.13), estimates.values.shape[1])
        axes.plot(each, estimates.values[..., column].ravel(), ".", color=colour, alpha=0.35, markersize=3)
        axes.errorbar(
            positions,
            estimates.means[:, column],
            estimates.deviations[:, column],
            color=colour,
            linestyle="",
            marker=marker,
            markersize=4,
            elinewidth=1.0,
            label=name,
        )
    axes.set_ylabel("nats per point")


def _draw_deviations(axes: Axes, estimates: Estimates) -> None:
    axes.set_title("standard deviation")
    axes.set_yscale("log")
    for column, colour, marker, line, name in _SERIES:
        deviations = estimates.deviations[:, column]
        shown = deviations > 0
        if shown.any():
            axes.plot(
                estimates.sizes[shown], deviations[shown], color=colour, marker=marker, linestyle=line, label=name
            )
        else:
            axes.text(
                0.04, 0.06, "entropy sum: no scatter at all", color=colour, transform=axes.transAxes, fontsize=7.5
            )
    if estimates.controlled is not None:
        controlled = estimates.controlled_deviations
        shown = controlled > 0
        axes.plot(
            estimates.sizes[shown], controlled[shown], color=style.INK, marker="s", linestyle=":", label="ELBO − a · R"
        )
    first = estimates.deviations[0, 0]
    if first > 0:
        guide = first * np.sqrt(estimates.sizes[0] / estimates.sizes)
        axes.plot(estimates.sizes, 1.6 * guide, color=style.GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            "∝ 1/√points",
            (estimates.sizes[0], 1.6 * guide[0]),
            xytext=(6, 2),
            textcoords="offset points",
            fontsize=7,
            color=style.GREY,
        )
    axes.set_ylabel("nats per point")
