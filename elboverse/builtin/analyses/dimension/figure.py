"""The figure of ``dimension``: held-out ELBO and active latents against the number of latents."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from elboverse.analysis import style
from elboverse.builtin.analyses.dimension.numbers import Choice

__all__ = ["draw"]


def draw(choice: Choice) -> Figure:
    """Return the figure; the chosen number of latents is marked in both panels.

    Args:
        choice: what is drawn.
    """
    latents = np.array([one.latents for one in choice.candidates])
    active = [(np.median(one.active), one.active.min(), one.active.max()) for one in choice.candidates]
    middle, low, high = np.array(active, dtype=float).T
    train = np.array([one.train_elbo.mean() for one in choice.candidates])
    with style.applied():
        figure = style.new_figure(height=2.9)
        elbos, counts = figure.subplots(1, 2, width_ratios=(1.4, 1))
        elbos.set_title("ELBO (nats per point)")
        elbos.plot(latents, train, color=style.GREY, marker=".", linewidth=0.9, label="training points")
        best = choice.mean[choice.best]
        elbos.errorbar(
            *(latents, choice.mean, 2 * choice.standard_error),
            color=style.ACTIVE,
            marker="o",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label="held out ± 2 SE of the difference to the best",
        )
        elbos.axhline(best, color=style.INK, linewidth=0.7, linestyle=":")
        counts.set_title("active latents")
        counts.plot(latents, latents, color=style.GREY, linewidth=0.8, linestyle=":")
        counts.errorbar(
            *(latents, middle, np.stack([middle - low, high - middle])),
            color=style.ACTIVE,
            marker="o",
            markersize=4,
            linewidth=1.2,
            capsize=2,
        )
        for axes in (elbos, counts):
            axes.axvline(latents[choice.chosen], color=style.ACCENT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=0)
            axes.set_xlabel("latents")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        counts.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        elbos.legend(loc="lower right")
    return figure
