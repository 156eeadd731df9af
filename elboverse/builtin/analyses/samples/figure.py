"""The figure of ``samples``: scatter in two or three dimensions, images in rows, else a histogram per dimension."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elboverse.analysis import style
from elboverse.analysis.image_sheet import sheet
from elboverse.analysis.reading import Array
from elboverse.builtin.analyses.samples.numbers import Samples

__all__ = ["draw"]

_COLUMNS: Final = 12
_ROWS: Final = 2
_MOST_HISTOGRAMS: Final = 12
_MOST_SCATTERED: Final = 2000
_FEWEST_OF_A_CURVE: Final = 16
_FEWEST_POINTS: Final = 8
_ALIKE: Final = 0.8
"""Correlation of neighbouring dimensions from which on they are drawn as a curve."""
_CURVES: Final = 6


def draw(found: Samples, source: str) -> Figure:
    """Return the figure.

    Args:
        found: what is drawn.
        source: what the data are, in words.
    """
    dimension = found.data.shape[1]
    with style.applied():
        if found.image_shape is not None:
            return _draw_images(found, source)
        if dimension == 2:
            return _draw_plane(found, source)
        if dimension == 3:
            return _draw_space(found, source)
        if _are_curves(found):
            return _draw_curves(found, source)
        return _draw_histograms(found, source)


def _kinds(found: Samples, source: str) -> tuple[tuple[str, Array, str], ...]:
    return (
        (source, found.data, style.INK),
        ("reconstructions", found.reconstructions, style.ACTIVE),
        ("samples", found.samples, style.ACCENT),
    )


def _label(found: Samples, dimension: int) -> str:
    return f"{found.names[dimension]} ({found.unit})" if found.unit else found.names[dimension]


def _limits(found: Samples, dimension: int) -> tuple[float, float]:
    """Return limits that show all of the data and almost all samples."""
    values = np.concatenate((found.data[:, dimension], np.quantile(found.samples[:, dimension], (0.005, 0.995))))
    margin = 0.06 * float(np.ptp(values)) or 0.5
    return float(values.min()) - margin, float(values.max()) + margin


def _draw_plane(found: Samples, source: str) -> Figure:
    figure = style.new_figure(height=2.6)
    for axes, (title, points, colour) in zip(
        figure.subplots(1, 3, sharex=True, sharey=True), _kinds(found, source), strict=True
    ):
        axes.set_title(title)
        axes.scatter(*points[:_MOST_SCATTERED].T, s=2.5, color=colour, alpha=0.5, linewidths=0, rasterized=True)
        axes.set(xlim=_limits(found, 0), ylim=_limits(found, 1), aspect="equal", xlabel=_label(found, 0))
        if title == source:
            axes.set_ylabel(_label(found, 1))
    return figure


def _draw_space(found: Samples, source: str) -> Figure:
    figure = style.new_figure(height=2.5)
    for number, (title, points, colour) in enumerate(_kinds(found, source), start=1):
        axes: Any = figure.add_subplot(1, 3, number, projection="3d")
        axes.set_title(title)
        axes.scatter(*points[:_MOST_SCATTERED].T, s=2.5, color=colour, alpha=0.5, linewidths=0, rasterized=True)
        axes.set(xlim=_limits(found, 0), ylim=_limits(found, 1), zlim=_limits(found, 2))
        axes.set(xlabel=_label(found, 0), ylabel=_label(found, 1), zlabel=_label(found, 2))
        axes.tick_params(labelsize=6, pad=-2)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -6
            axis.set_pane_color((1, 1, 1, 0))
        axes.locator_params(nbins=4)
        axes.view_init(elev=18, azim=-72)
        axes.set_box_aspect(None, zoom=0.9)  # else the vertical axis' name is cut off
    return figure


def _draw_images(found: Samples, source: str) -> Figure:
    kinds = (
        (source, found.data),
        ("reconstructions", found.reconstructions),
        ("samples (means)", found.sample_means),
    )
    low, high = float(found.data.min()), float(found.data.max())
    columns = min(_COLUMNS, len(found.data))
    rows = min(_ROWS, math.ceil(len(found.data) / columns))
    pictures = [sheet(points[: rows * columns], found.image_shape or (), columns, low, high) for _, points in kinds]
    height, width = pictures[0].shape[:2]
    figure = style.new_figure(height=3 * (6.6 * height / width + 0.3))
    for axes, (title, _), picture in zip(figure.subplots(3, 1), kinds, pictures, strict=True):
        axes.set_title(title)
        axes.imshow(picture, vmin=0, vmax=1, cmap="gray", interpolation="nearest")
        axes.set_axis_off()
    return figure


def _are_curves(found: Samples) -> bool:
    """Return whether the dimensions are places along an axis, as those of a spectrum are: neighbours are alike."""
    points = found.data[:_MOST_SCATTERED]
    if points.shape[1] < _FEWEST_OF_A_CURVE or len(points) < _FEWEST_POINTS:
        return False
    centred = points - points.mean(0)
    products = (centred[:, 1:] * centred[:, :-1]).mean(0)
    scales = np.sqrt(np.square(centred[:, 1:]).mean(0) * np.square(centred[:, :-1]).mean(0))
    varying = scales > 0
    return bool(varying.any()) and float(np.median(products[varying] / scales[varying])) > _ALIKE


def _draw_curves(found: Samples, source: str) -> Figure:
    """Return a figure of some points as curves with their reconstructions, and of all beside the samples."""
    try:
        along = np.array([float(name) for name in found.names])
    except ValueError:
        along = np.arange(found.data.shape[1], dtype=float)
    label = "dimension" if np.array_equal(along, np.arange(len(along))) else "position, as the columns are named"
    figure = style.new_figure(height=2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    chosen = np.linspace(0, len(found.data) - 1, _CURVES).astype(int)
    for number, row in enumerate(chosen):
        names = (source, "their reconstructions") if number == 0 else (None, None)
        left.plot(along, found.data[row], color=style.INK, linewidth=0.8, label=names[0])
        left.plot(along, found.reconstructions[row], color=style.ACTIVE, linewidth=1.0, linestyle="--", label=names[1])
    left.set(title="some of them", xlabel=label, ylabel=found.unit or "value")
    for name, points, colour, line in (
        (source, found.data, style.INK, "-"),
        ("samples", found.samples, style.ACCENT, "--"),
    ):
        low, middle, high = np.quantile(points, (0.05, 0.5, 0.95), axis=0)
        right.fill_between(along, low, high, color=colour, alpha=0.18, linewidth=0)
        right.plot(along, middle, color=colour, linewidth=1.1, linestyle=line, label=f"{name}: median, 5 to 95 %")
    right.set(title="all of them", xlabel=label)
    for axes in (left, right):
        axes.set_xlim(float(along.min()), float(along.max()))
    handles = [
        *zip(*left.get_legend_handles_labels(), strict=True),
        *zip(*right.get_legend_handles_labels(), strict=True),
    ]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=2)
    return figure


def _draw_histograms(found: Samples, source: str) -> Figure:
    shown = min(_MOST_HISTOGRAMS, found.data.shape[1])
    columns = min(4, shown)
    rows = math.ceil(shown / columns)
    figure = style.new_figure(height=0.5 + 1.4 * rows + (0.6 if rows == 1 else 0))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for d, axes in enumerate(panels):
        if d >= shown:
            axes.set_axis_off()
            continue
        _draw_histogram(axes, found, d, source)
    if shown < found.data.shape[1]:
        figure.suptitle(f"the first {shown} of {found.data.shape[1]:,} dimensions", fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_histogram(axes: Axes, found: Samples, d: int, source: str) -> None:
    edges = np.linspace(*_limits(found, d), 41)
    for (name, points, colour), line in zip(_kinds(found, source), ("-", "--", "-"), strict=True):
        counts, _ = np.histogram(points[:, d], edges)
        density = counts / (len(points) * np.diff(edges))
        if name == source:
            axes.stairs(density, edges, fill=True, color=style.GREY, alpha=0.45, linewidth=0, label=name)
        else:
            axes.stairs(density, edges, color=colour, linewidth=1.0, linestyle=line, label=name)
    axes.set_xlabel(_label(found, d), labelpad=1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
