"""Animations as small GIF files: all frames share one palette, so that only what moves is stored anew."""

from __future__ import annotations

import itertools
from typing import Any, Final

from matplotlib.animation import PillowWriter
from PIL import Image

from elboverse.analysis.animation import FASTEST_GIF

__all__ = ["GifWriter"]

_COLOURS: Final = 128
_HOLD_MILLISECONDS: Final = 1500
_PALETTE_FRAMES: Final = 4


class GifWriter(PillowWriter):
    """Matplotlib's writer of GIF files, with one palette for all frames; the last one stays for a moment."""

    _frames: list[Any]

    def finish(self) -> None:
        """Write the file."""
        chosen = self._frames[:: max(1, len(self._frames) // _PALETTE_FRAMES)]
        width, height = chosen[0].size
        together = Image.new("RGB", (width, height * len(chosen)))
        for number, frame in enumerate(chosen):
            together.paste(frame.convert("RGB"), (0, number * height))
        palette = together.quantize(_COLOURS, dither=Image.Dither.NONE)
        first, *others = (
            frame.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames
        )
        rate = min(self.fps, FASTEST_GIF)
        starts = [round(100 * number / rate) for number in range(len(self._frames))]  # which keep pace together
        durations = [10 * (end - start) for start, end in itertools.pairwise(starts)] + [_HOLD_MILLISECONDS]
        first.save(self.outfile, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
