"""Images side by side in one array."""

from __future__ import annotations

import math

import numpy as np

from elboverse.analysis.reading import Array

__all__ = ["sheet"]


def sheet(points: Array, shape: tuple[int, ...], columns: int, low: float, high: float) -> Array:
    """Return images side by side with a white line between, shape (height, width) or (height, width, 3).

    Args:
        points: the images, (n, D).
        shape: of one: (height, width) or (channels, height, width).
        columns: how many stand side by side.
        low: the value that is black.
        high: the value that is white.
    """
    images = np.clip((points - low) / max(high - low, np.finfo(float).tiny), 0, 1).reshape(-1, *shape)
    images = images[:, None] if len(shape) == 2 else images
    rows = math.ceil(len(images) / columns)
    padded = np.pad(images, ((0, rows * columns - len(images)), (0, 0), (0, 1), (0, 1)), constant_values=1.0)
    _, channels, height, width = padded.shape
    joined = padded.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    joined = joined.reshape(rows * height, columns * width, channels)[:-1, :-1]
    return joined[..., 0] if channels == 1 else joined
