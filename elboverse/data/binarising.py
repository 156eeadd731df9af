"""Grey values made 0 and 1: once for all, or anew each time that a point is trained on.

A grey value g in [0, 1] is read as a probability, x ~ Bernoulli(g) (Salakhutdinov and Murray 2008). What is drawn once
is the same for all runs, whatever their seed, so that their numbers can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from torch import Generator, Tensor

from elboverse.contracts import Data, Scaling
from elboverse.data.preparing import fingerprint
from elboverse.errors import DataError
from elboverse.seeding import generator

__all__ = ["Binarise", "binarised"]

Binarise = Literal["no", "static", "per-epoch"]

_VALUES_AT_ONCE: Final = 1 << 22


def binarised(
    train: Tensor,
    held_out: Tensor,
    how: Binarise,
    *,
    shape: Sequence[int],
    what: str,
    names: Sequence[str] = (),
    augment: Callable[[Tensor, Generator], Tensor] | None = None,
) -> Data:
    """Return grey points as 0 and 1, in bytes.

    Args:
        train: training points, grey: bytes 0 … 255, or probabilities in [0, 1]; shape (N, D).
        held_out: held-out points, shape (M, D); they are drawn once either way.
        how: ``"static"`` draws the training points once too, ``"per-epoch"`` each time that they are trained on;
            evaluations then look at one draw.
        shape: of a point.
        what: how messages call the data.
        names: of the dimensions.
        augment: returns random variants of grey points, before they are drawn.

    Raises:
        DataError: a value is not a probability, or all are 0 and 1 already.
    """
    for part in (train, held_out):
        if part.is_floating_point() and len(part) and not bool(((part >= 0) & (part <= 1)).all()):
            raise DataError(
                f"{what}: dataset.binarise: got values from {float(part.min()):g} to {float(part.max()):g}; expected "
                "grey values in [0, 1] or bytes"
            )
    if not train.is_floating_point() and int(train.max()) <= 1:
        raise DataError(f"{what}: dataset.binarise: got values that are 0 and 1; expected grey levels, so leave it out")
    drawn = [_drawn(part, generator(0, "binarise", split)) for split, part in enumerate((train, held_out))]
    dimension = train.shape[1]

    def renewed(rows: Tensor, stream: Generator) -> Tensor:
        grey = _probability(train[rows.to(train.device)])
        if augment is not None:
            grey = augment(grey, stream)
        return (torch.rand(grey.shape, generator=stream, dtype=grey.dtype) < grey).to(torch.uint8)

    anew = how == "per-epoch"
    return Data(
        train=drawn[0],
        held_out=drawn[1],
        shape=tuple(shape),
        scaling=Scaling("none", torch.zeros(dimension), torch.ones(dimension)),
        fingerprint=fingerprint(*drawn),
        names=tuple(names),
        renew=renewed if anew else None,
        notes=(
            "grey values are made 0 and 1: "
            + ("training points anew each time that they are seen, held-out ones once" if anew else "once for all"),
        ),
    )


def _probability(grey: Tensor) -> Tensor:
    return grey if grey.is_floating_point() else grey.float() / 255


def _drawn(grey: Tensor, stream: Generator) -> Tensor:
    found = torch.empty(grey.shape, dtype=torch.uint8)
    rows = max(1, _VALUES_AT_ONCE // max(1, grey.shape[1]))
    for first in range(0, len(grey), rows):
        share = _probability(grey[first : first + rows])
        uniform = torch.rand(share.shape, generator=stream, dtype=share.dtype)
        found[first : first + rows] = uniform < share
    return found
