"""What stands out in points that are split: dimensions that do not vary, and values far outside of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from elboverse.contracts import Scaling

__all__ = ["outlier_notes"]

FAR: Final = 10.0
"""How many ranges of the training values a held-out value lies outside of them, to be named."""

CARRIES: Final = 0.5
"""The share of a dimension's variance that a single value carries, to be named."""

_FEWEST: Final = 20
_LISTED: Final = 3


def outlier_notes(
    train: Tensor,
    held_out: Tensor,
    scaling: Scaling,
    order: NDArray[Any],
    names: Sequence[str],
    place: Callable[[int], str],
    *,
    whole: bool,
) -> list[str]:
    """Return sentences on what stands out, each with row, column and value in data units.

    Args:
        train: raw training points, shape (N, D), floating point or bytes.
        held_out: raw held-out points, shape (M, D).
        scaling: fitted on the training points.
        order: position in the file of each point, training points first.
        names: of the dimensions, or empty.
        place: how messages call a row of the file.
        whole: whether all dimensions share one scale, so that the range is that of all together.
    """
    lowest, highest = train.amin(0).double(), train.amax(0).double()
    notes = []
    fixed = (lowest == highest).nonzero().ravel().tolist()
    if fixed and len(train) > 1 and not whole:
        listed = ", ".join(_name(names, column) for column in fixed[:_LISTED])
        more = f" and {len(fixed) - _LISTED} more" if len(fixed) > _LISTED else ""
        notes.append(f"{len(fixed)} of {len(lowest)} dimensions do not vary in the training points: {listed}{more}")
    if whole:
        lowest, highest = lowest.min().expand_as(lowest), highest.max().expand_as(highest)
    ranges = torch.where(highest > lowest, highest - lowest, scaling.scale.double())
    if len(held_out):
        excess = torch.maximum(lowest - held_out.amin(0).double(), held_out.amax(0).double() - highest) / ranges
        for column in excess.argsort(descending=True)[:_LISTED].tolist():
            if float(excess[column]) <= FAR:
                break
            values = held_out[:, column].double()
            row = int(torch.maximum(lowest[column] - values, values - highest[column]).argmax())
            notes.append(
                f"a held-out value lies far outside of the training values: {float(values[row]):g} in "
                f"{place(int(order[len(train) + row]))}, {_name(names, column)}, where training goes from "
                f"{float(lowest[column]):g} to {float(highest[column]):g}; it may carry the held-out averages"
            )
    if len(train) >= _FEWEST and train.is_floating_point():
        squares = ((train.double() - train.double().mean(0)) / ranges).square()  # in ranges, so that none overflows
        share = squares.amax(0) / squares.sum(0).clamp(min=1e-300)
        for column in share.argsort(descending=True)[:_LISTED].tolist():
            if float(share[column]) <= CARRIES or float(squares[:, column].sum()) == 0:
                break
            row = int(squares[:, column].argmax())
            notes.append(
                f"a training value carries {100 * float(share[column]):.0f} % of its dimension's variance: "
                f"{float(train[row, column]):g} in {place(int(order[row]))}, {_name(names, column)}"
            )
    return notes


def _name(names: Sequence[str], column: int) -> str:
    return f"column {names[column]!r}" if names else f"column {column} (counted from 0)"
