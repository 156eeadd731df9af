"""Curves through training: averaged, thinned for drawing, and framed so that transients do not squash the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["averaged", "averager", "envelope", "moving_average", "quartiles", "robust_limits"]

Array = npt.NDArray[Any]

ROWS_AT_ONCE: Final = 32_768
"""Rows that are in memory at a time where a record is longer than that."""

MOST_BINS: Final = 8_192
"""Into how many bins a longer record is averaged: several per pixel of a figure."""


def envelope(values: Array, most: int = 2000) -> Array:
    """Return the indices of the points that a drawn line needs, at most `most` of them, sorted.

    The line is cut into stretches of equal length, and each keeps its smallest and its largest finite value, so that
    no spike is lost, as it would be by taking every n-th point. The first and the last point are always kept.

    Args:
        values: the line's values in the order of drawing, shape (T,).
        most: how many points to keep at most, at least 4.

    Example:
        >>> values = np.zeros(1000)
        >>> values[437] = 1.0
        >>> 437 in envelope(values, most=10)
        True
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    width = -(-count // ((most - 2) // 2))
    whole = count - count % width
    finite = np.isfinite(values)
    kept = [np.array([0, count - 1])]
    for worst, extreme in ((np.inf, np.argmin), (-np.inf, np.argmax)):
        usable = values if finite.all() else np.where(finite, values, worst)
        kept.append(extreme(usable[:whole].reshape(-1, width), axis=1) + np.arange(0, whole, width))
        if whole < count:
            kept.append(extreme(usable[whole:], keepdims=True) + whole)
    return np.unique(np.concatenate(kept))


def moving_average(steps: Array, values: Array, window: int) -> Array:
    """Return the mean of the values recorded within `window` steps around each step, of the shape of `values`.

    The window of step t is [t − window/2, t + window/2), cut off at the ends of the record; `window` = 1 changes
    nothing. It is measured in steps, so a run that records every tenth step is averaged over the same stretch.

    Args:
        steps: strictly increasing, shape (T,).
        values: shape (T, ...).
        window: in steps, at least 1.
    """
    return averager(steps, window)(values)


def averager(steps: Array, window: int) -> Callable[[Array], Array]:
    """Return a function that takes `moving_average`s of values (T, ...) recorded at the same steps."""
    first = np.searchsorted(steps, steps - window / 2)
    last = np.searchsorted(steps, steps + window / 2)
    count = (last - first).astype(np.float64)

    def average(values: Array) -> Array:
        total = np.zeros((len(values) + 1, *values.shape[1:]))
        np.cumsum(values, axis=0, dtype=np.float64, out=total[1:])
        mean: Array = total.take(last, axis=0)
        mean -= total.take(first, axis=0)
        mean /= count.reshape(-1, *(1,) * (values.ndim - 1))
        return mean

    return average


def averaged(steps: Array, window: int, read: Callable[[slice], Sequence[Array]]) -> tuple[Array, Sequence[Array]]:
    """Return averages through training, and their steps, without ever holding more than a part of a long record.

    A record of at most `ROWS_AT_ONCE` rows is averaged as `moving_average` does. A longer one is cut into at most
    `MOST_BINS` bins of as many rows each, at least a window long where the window is short enough, and each bin's mean
    stands at the step in its middle.

    Args:
        steps: strictly increasing, shape (T,).
        window: in steps, at least 1.
        read: returns arrays of some rows, each of shape (rows, ...).
    """
    if len(steps) <= ROWS_AT_ONCE:
        average = averager(steps, window)
        return steps, [average(values) for values in read(slice(0, len(steps)))]
    size = max(-(-len(steps) // MOST_BINS), window * len(steps) // int(steps[-1] - steps[0] + 1))
    at_once = max(1, ROWS_AT_ONCE // size) * size
    parts: list[list[Array]] = []
    for start in range(0, len(steps), at_once):
        found = read(slice(start, min(len(steps), start + at_once)))
        parts.append([_bin_means(values, size) for values in found])
    middles = np.arange(0, len(steps), size) + size // 2
    means = [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]
    return steps[np.minimum(middles, len(steps) - 1)], means


def _bin_means(values: Array, size: int) -> Array:
    whole = len(values) - len(values) % size
    means = values[:whole].reshape(-1, size, *values.shape[1:]).mean(axis=1, dtype=np.float64)
    return means if whole == len(values) else np.concatenate([means, values[whole:].mean(axis=0, keepdims=True)])


def quartiles(values: Array) -> tuple[Array, Array, Array]:
    """Return the lower quartile, the median and the upper quartile over axis 1, the replicas."""
    if values.shape[1] == 1:
        return values[:, 0], values[:, 0], values[:, 0]
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75), axis=1)
    return lower, median, upper


def robust_limits(curves: Iterable[tuple[Array, Array]], start: float) -> tuple[float, float] | None:
    """Return limits of an axis that show all of the curves but early transients; None if nothing is finite.

    They span the 0.5 % to 99.5 % quantiles of what comes from `start` on, and a margin. If that leaves out little,
    they span everything.

    Args:
        curves: pairs of steps (T,) and values (T,).
        start: the step at which transients are considered over.
    """
    late, ranges = [], []
    for steps, values in curves:
        finite = np.isfinite(values)
        if not finite.any():
            continue
        ranges.append((values[finite].min(), values[finite].max()))
        settled = finite & (steps >= start)
        late.append(np.quantile(values[settled if settled.any() else finite], (0.005, 0.995)))
    if not ranges:
        return None
    low, high = float(np.min(late)), float(np.max(late))
    lowest, highest = float(np.min(ranges)), float(np.max(ranges))
    if highest - lowest <= 1.5 * (high - low):
        low, high = lowest, highest
    margin = 0.08 * (high - low) or 0.01 * abs(high) or 0.01
    return low - margin, high + margin
