"""How figures look: one style for all, ready for print.

Colours are Okabe and Ito's, told apart by the colour-blind; what must be told apart in greyscale differs in
lightness, line style or marker as well. Figures are drawn without pyplot, so no global state is left behind.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

__all__ = [
    "ACCENT",
    "ACTIVE",
    "COLLAPSED",
    "CYCLE",
    "GREY",
    "INK",
    "applied",
    "label_steps",
    "new_figure",
    "points_per_line",
    "render",
]

INK: Final = "#222222"
GREY: Final = "#999999"
ACTIVE: Final = "#0072B2"
COLLAPSED: Final = "#E69F00"
ACCENT: Final = "#D55E00"

CYCLE: Final = (
    (ACTIVE, "-"),
    (ACCENT, "--"),
    ("#009E73", "-."),
    ("#CC79A7", (0, (4, 1, 1, 1, 1, 1))),
    (COLLAPSED, "-"),
    ("#56B4E9", "--"),
    (INK, "-."),
    (GREY, "-"),
)
"""Colours and line styles of several curves in one panel, in their order."""

_WIDTH_INCHES: Final = 7.0
_MOST_POINTS: Final = 40_000

_SETTINGS: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "path.simplify": True,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "elboverse",
    "text.color": INK,
}


@contextmanager
def applied() -> Iterator[None]:
    """Draw or save in this style, whatever the user's own matplotlib settings are; they are put back at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def new_figure(height: float) -> Figure:
    """Return an empty figure as wide as a printed page's text.

    Args:
        height: in inches.
    """
    return Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")


def points_per_line(lines: int) -> int:
    """Return how many points each of so many lines may have, so that a vector figure stays small."""
    return min(2000, max(200, _MOST_POINTS // max(1, lines)))


def label_steps(axes: Axes, steps_per_epoch: int | None = None, *, label: bool = True) -> None:
    """Label a horizontal axis of steps, and the epochs above it.

    Args:
        axes: whose horizontal axis it is.
        steps_per_epoch: None leaves the epochs out.
        label: whether the steps are named below.
    """
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if label:
        axes.set_xlabel("training step")
    if steps_per_epoch is not None:
        epochs = axes.secondary_xaxis(
            "top",
            functions=(
                lambda step: np.divide(step, steps_per_epoch),
                lambda epoch: np.multiply(epoch, steps_per_epoch),
            ),
        )
        epochs.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
        epochs.set_xlabel("epoch")


def render(figure: Figure, suffix: str) -> bytes:
    """Return a figure as a file's content; the same figure always gives the same bytes.

    Args:
        figure: any.
        suffix: ``".pdf"``, ``".png"`` or ``".svg"``.
    """
    undated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {"Software": None}}
    buffer = io.BytesIO()
    with applied():
        figure.savefig(buffer, format=suffix.removeprefix("."), metadata=undated[suffix])
    return buffer.getvalue()
