"""Whether data are what a likelihood is defined on, said by row and column before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from elboverse.contracts import Data, Support, is_image
from elboverse.errors import DataError

__all__ = ["SUPPORTS", "first_outside", "fitting", "require_support"]

_VALUES_AT_ONCE: Final = 1 << 24


def _whole(x: Tensor) -> Tensor:
    return x == x.round()


SUPPORTS: Final[Mapping[str, tuple[str, Callable[[Tensor], Tensor]]]] = {
    "real": ("a number", lambda x: torch.ones_like(x, dtype=torch.bool)),
    "binary": ("0 or 1", lambda x: (x == 0) | (x == 1)),
    "one-hot": ("0 or 1, one 1 per group", lambda x: (x == 0) | (x == 1)),
    "unit": ("a number in [0, 1]", lambda x: (x >= 0) & (x <= 1)),
    "open-unit": ("a number inside (0, 1)", lambda x: (x > 0) & (x < 1)),
    "positive": ("a number above 0", lambda x: x > 0),
    "counts": ("a count, 0, 1, 2, …", lambda x: (x >= 0) & _whole(x)),
}
"""What each support allows, in words and as a test of values."""

_FITTING: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("bernoulli",),
    "counts": ("poisson", "poisson-softmax", "negative-binomial"),
    "open-unit": ("beta", "continuous-bernoulli"),
    "unit": ("continuous-bernoulli",),
    "positive": ("gamma", "log-normal", "exponential"),
    "real": ("gaussian", "student-t", "laplace"),
}
"""Likelihoods by what they are defined on, the narrowest first: the first one that all values fit is advised."""


def fitting(*parts: Tensor) -> tuple[str, ...]:
    """Return the likelihoods that are meant for such values, by the narrowest support that holds all of them.

    Args:
        parts: shape (N, D) each, finite.
    """
    for support, names in _FITTING.items():
        if all(first_outside(points, support) is None for points in parts):
            return names
    return _FITTING["real"]


def require_support(data: Data, support: Support, likelihood: str, who: str, groups: int = 0) -> int:
    """Check that every value is one that the likelihood is defined on.

    Held-out values beyond the range of the training data, which a scaling has mapped to [0, 1], pass for ``"unit"``:
    the density takes them as the nearest end.

    Args:
        data: the points, as they are trained on.
        support: of the likelihood.
        likelihood: its name.
        who: the dataset and its plugin, for messages.
        groups: for ``"one-hot"``, how many consecutive dimensions make a group.

    Returns:
        How many held-out values lie beyond the range of the training data, and are taken as its ends.

    Raises:
        DataError: a value is not; it is named by its row and column in the file, with likelihoods that would fit.
    """
    if support == "real":
        return 0
    allowed, _ = SUPPORTS[support]
    fitted = support == "unit" and data.scaling.kind == "min-max"
    for first, points in ((0, data.train), (len(data.train), data.held_out)):
        if fitted and first:
            seen = data.scaled(points)
            return int(((seen < 0) | (seen > 1)).sum())
        place = first_outside(points, support, data)
        if place is not None:
            row, column = place
            raise DataError(
                f"{who}: {_located(data, first + row)}, {_column(data, column)}: got {_value(data, points, place)}"
                f'; expected {allowed}, since the likelihood "{likelihood}" is defined on nothing else. '
                f"{_advice(data, support)}"
            )
        if support == "one-hot" and len(points):
            sums = data.scaled(points).unflatten(-1, (-1, groups)).sum(-1)
            if bool((sums != 1).any()):
                row, group = (int(index) for index in (sums != 1).nonzero()[0])
                raise DataError(
                    f"{who}: {_located(data, first + row)}, columns {group * groups} to {(group + 1) * groups - 1} "
                    f"(counted from 0): got {float(sums[row, group]):g} ones; expected exactly one 1 in each group of "
                    f'{groups}, since the likelihood "{likelihood}" has one category per group. For independent 0 and '
                    '1: "bernoulli".'
                )
    return 0


def first_outside(points: Tensor, support: str, data: Data | None = None) -> tuple[int, int] | None:
    """Return row and column of the first value that a support does not have; None if it has all.

    Args:
        points: shape (N, D).
        support: a key of `SUPPORTS`.
        data: that they are of, whose bytes are still to be scaled; None for points as they are.
    """
    _, test = SUPPORTS[support]
    rows = max(1, _VALUES_AT_ONCE // max(1, points.shape[-1]))
    for first in range(0, len(points), rows):
        some = points[first : first + rows]
        # In float32 too, in which most runs train: a share of 1 − 1e-12 would be 1 there.
        seen = some if data is None else data.scaled(some)
        bad = ~(test(seen) & test(seen.float()))
        if bool(bad.any()):
            row, column = (int(index) for index in bad.nonzero()[0])
            return first + row, column
    return None


def _located(data: Data, number: int) -> str:
    """Return what a message calls a point, by where it is in the user's file: its line or row, and its name."""
    if data.order is None:
        held_out = number >= len(data.train)
        row = number - len(data.train) if held_out else number
        return f"{'held-out' if held_out else 'training'} row {row} (counted from 0)"
    position = int(data.order[number])
    place = f"row {position} (counted from 0)" if data.place is None else data.place(position)
    name = None if data.index is None else str(data.index[number])
    return place if name is None or name == str(position) else f"{place} ({name})"


def _column(data: Data, column: int) -> str:
    return f"column {data.names[column]!r}" if data.names else f"column {column} (counted from 0)"


def _value(data: Data, points: Tensor, place: tuple[int, int]) -> str:
    row, column = place
    seen = data.scaled(points[row : row + 1])
    if data.scaling.kind == "none":
        return f"{float(seen[0, column]):.6g}"
    raw = float(data.scaling.undo(seen.double())[0, column])
    return f'{raw:.6g}, which is {float(seen[0, column]):.6g} after scaling "{data.scaling.kind}"'


def _advice(data: Data, support: Support) -> str:
    parts = [data.scaling.undo(data.scaled(part)) for part in (data.train, data.held_out)]
    names = fitting(*parts)
    fits = " or ".join(f'"{name}"' for name in names)
    grey = support == "binary" and (is_image(data.shape) or "continuous-bernoulli" in names)
    if grey:
        how = ', with dataset.scaling = "min-max"' if "continuous-bernoulli" not in names else ""
        binarise = 'dataset.binarise = "static" or "per-epoch" makes them 0 and 1; ' if is_image(data.shape) else ""
        return (
            f'Grey values under "bernoulli" are no density: {binarise}a likelihood that fits these values: '
            f'"continuous-bernoulli"{how}.'
        )
    return f"A likelihood that fits these values: {fits}."
