"""The film of ``animate``: latent space, reconstructions and samples in every frame, and the bounds below them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from elboverse.analysis import style
from elboverse.analysis.curves import envelope, robust_limits
from elboverse.analysis.image_sheet import sheet
from elboverse.analysis.reading import Array
from elboverse.builtin.analyses.animate.numbers import Curves, Film

__all__ = ["animate", "draw_sheet"]

_SHEET_FRAMES: Final = 5
_MOST_SCATTERED: Final = 600
_ELLIPSES: Final = 16
_COLUMNS: Final = 6
_TRANSIENT: Final = 0.01
_DARKENED: Final = 0.85
"""What the colours of angles are multiplied by, the lightest of which are else lost on white paper."""

_BINS: Final = 41

Panel = Callable[[int], list[Artist]]
"""Draws a frame, by number, into axes that were prepared for it, and returns what changes with the frame."""


def animate(film: Film, rate: int) -> FuncAnimation:
    """Return the animation.

    Args:
        film: what is drawn.
        rate: frames per second.
    """
    with style.applied():
        figure = style.new_figure(height=3.7)
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(2, 3, height_ratios=(2.3, 1))
        panels = _panels(figure, film, [grid[0, 0], grid[0, 1], grid[0, 2]])
        if film.curves is not None:
            panels.append(_bounds_panel(figure, film, film.curves, grid[1, :]))
        heading = figure.suptitle("", fontsize=9, family="DejaVu Sans Mono")
        drawn: list[Artist] = []

        def show(frame: int) -> list[Artist]:
            for artist in drawn:
                artist.remove()
            drawn[:] = [artist for panel in panels for artist in panel(frame)]
            heading.set_text(_heading(film, frame))
            return drawn

        show(len(film.steps) - 1)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # else the panels would move from frame to frame
        return FuncAnimation(figure, show, frames=len(film.steps), interval=1000 / rate, init_func=list)


def draw_sheet(film: Film) -> Figure:
    """Return a figure of some frames side by side, a column each.

    Args:
        film: what is drawn.
    """
    with style.applied():
        count = min(_SHEET_FRAMES, len(film.steps))
        chosen = np.linspace(0, len(film.steps) - 1, count).round().astype(np.int64)
        figure = style.new_figure(height=4.9)
        grid = figure.add_gridspec(3, count)
        for column, frame in enumerate(chosen):
            panels = _panels(figure, film, [grid[row, column] for row in range(3)], named=column == 0)
            for panel in panels:
                panel(int(frame))
            for axes in figure.axes[3 * column :]:
                if axes.name == "3d":
                    axes.set(xlabel="", ylabel="", zlabel="")  # for which such a small panel has no room
                elif column:
                    axes.set_ylabel("")
            figure.axes[3 * column].set_title(f"step {film.steps[frame]:,}")
    return figure


def _heading(film: Film, frame: int) -> str:
    step = f"step {film.steps[frame]:{len(f'{film.steps[-1]:,}')},}"
    if film.curves is None:
        return step
    row = film.curves.row(int(film.steps[frame]))
    return f"{step}    ELBO {film.curves.elbo[row]:9.3f}    entropy sum {film.curves.entropy_sum[row]:9.3f}"


def _panels(figure: Figure, film: Film, places: list[Any], *, named: bool = True) -> list[Panel]:
    """Return the panels of latent space, reconstructions and samples, titled or named at their side.

    Args:
        figure: theirs.
        film: what is drawn.
        places: of the three, in the figure's grid.
        named: whether they have their names.
    """
    titles = ("latent space", "reconstructions", "samples (means)")
    latent = figure.add_subplot(places[0])
    spatial = film.image_shape is None and film.data.shape[1] == 3
    data = [figure.add_subplot(place, projection="3d" if spatial else None) for place in places[1:]]
    beside = places[0].colspan == places[1].colspan  # one above the other
    for axes, title in zip((latent, *data), titles, strict=True):
        if not beside:
            axes.set_title(title)
        elif named:
            axes.annotate(title, (-0.5, 0.5), xycoords="axes fraction", rotation=90, va="center", ha="right")
    colours = _colours(film)
    return [
        _latent_panel(latent, film, colours),
        _data_panel(data[0], film, film.reconstructions, colours, behind=True),
        _data_panel(data[1], film, film.samples, None),
    ]


def _colours(film: Film) -> Array:
    """Return a colour that each point keeps: of its place in data space, of images where they end in latent space."""
    place = film.data if film.image_shape is None else film.means[-1][:, list(film.shown)]
    if place.shape[1] in {2, 3}:
        centred = place - place.mean(0)
        angle = np.arctan2(centred[:, 1], centred[:, 0]) / (2 * np.pi) % 1
        return np.asarray(_DARKENED * colormaps["twilight_shifted"](angle)[:, :3])
    ranks = place[:, 0].argsort().argsort() / max(1, len(place) - 1)
    return np.asarray(colormaps["viridis"](0.92 * ranks)[:, :3])


def _limits(needed: Array, wanted: Array) -> tuple[float, float]:
    """Return limits that hold what is needed, and almost all that is wanted unless that takes over twice as much."""
    low, high = float(needed.min()), float(needed.max())
    spread = (high - low) or 1.0
    finite = wanted[np.isfinite(wanted)]
    if len(finite):
        lowest, highest = map(float, np.quantile(finite, (0.003, 0.997)))
        low, high = max(min(low, lowest), low - spread / 2), min(max(high, highest), high + spread / 2)
    return low - 0.06 * spread, high + 0.06 * spread


def _latent_panel(axes: Any, film: Film, colours: Array) -> Panel:
    means = film.means[..., list(film.shown)].astype(np.float64)
    deviations = np.sqrt(film.variances[..., list(film.shown)].astype(np.float64))
    widest = 2 * max(float(np.sqrt(film.prior_variance(frame).max())) for frame in range(len(film.steps)))
    limits = [_limits(np.array([-widest, widest]), means[..., h]) for h in range(len(film.shown))]
    label = [f"latent {latent}" for latent in film.shown]
    axes.set(xlim=limits[0], xlabel=label[0])
    if len(film.shown) == 1:
        return _histogram_panel(axes, means[..., 0], limits[0], style.ACTIVE)
    axes.set(ylim=limits[1], ylabel=label[1])
    axes.set_aspect("equal")
    few = slice(min(_ELLIPSES, means.shape[1]))

    def show(frame: int) -> list[Artist]:
        prior = np.sqrt(film.prior_variance(frame))
        rings = EllipseCollection(
            *([2 * prior[0], 4 * prior[0]], [2 * prior[1], 4 * prior[1]], [0, 0]),
            units="xy",
            offsets=np.zeros((2, 2)),
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=style.INK,
            linewidths=0.7,
            linestyles=":",
        )
        ellipses = EllipseCollection(
            *(2 * deviations[frame, few, 0], 2 * deviations[frame, few, 1], np.zeros(few.stop)),
            units="xy",
            offsets=means[frame, few],
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=colours[few],
            linewidths=0.5,
            alpha=0.7,
        )
        axes.add_collection(rings, autolim=False)
        axes.add_collection(ellipses, autolim=False)
        return [rings, ellipses, _scatter(axes, means[frame], colours)]

    return show


def _data_panel(axes: Any, film: Film, points: Array, colours: Array | None, *, behind: bool = False) -> Panel:
    """Return the panel of some points in data space.

    Args:
        axes: prepared here.
        film: what is drawn.
        points: shape (F, Q, D).
        colours: of the points; None for a single one.
        behind: whether the data are drawn too, behind the points.
    """
    if film.image_shape is not None:
        return _image_panel(axes, film, points)
    dimension = min(3, film.data.shape[1]) if film.data.shape[1] <= 3 else 2
    names = [f"{name} ({film.unit})" if film.unit else name for name in film.names[:dimension]]
    limits = [_limits(film.data[:, d], film.reconstructions[..., d]) for d in range(dimension)]
    axes.set(xlim=limits[0], xlabel=names[0])
    if dimension == 1:
        return _histogram_panel(axes, points[..., 0], limits[0], style.ACTIVE, film.data[:, 0])
    axes.set(ylim=limits[1], ylabel=names[1])
    if dimension == 3:
        axes.set(zlim=limits[2], zlabel=names[2])
        axes.tick_params(labelsize=6, pad=-3)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -8
            axis.set_pane_color((1, 1, 1, 0))
        axes.locator_params(nbins=4)
        axes.view_init(elev=18, azim=-72)
        axes.set_box_aspect(None, zoom=1.1)
    elif film.data.shape[1] == 2:
        axes.set_aspect("equal")
    if behind:
        axes.scatter(*film.data[:_MOST_SCATTERED, :dimension].T, s=3, color=style.GREY, alpha=0.4, linewidths=0)
    return lambda frame: [_scatter(axes, points[frame, :, :dimension], style.ACCENT if colours is None else colours)]


def _scatter(axes: Any, points: Array, colours: Any) -> Artist:
    shown = points[:_MOST_SCATTERED]
    colour = colours if isinstance(colours, str) else colours[: len(shown)]
    scattered: Artist = axes.scatter(*shown.T, s=5, c=colour, linewidths=0, alpha=0.85, zorder=3, rasterized=True)
    return scattered


def _histogram_panel(
    axes: Any, values: Array, limits: tuple[float, float], colour: str, behind: Array | None = None
) -> Panel:
    edges = np.linspace(*limits, _BINS)
    densities = [np.histogram(one, edges)[0] / (len(one) * np.diff(edges)) for one in values]
    axes.set(yticks=[], ylim=(0, 1.1 * float(np.quantile([density.max() for density in densities], 0.9))))
    if behind is not None:
        data = np.histogram(behind, edges)[0] / (len(behind) * np.diff(edges))
        axes.stairs(data, edges, fill=True, color=style.GREY, alpha=0.45, linewidth=0)
    return lambda frame: [axes.stairs(densities[frame], edges, color=colour, linewidth=1.2)]


def _image_panel(axes: Any, film: Film, points: Array) -> Panel:
    low, high = float(film.data.min()), float(film.data.max())
    count = min(_COLUMNS**2, len(film.data))
    columns = max(1, math.isqrt(count))
    axes.set_axis_off()

    def show(frame: int) -> list[Artist]:
        picture = sheet(points[frame, : columns**2], film.image_shape or (), columns, low, high)
        return [axes.imshow(picture, vmin=0, vmax=1, cmap="gray", interpolation="nearest")]

    return show


def _bounds_panel(figure: Figure, film: Film, curves: Curves, place: Any) -> Panel:
    axes = figure.add_subplot(place)
    for values, colour, line, name in (
        (curves.elbo, style.ACTIVE, "-", "ELBO"),
        (curves.entropy_sum, style.ACCENT, (0, (3.5, 1.5)), "entropy sum"),
    ):
        kept = envelope(values)
        axes.plot(curves.steps[kept], values[kept], color=colour, linestyle=line, label=name)
    start = curves.steps[0] + _TRANSIENT * (curves.steps[-1] - curves.steps[0])
    limits = robust_limits([(curves.steps, curves.elbo), (curves.steps, curves.entropy_sum)], start)
    if limits is not None:
        axes.set_ylim(*limits)
    axes.set_ylabel("nats per point")
    axes.legend(loc="lower right", ncols=2)
    axes.set_xscale("function", functions=(np.sqrt, np.square))  # along which the frames are evenly spaced
    axes.set_xlim(0, max(1, curves.steps[-1], film.steps[-1]))
    style.label_steps(axes)
    axes.set_xlabel("training step (square-root scale)")

    def show(frame: int) -> list[Artist]:
        row = curves.row(int(film.steps[frame]))
        look: dict[str, Any] = {"linestyle": "", "marker": "o", "clip_on": False, "zorder": 5}
        step = curves.steps[row]
        points = [(curves.elbo[row], style.ACTIVE), (curves.entropy_sum[row], style.ACCENT)]
        low, high = axes.get_ylim()
        return [
            axes.axvline(step, color=style.INK, linewidth=0.6),
            *(axes.plot(step, min(max(value, low), high), color=colour, **look)[0] for value, colour in points),
        ]

    return show
