"""The figure of ``collapse``: encoder entropies and active latents through training, and the trained latents."""

from __future__ import annotations

from typing import Any, Final

import attrs
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from elboverse.analysis import style
from elboverse.analysis.curves import averaged, envelope, quartiles
from elboverse.analysis.final_latents import FinalLatents
from elboverse.analysis.reading import Array, Reading

__all__ = ["draw"]

_WINDOW: Final = 100
"""Steps over which curves are averaged at most; a hundredth of a shorter run."""

_SAME: Final = 1e-9
"""Nats within which prior entropies are one line."""

_MOST_TICKS: Final = 20
"""Up to how many latents, or steps, each is marked by itself."""


def draw(reading: Reading, final: FinalLatents, threshold: float, drop_threshold: float) -> Figure:
    """Return the figure. Of several replicas, latents of one rank by entropy drop are drawn as median and quartiles.

    Args:
        reading: the run.
        final: its trained latents.
        threshold: of the encoder entropy, in nats.
        drop_threshold: of the entropy drop, in nats.
    """
    collapsed = final.entropy_drop < drop_threshold
    collapsed_ranks = np.take_along_axis(collapsed, final.order, axis=1).mean(0) > 0.5
    with style.applied():
        figure = style.new_figure(height=4.3)
        panels = figure.subplots(2, 2, width_ratios=(1.5, 1), height_ratios=(1.9, 1))
        (through_training, trained), (counts, moved) = panels
        through_training.sharey(trained)
        curves = _curves(reading, threshold, drop_threshold)
        _draw_training(through_training, curves, final.order, collapsed_ranks)
        _draw_trained(trained, final, collapsed_ranks)
        _draw_counts(counts, curves)
        _draw_moved(moved, final, drop_threshold)
        for axes in (through_training, trained):
            axes.axhline(threshold, color=style.INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=3)
            axes.use_sticky_edges = False
            axes.margins(y=0.07)
        trained.tick_params(labelleft=False)
        through_training.set_ylabel("encoder entropy (nats)")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _window(steps: Array) -> int:
    return max(1, min(_WINDOW, int(steps[-1] - steps[0] + 1) // 100))


@attrs.frozen(eq=False)
class _Curves:
    """Averages through training: entropies in nats, shape (T', R, H), and counts of active latents, shape (T', R)."""

    steps: Array
    encoder: Array
    prior: Array
    by_drop: Array
    by_entropy: Array


def _curves(reading: Reading, threshold: float, drop_threshold: float) -> _Curves:
    steps = reading.run.steps

    def read(rows: slice) -> tuple[Array, ...]:
        encoder, prior = (reading.series(name, rows=rows) for name in ("encoder_entropy", "prior_entropy"))
        return encoder, prior, (prior - encoder >= drop_threshold).sum(2), (encoder < threshold).sum(2)

    if len(steps) == 0:
        return _Curves(steps, *read(slice(0)))
    steps, averages = averaged(steps, _window(steps), read)
    return _Curves(steps, *averages)


def _draw_counts(axes: Axes, curves: _Curves) -> None:
    axes.set_ylabel("active latents")
    steps = curves.steps
    if len(steps) == 0:
        axes.set_xticks([])
        return
    lines: tuple[tuple[Array, str, Any], ...] = (
        (curves.by_drop, style.ACTIVE, "-"),
        (curves.by_entropy, style.INK, (0, (4, 2))),
    )
    for counts, colour, line in lines:
        low, median, high = quartiles(counts)
        kept = envelope(median)
        axes.plot(steps[kept], median[kept], color=colour, linestyle=line, linewidth=1.1)
        if low is not high:
            axes.fill_between(steps[kept], low[kept], high[kept], color=colour, alpha=0.2, linewidth=0)
    latents = curves.encoder.shape[2]
    axes.set_ylim(-0.04 * latents, 1.06 * latents)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    style.label_steps(axes)


def _draw_moved(axes: Axes, final: FinalLatents, drop_threshold: float) -> None:
    """Draw how many latents are active by entropy drop as its threshold moves."""
    drops = final.entropy_drop
    latents = drops.shape[1]
    levels = np.geomspace(1e-3, max(2 * drop_threshold, 1.3 * float(drops.max()), 2e-3), 200)
    counts = (drops[None] >= levels[:, None, None]).sum(2)
    low, median, high = quartiles(counts)
    axes.plot(levels, median, color=style.ACTIVE, drawstyle="steps-pre", linewidth=1.1)
    if low is not high:
        axes.fill_between(levels, low, high, color=style.ACTIVE, alpha=0.2, linewidth=0, step="pre")
    if drop_threshold > levels[0]:
        axes.axvline(drop_threshold, color=style.GREY, linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.set_ylim(-0.04 * latents, 1.06 * latents)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set_xlabel("threshold of the entropy drop (nats)")


def _draw_training(axes: Axes, curves: _Curves, order: Array, collapsed_ranks: Array) -> None:
    axes.set_title("through training, averaged")
    steps = curves.steps
    if len(steps) == 0:
        axes.text(0.5, 0.5, "no recorded steps", transform=axes.transAxes, ha="center", color=style.GREY)
        axes.set_xticks([])
        return
    replicas = np.arange(len(order))
    latents = len(collapsed_ranks)
    most = style.points_per_line(latents)
    width = 1.1 if latents <= 12 else 0.7
    for rank in reversed(range(latents)):
        lower, median, upper = quartiles(curves.encoder[:, replicas, order[:, rank]])
        colour = style.COLLAPSED if collapsed_ranks[rank] else style.ACTIVE
        kept = envelope(median, most)
        axes.plot(
            steps[kept],
            median[kept],
            color=colour,
            linewidth=width,
            alpha=0.9,
            marker="." if len(steps) <= _MOST_TICKS else "",
        )
        if len(replicas) > 1:
            axes.fill_between(steps[kept], lower[kept], upper[kept], color=colour, alpha=0.2, linewidth=0)
    for rank in range(1 if np.ptp(curves.prior) < _SAME else latents):
        _, median, _ = quartiles(curves.prior[:, replicas, order[:, rank]])
        kept = envelope(median, most)
        axes.plot(steps[kept], median[kept], color=style.INK, linewidth=0.8, linestyle=":", zorder=3)
    style.label_steps(axes)


def _draw_trained(axes: Axes, final: FinalLatents, collapsed_ranks: Array) -> None:
    axes.set_title("trained model, sorted by entropy drop")
    latents = len(collapsed_ranks)
    ranks = np.arange(1, latents + 1)
    lower, encoder, upper = quartiles(np.take_along_axis(final.encoder_entropy, final.order, axis=1).T)
    _, prior, _ = quartiles(np.take_along_axis(final.prior_entropy, final.order, axis=1).T)
    width = 0.62 if latents <= 30 else 0.8
    size = 5.0 if latents <= _MOST_TICKS else 2.8
    for state, colour, marker in ((False, style.ACTIVE, "o"), (True, style.COLLAPSED, "s")):
        chosen = collapsed_ranks == state
        axes.bar(
            ranks[chosen],
            (encoder - prior)[chosen],
            width,
            bottom=prior[chosen],
            color=colour,
            alpha=0.35,
            linewidth=0,
        )
        axes.plot(ranks[chosen], encoder[chosen], linestyle="", marker=marker, markersize=size, color=colour)
    if len(final.order) > 1:
        error = np.stack((encoder - lower, upper - encoder))
        axes.errorbar(ranks, encoder, error, fmt="none", ecolor=style.INK, elinewidth=0.8, zorder=4)
    axes.hlines(prior, ranks - width / 2, ranks + width / 2, color=style.INK, linewidth=0.8, linestyle=":")
    axes.set_xlim(0.3, latents + 0.7)
    if len(final.order) == 1 and latents <= _MOST_TICKS:
        axes.set_xticks(ranks, [str(h) for h in final.order[0]])
        axes.set_xlabel("latent")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlabel("rank")


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=style.ACTIVE, marker="o", label="active by entropy drop"),
        Line2D([], [], color=style.COLLAPSED, marker="s", label="collapsed by entropy drop"),
        Line2D([], [], color=style.INK, linewidth=0.8, linestyle=":", label="prior entropy"),
        Line2D([], [], color=style.INK, linewidth=0.8, linestyle=(0, (4, 2)), label="threshold"),
    ]
