"""The figure of ``latents``: violins of ν and τ², the unit arc, and for two latents the density over their plane."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from elboverse.analysis import style
from elboverse.analysis.groups import Groups
from elboverse.analysis.reading import Array
from elboverse.builtin.analyses.latents.numbers import Encoded, aggregate_density

__all__ = ["draw"]

_MOST_VIOLINS: Final = 24
_BINS: Final = 40
_HALF_WIDTH: Final = 3.2
_MOST_SCATTERED: Final = 4000
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw(encoded: Encoded) -> Figure:
    """Return the figure. Latents are sorted by falling entropy drop; of many, the first ones have violins.

    Args:
        encoded: what is drawn.
    """
    with style.applied():
        figure = style.new_figure(height=3.1)
        scale = np.sqrt(encoded.prior_variance)
        columns = 3 if len(scale) == 2 or encoded.groups is not None else 2
        grid = figure.add_gridspec(2, columns, width_ratios=(1, 1.05, 1.05) if columns == 3 else (1.45, 1))
        means = figure.add_subplot(grid[0, 0])
        variances = figure.add_subplot(grid[1, 0], sharex=means)
        means.tick_params(labelbottom=False)
        _draw_violins(means, encoded, encoded.means / scale)
        _draw_violins(variances, encoded, np.log(encoded.variances) - np.log(encoded.prior_variance), is_log=True)
        shown, latents = min(_MOST_VIOLINS, len(scale)), len(scale)
        title = "encoder means and variances" if columns == 2 else "encoder"
        means.set_title(title if shown == latents else f"{title}, {shown} of {latents} latents")
        means.set_ylabel("ν / α")
        variances.set_ylabel("τ² / α²")
        variances.set_yscale("log")
        variances.set_xlabel("latent")
        _draw_arc(figure.add_subplot(grid[:, 1]), encoded)
        if encoded.groups is not None:
            _draw_groups(figure.add_subplot(grid[:, 2]), encoded, encoded.groups)
        elif latents == 2:
            _draw_density(figure.add_subplot(grid[:, 2]), encoded)
        figure.legend(
            handles=[
                Line2D([], [], color=style.ACTIVE, marker="o", linestyle="", label="active by entropy drop"),
                Line2D([], [], color=style.COLLAPSED, marker="s", linestyle="", label="collapsed by entropy drop"),
                Line2D([], [], color=style.INK, linewidth=0.8, linestyle=":", label="prior"),
            ],
            loc="outside lower center",
            ncols=3,
        )
    return figure


def _colour(encoded: Encoded, latent: int) -> str:
    return style.COLLAPSED if encoded.collapsed[latent] else style.ACTIVE


def _draw_violins(axes: Axes, encoded: Encoded, values: Array, *, is_log: bool = False) -> None:
    shown = encoded.order[:_MOST_VIOLINS]
    for position, latent in enumerate(shown):
        heights, halves = _violin(values[:, latent])
        median = float(np.median(values[:, latent]))
        if is_log:
            heights, median = np.exp(heights), float(np.exp(median))
        axes.fill_betweenx(
            heights, position - halves, position + halves, color=_colour(encoded, latent), alpha=0.45, linewidth=0.6
        )
        axes.plot(
            position,
            median,
            marker="s" if encoded.collapsed[latent] else "o",
            markersize=3.5,
            color=_colour(encoded, latent),
        )
    prior = 1.0 if is_log else 0.0
    axes.axhline(prior, color=style.INK, linewidth=0.8, linestyle=":", zorder=0)
    if not is_log:
        for edge in (-1, 1):
            axes.axhline(edge, color=style.GREY, linewidth=0.5, linestyle=":", zorder=0)
    size = 7.5 if len(shown) <= 16 else 6
    narrow = encoded.groups is not None and len(shown) > 10
    axes.set_xticks(range(len(shown)), [str(latent) for latent in shown], fontsize=size, rotation=90 if narrow else 0)


def _violin(values: Array) -> tuple[Array, Array]:
    """Return heights and half widths of the outline of a smoothed histogram; the widest is 0.4."""
    low, high = np.quantile(values, (0.002, 0.998))
    if high - low <= 1e-9 * max(1.0, abs(high)):
        return np.array([low, low]), np.array([0.4, 0.4])
    counts, edges = np.histogram(values, _BINS, range=(low, high))
    smooth = np.convolve(np.pad(counts, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    return 0.5 * (edges[1:] + edges[:-1]), 0.4 * smooth / smooth.max()


def _draw_arc(axes: Axes, encoded: Encoded) -> None:
    angles = np.linspace(0, np.pi / 2, 100)
    axes.plot(np.cos(angles), np.sin(angles), color=style.INK, linewidth=0.8, linestyle=":", zorder=0)
    across, up = np.sqrt(encoded.mean_square), np.sqrt(encoded.mean_variance)
    latents = len(across)
    for latent in range(latents):
        axes.plot(
            across[latent],
            up[latent],
            marker="s" if encoded.collapsed[latent] else "o",
            markersize=5 if latents <= 20 else 3.5,
            color=_colour(encoded, latent),
            alpha=0.85,
            markeredgewidth=0,
        )
    axes.set_title("second moments, unit arc")
    axes.set_xlabel("√⟨ν²⟩ / α")
    axes.set_ylabel("√⟨τ²⟩ / α")
    top = max(1.08, 1.08 * float(across.max()), 1.08 * float(up.max()))
    axes.set(xlim=(-0.04, top), ylim=(-0.04, top), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4))


def _draw_density(axes: Axes, encoded: Encoded) -> None:
    axis, density = aggregate_density(encoded, _HALF_WIDTH)
    axes.set_title("aggregate encoder")
    axes.pcolormesh(axis, axis, np.sqrt(density), cmap="Blues", rasterized=True, shading="nearest")
    angles = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2):
        axes.plot(
            radius * np.cos(angles), radius * np.sin(angles), color=style.INK, linewidth=0.7, linestyle=":", alpha=0.8
        )
    axes.set(aspect="equal", xlabel="z₀ / α", ylabel="z₁ / α")
    axes.set_xticks([-2, 0, 2])
    axes.set_yticks([-2, 0, 2])


def _draw_groups(axes: Axes, encoded: Encoded, groups: Groups) -> None:
    """Draw the means in the plane of the two latents that drop most, coloured by group; a single one along a line."""
    shown = encoded.order[:2]
    places = encoded.means[:_MOST_SCATTERED, shown] / np.sqrt(encoded.prior_variance[shown])
    values = groups.values[:_MOST_SCATTERED]
    across = places[:, 0]
    up = places[:, 1] if len(shown) > 1 else np.linspace(-1, 1, len(across))
    axes.set_title(f"means, by {groups.name}")
    if groups.is_number:
        drawn = axes.scatter(across, up, c=values.astype(float), s=4, cmap="viridis", linewidths=0, rasterized=True)
        axes.figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02)
    else:
        for number, (name, within) in enumerate(Groups(groups.name, values).named()):
            colour, _ = style.CYCLE[number % len(style.CYCLE)]
            marker = _MARKERS[(number + number // len(style.CYCLE)) % len(_MARKERS)]
            axes.scatter(
                across[within], up[within], s=6, color=colour, marker=marker, linewidths=0, label=name, rasterized=True
            )
        axes.legend(fontsize=6.5, markerscale=1.6, handletextpad=0.2, borderpad=0.3, labelspacing=0.25)
    axes.set_xlabel(f"latent {shown[0]}: ν / α")
    if len(shown) > 1:
        axes.set_ylabel(f"latent {shown[1]}: ν / α")
        axes.set_aspect("equal", adjustable="datalim")
    else:
        axes.set_yticks([])
