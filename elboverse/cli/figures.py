"""Figures that commands write: the file is checked before the work starts, and replaced when the figure is drawn."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elboverse.errors import AnalysisError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_figure", "write_figure"]

_SUFFIXES: Final = (".pdf", ".png", ".svg")


def check_figure(path: Path) -> None:
    """Check that a figure can be written to a path.

    Raises:
        AnalysisError: its ending is none of a figure's, or there is no folder for it.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise AnalysisError(f"--figure: {str(path)!r} given, allowed is a file that ends in {', '.join(_SUFFIXES)}")
    if path.is_dir():
        raise AnalysisError(f"--figure: {path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise AnalysisError(f"--figure: the folder {path.parent} does not exist; create it first")


def write_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and write it; an existing file is replaced when the new one is complete.

    Raises:
        AnalysisError: it cannot be written.
    """
    from elboverse.builtin.analyses.style import render  # matplotlib, which only a figure needs

    content = render(draw(), path.suffix.lower())
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AnalysisError(f"--figure: {path} cannot be written: {error.strerror}") from error
