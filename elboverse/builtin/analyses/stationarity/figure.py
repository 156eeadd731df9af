"""The figure of ``stationarity``: R_σ and every R_h through the evaluations, with the band of the tolerance."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import SymmetricalLogLocator

from elboverse.analysis import style
from elboverse.analysis.family import RunFamily, family_of
from elboverse.analysis.reading import Array, Reading
from elboverse.builtin.analyses.stationarity.numbers import Residuals

__all__ = ["draw"]

_MOST_ERROR_BARS: Final = 12
_BAND: Final = "#DDE7D8"
_SYMBOL: Final = re.compile("R_(.+)")


def draw(reading: Reading, residuals: Residuals) -> Figure:
    """Return the figure. The vertical axes are linear within the tolerance and logarithmic beyond it.

    Args:
        reading: the run; every replica read is drawn.
        residuals: what is drawn.
    """
    with style.applied():
        figure = style.new_figure(height=3.0)
        decoder, prior = figure.subplots(1, 2)
        latents = residuals.values.shape[2] - 2
        family = family_of(reading.run)
        decoder.set_title(_decoder_title(family, fixed=residuals.decoder_is_fixed))
        prior.set_title(_prior_title(family, latents))
        symbol = r"$R_\sigma$" if residuals.decoder_symbol == "R_σ" else r"$R_\mathrm{dec}$"
        decoder.set_ylabel(f"{symbol} (nats per point)")
        prior.set_ylabel("$R_h$ (nats per point)")
        _draw_panel(decoder, reading, residuals, slice(0, 1))
        _draw_panel(prior, reading, residuals, slice(1, 1 + latents))
        figure.legend(
            handles=[
                Line2D([], [], color=style.ACTIVE, marker="o", label="residual ± 1 SE"),
                Line2D([], [], color=style.ACCENT, marker="D", label="largest at the end"),
                Patch(color=_BAND, label="within tolerance"),
            ],
            loc="outside lower center",
            ncols=3,
        )
    return figure


def _decoder_title(family: RunFamily, *, fixed: bool) -> str:
    if family.decoder == "Gaussian":
        return "decoder variance, fixed: calibration, no certificate" if fixed else "decoder variance"
    if family.decoder_theorem:
        return f"{family.decoder} decoder: calibration, no certificate"
    return f"temperature of the decoder, {family.decoder}"


def _prior_title(family: RunFamily, latents: int) -> str:
    count = "" if latents == 1 else f", {latents} latents"
    if family.prior == "Gaussian":
        return f"prior variance{count}" if latents == 1 else f"prior variances{count}"
    if family.prior_theorem:
        return f"{family.prior} prior{count}: calibration, no certificate"
    return f"temperature of the prior, {family.prior}{count}"


def _draw_panel(axes: Axes, reading: Reading, residuals: Residuals, quantities: slice) -> None:
    values, errors = (
        array[..., quantities].reshape(len(residuals.steps), -1)
        for array in (residuals.values, residuals.standard_errors)
    )
    tolerance = float(residuals.tolerances[quantities][0])
    names = [
        _SYMBOL.sub(r"$R_{\1}$", residuals.names[q]) + (f",\nreplica {replica}" if len(reading.replicas) > 1 else "")
        for replica in reading.replicas
        for q in range(quantities.start, quantities.stop)
    ]
    axes.axhspan(-tolerance, tolerance, color=_BAND, linewidth=0, zorder=0)
    axes.axhline(0, color=style.GREY, linewidth=0.8, zorder=0)
    largest = int(np.nan_to_num(np.abs(values[-1])).argmax())
    for line in range(values.shape[1]):
        if line != largest or values.shape[1] == 1:
            _draw_line(axes, residuals.steps, values[:, line], errors[:, line], values.shape[1])
    if values.shape[1] > 1:
        _draw_line(axes, residuals.steps, values[:, largest], errors[:, largest], 1, style.ACCENT, "D")
        axes.annotate(
            names[largest],
            (residuals.steps[-1], values[-1, largest]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=style.ACCENT,
        )
    linear = tolerance or max(1e-3, 0.1 * float(np.nan_to_num(np.abs(values)).max()))  # where no tolerance is known
    axes.set_yscale("symlog", linthresh=linear)
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=linear))
    style.label_steps(axes)
    if len(residuals.steps) == 1:
        axes.set_xticks(residuals.steps)


def _draw_line(
    axes: Axes,
    steps: Array,
    values: Array,
    errors: Array,
    lines: int,
    colour: str = style.ACTIVE,
    marker: str = "o",
) -> None:
    if lines > _MOST_ERROR_BARS:
        axes.plot(steps, values, color=colour, linewidth=0.6, marker=marker, markersize=1.5, alpha=0.5)
        return
    shown = np.nan_to_num(errors)
    axes.errorbar(
        steps, values, shown, color=colour, marker=marker, markersize=3, linewidth=0.9, elinewidth=0.8, capsize=1.5
    )
