"""The figure of ``collapse``: encoder entropies through training, and the latents of the trained model."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from elboverse.builtin.analyses import style
from elboverse.builtin.analyses.curves import envelope, quartiles
from elboverse.builtin.analyses.latents import FinalLatents
from elboverse.builtin.analyses.reading import Array, Reading

__all__ = ["draw"]

_MOST_TICKS: Final = 20
"""Up to how many latents, or steps, each is marked by itself."""


def draw(reading: Reading, final: FinalLatents, collapsed: Array, threshold: float) -> Figure:
    """Return the figure. Of several replicas, latents of one rank by entropy drop are drawn as median and quartiles.

    Args:
        reading: the run.
        final: its trained latents.
        collapsed: which of them have collapsed by entropy drop, shape (R, H).
        threshold: of the encoder entropy, in nats.
    """
    ranked = np.take_along_axis(collapsed, final.order, axis=1)
    collapsed_ranks = ranked.mean(0) > 0.5
    with style.applied():
        figure = style.new_figure(height=2.9)
        through_training, trained = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
        _draw_training(through_training, reading, final, collapsed_ranks)
        _draw_trained(trained, final, collapsed_ranks)
        for axes in (through_training, trained):
            axes.axhline(threshold, color=style.INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=3)
            axes.use_sticky_edges = False
            axes.margins(y=0.07)
        through_training.set_ylabel("encoder entropy (nats)")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _draw_training(axes: Axes, reading: Reading, final: FinalLatents, collapsed_ranks: Array) -> None:
    axes.set_title("through training")
    steps = reading.run.steps
    if len(steps) == 0:
        axes.text(0.5, 0.5, "no recorded steps", transform=axes.transAxes, ha="center", color=style.GREY)
        axes.set_xticks([])
        return
    entropies, replicas = reading.series("encoder_entropy"), np.arange(len(final.order))
    latents = len(collapsed_ranks)
    most = style.points_per_line(latents)
    width = 1.1 if latents <= 12 else 0.7
    for rank in reversed(range(latents)):
        lower, median, upper = quartiles(entropies[:, replicas, final.order[:, rank]])
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
    prior = reading.series("prior_entropy")
    for rank in range(1 if np.ptp(prior) == 0 else latents):
        _, median, _ = quartiles(prior[:, replicas, final.order[:, rank]])
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
