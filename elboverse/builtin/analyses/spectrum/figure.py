"""The figure of ``spectrum``: eigenvalues against σ², and the encoder variances beside those of the optimum."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from elboverse.analysis import style
from elboverse.builtin.analyses.spectrum.numbers import Spectrum

__all__ = ["draw"]

_FEW: Final = 40
"""Up to how many eigenvalues or latents each has a marker of its own and a linear axis."""


def draw(spectrum: Spectrum) -> Figure:
    """Return the figure.

    Args:
        spectrum: what is drawn.
    """
    with style.applied():
        figure = style.new_figure(height=2.9)
        eigenvalues, encoder = figure.subplots(1, 2, width_ratios=(1.25, 1))
        _draw_eigenvalues(eigenvalues, spectrum)
        _draw_encoder(encoder, spectrum)
        figure.legend(*encoder.get_legend_handles_labels(), loc="outside lower right", ncols=2)
        figure.legend(*eigenvalues.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def _draw_eigenvalues(axes: Axes, spectrum: Spectrum) -> None:
    values, active = spectrum.eigenvalues, spectrum.optimum.active
    ranks = np.arange(1, len(values) + 1)
    positive = values > 1e-14 * values[0]
    size = 4.5 if len(values) <= _FEW else 2.0
    for state, colour, marker, name in (
        (ranks <= active, style.ACTIVE, "o", "eigenvalue with an active latent"),
        (ranks > active, style.COLLAPSED, "s", "eigenvalue without"),
    ):
        shown = state & positive
        axes.plot(ranks[shown], values[shown], linestyle="", marker=marker, markersize=size, color=colour, label=name)
    for height, line, width, name in (
        (spectrum.beta * spectrum.decoder_variance, "-", 1.2, "trained"),
        (spectrum.beta * spectrum.optimum.decoder_variance, "--", 0.9, "optimum"),
    ):
        symbol = "σ²" if spectrum.beta == 1 else "βσ²"
        axes.axhline(height, color=style.INK, linewidth=width, linestyle=line, label=f"{symbol}, {name}", zorder=0)
    axes.set_title("eigenvalues of the data's covariance")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("variance (scaled units²)")
    if len(values) > _FEW:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def _draw_encoder(axes: Axes, spectrum: Spectrum) -> None:
    latents = len(spectrum.order)
    ranks = np.arange(1, latents + 1)
    optimum = spectrum.optimum.encoder_variances
    axes.plot(
        ranks, optimum, linestyle="", marker="_", markersize=11, markeredgewidth=1.4, color=style.INK, label="optimum"
    )
    axes.plot(
        ranks,
        spectrum.encoder_variances,
        linestyle="",
        marker="o",
        markersize=4.5 if latents <= _FEW else 2.5,
        color=style.ACCENT,
        label="trained",
    )
    axes.set_title("encoder variances" if spectrum.is_exact else "encoder variances, optimum as a guide")
    axes.set_yscale("log")
    axes.set_ylabel("τ² / α²")
    axes.axhline(1, color=style.GREY, linewidth=0.8, linestyle=":", zorder=0)
    if latents <= 20:
        axes.set_xticks(ranks, [str(latent) for latent in spectrum.order])
        axes.set_xlabel("latent")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlabel("rank")
