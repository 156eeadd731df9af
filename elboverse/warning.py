"""Warnings at the line of the user's program that led to them, not at ours."""

from __future__ import annotations

import sys
import warnings

__all__ = ["ElboverseWarning", "warn"]

_BETWEEN = ("elboverse", "contextlib", "functools")
"""Packages whose lines are not the user's: this one, and decorators of the standard library around it."""


class ElboverseWarning(RuntimeWarning):
    """What elboverse warns of: something that a user should know, though the program goes on."""


def warn(message: str, category: type[Warning] = ElboverseWarning) -> None:
    """Warn, naming the nearest line of the program that called elboverse.

    Args:
        message: a sentence for the user.
        category: of the warning.
    """
    level, frame = 1, sys._getframe(0)  # noqa: SLF001 - as `warnings` itself, before its skip_file_prefixes of 3.12
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
