"""Whether data are what a likelihood is defined on, said by row and column before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from elboverse.contracts import Data, Support
from elboverse.errors import DataError

__all__ = ["SUPPORTS", "fitting", "require_support"]

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


def fitting(points: Tensor) -> tuple[str, ...]:
    """Return the likelihoods that are meant for such values, by the narrowest support that holds all of them.

    Args:
        points: shape (N, D), finite.
    """
    for support, names in _FITTING.items():
        if _first_outside(points, support) is None:
            return names
    return _FITTING["real"]


def require_support(data: Data, support: Support, likelihood: str, who: str, groups: int = 0) -> None:
    """Check that every value is one that the likelihood is defined on.

    Args:
        data: the points, as they are trained on.
        support: of the likelihood.
        likelihood: its name.
        who: the dataset and its plugin, for messages.
        groups: for ``"one-hot"``, how many consecutive dimensions make a group.

    Raises:
        DataError: a value is not; it is named by row and column, counted from 0, with likelihoods that would fit.
    """
    if support == "real":
        return
    allowed, _ = SUPPORTS[support]
    for split, points in (("training", data.train), ("held-out", data.held_out)):
        place = _first_outside(points, support, data)
        if place is not None:
            row, column = place
            value = float(data.scaled(points[row : row + 1])[0, column])
            name = f" ({data.names[column]})" if data.names else ""
            advice = " or ".join(f'"{name}"' for name in fitting(data.scaled(points)))
            scaled = "" if data.scaling.kind == "none" else f' after scaling "{data.scaling.kind}"'
            raise DataError(
                f"{who}: {split} row {row}, column {column}{name}, counted from 0: got {value:g}{scaled}; expected "
                f'{allowed}, since the likelihood "{likelihood}" is defined on nothing else. '
                f"A likelihood that fits these values: {advice}."
            )
        if support == "one-hot" and len(points):
            sums = data.scaled(points).unflatten(-1, (-1, groups)).sum(-1)
            if bool((sums != 1).any()):
                row, group = (int(index) for index in (sums != 1).nonzero()[0])
                raise DataError(
                    f"{who}: {split} row {row}, columns {group * groups} to {(group + 1) * groups - 1}, counted from "
                    f"0: got {float(sums[row, group]):g} ones; expected exactly one 1 in each group of {groups}, since "
                    f'the likelihood "{likelihood}" has one category per group. For independent 0 and 1: "bernoulli".'
                )


def _first_outside(points: Tensor, support: str, data: Data | None = None) -> tuple[int, int] | None:
    """Return row and column of the first value that is not allowed; None if all are."""
    _, test = SUPPORTS[support]
    rows = max(1, _VALUES_AT_ONCE // max(1, points.shape[-1]))
    for first in range(0, len(points), rows):
        some = points[first : first + rows]
        bad = ~test(some if data is None else data.scaled(some))
        if bool(bad.any()):
            row, column = (int(index) for index in bad.nonzero()[0])
            return first + row, column
    return None
