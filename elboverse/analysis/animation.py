"""What an animation can be played at; kept apart from `gif`, which imports matplotlib."""

from __future__ import annotations

from typing import Final

__all__ = ["FASTEST_GIF"]

FASTEST_GIF: Final = 50
"""Frames per second: a GIF counts in hundredths of a second, and programs play a single one of them as ten."""
