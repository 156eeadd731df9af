"""What data look like: a scatter of points in the plane or in space, a grid of images, histograms of anything else."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from elboverse.analysis.style import ACTIVE, applied, new_figure
from elboverse.contracts import Data, is_image

__all__ = ["draw_preview"]

_MOST_POINTS: Final = 2000
_ROWS, _COLUMNS = 4, 8
_MOST_HISTOGRAMS: Final = 24
_HISTOGRAM_COLUMNS: Final = 4
_BINS: Final = 50


def draw_preview(data: Data, title: str) -> Figure:
    """Return a figure of the first training points, in data units.

    Args:
        data: any dataset's.
        title: above the figure.
    """
    count = _ROWS * _COLUMNS if is_image(data.shape) else _MOST_POINTS
    points = data.scaling.undo(data.scaled(data.train[:count])).double().numpy()
    with applied():
        if is_image(data.shape):
            figure = _grid(points.reshape(-1, *data.shape))
        elif data.dimension in {2, 3} and len(data.shape) == 1:
            figure = _scatter(points, _names(data))
        else:
            figure = _histograms(points, _names(data), data.unit)
        figure.suptitle(title, fontsize=9)
    return figure


def _names(data: Data) -> tuple[str, ...]:
    return data.names or tuple(f"dimension {index}" for index in range(data.dimension))


def _scatter(points: NDArray[Any], names: tuple[str, ...]) -> Figure:
    figure = new_figure(4.5)
    axes: Any = figure.add_subplot(projection="3d" if points.shape[1] == 3 else None)
    axes.scatter(*points.T, s=2, color=ACTIVE, linewidths=0)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if points.shape[1] == 3:
        axes.set_zlabel(names[2])
    else:
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def _grid(images: NDArray[Any]) -> Figure:
    images = images[:, None] if images.ndim == 3 else images
    low, high = float(images.min()), float(images.max())
    shown = (images - low) / max(high - low, 1e-12)
    figure = new_figure(3.8)
    for axes, image in zip(figure.subplots(_ROWS, _COLUMNS).flat, shown, strict=False):
        axes.imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", vmin=0, vmax=1)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def _histograms(points: NDArray[Any], names: tuple[str, ...], unit: str) -> Figure:
    shown = min(points.shape[1], _MOST_HISTOGRAMS)
    rows = -(-shown // _HISTOGRAM_COLUMNS)
    columns = min(shown, _HISTOGRAM_COLUMNS)
    figure = new_figure(max(2.5, 1.3 * rows))
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False)).flat
    for axes, values, name in zip(panels, points.T[:shown], names, strict=False):
        axes.hist(values, bins=_BINS, color=ACTIVE)
        axes.set_title(f"{name} [{unit}]" if unit else name)
        axes.set_yticks([])
    for axes in figure.axes[shown:]:
        axes.set_axis_off()
    return figure
