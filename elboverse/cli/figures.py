"""Figures that commands write: the file is checked before the work starts, and replaced when the figure is drawn."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elboverse.errors import AnalysisError
from elboverse.files import replaced

if TYPE_CHECKING:
    from matplotlib.animation import Animation
    from matplotlib.figure import Figure

__all__ = ["check_figure", "is_animation", "write_animation", "write_figure"]

_SUFFIXES: Final = (".pdf", ".png", ".svg")
_MOVING: Final = (".gif", ".mp4")
_DOTS_PER_INCH: Final = 100


def is_animation(path: Path) -> bool:
    """Return whether a file of that name is an animation: GIF or MP4."""
    return path.suffix.lower() in _MOVING


def check_figure(path: Path, *, moving: bool = False) -> None:
    """Check that a figure can be written to a path.

    Args:
        path: of the file.
        moving: whether it may be an animation.

    Raises:
        AnalysisError: its ending is not that of a figure, its folder does not exist, or ffmpeg is missing for an MP4.
    """
    allowed = _SUFFIXES + _MOVING if moving else _SUFFIXES
    if path.suffix.lower() not in allowed:
        raise AnalysisError(f"--figure: got {str(path)!r}; expected a file that ends in {', '.join(allowed)}")
    if path.is_dir():
        raise AnalysisError(f"--figure: {path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise AnalysisError(f"--figure: the folder {path.parent} does not exist; create it first")
    if path.suffix.lower() == ".mp4" and shutil.which("ffmpeg") is None:
        raise AnalysisError(f"--figure: {path} needs ffmpeg, which is not found; install it, or give a .gif")


def write_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and write it; an existing file is replaced when the new one is complete.

    Raises:
        AnalysisError: it cannot be written.
    """
    from elboverse.analysis.style import render  # matplotlib, which only a figure needs

    content = render(draw(), path.suffix.lower())
    _replace(path, lambda temporary: temporary.write_bytes(content))


def write_animation(animate: Callable[[], tuple[Animation, int]], path: Path) -> None:
    """Draw an animation and write it at its frames per second; an existing file is replaced by the complete one.

    Raises:
        AnalysisError: it cannot be written.
    """
    from matplotlib.animation import FFMpegWriter  # kept out of start-up, as is all of matplotlib

    from elboverse.analysis.gif import GifWriter
    from elboverse.analysis.style import applied

    with applied():
        animation, rate = animate()
        writer = GifWriter(fps=rate) if path.suffix.lower() == ".gif" else FFMpegWriter(fps=rate)
        _replace(path, lambda temporary: animation.save(temporary, writer=writer, dpi=_DOTS_PER_INCH))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with replaced(path) as temporary:
            write(temporary)
    except OSError as error:
        raise AnalysisError(f"--figure: {path} cannot be written: {error.strerror or error}") from error
    except subprocess.SubprocessError as error:
        raise AnalysisError(f"--figure: {path} cannot be written: ffmpeg failed: {error}") from error
