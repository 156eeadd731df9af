"""What data look like they are: said before training, so that nobody fits a density to categories."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from elboverse.contracts import Data, Support

__all__ = ["MOST_POINTS", "TIES", "findings"]

MOST_POINTS: Final = 5000
"""How many training points are looked at."""

TIES: Final = 0.05
"""Share of the values of a dimension that repeat from which on a continuous density is in danger."""

_DISCRETE: Final = ("binary", "one-hot", "counts")


def findings(data: Data, support: Support | None = None) -> list[str]:
    """Return sentences on what the values mean for a likelihood; empty where nothing is to be said.

    Args:
        data: the points.
        support: what the model's likelihood is defined on; None where no model is known.
    """
    points = data.scaling.undo(data.scaled(data.train[:MOST_POINTS])).double()
    said = []
    constant = points.amax(0) == points.amin(0)
    if bool(constant.any()) and len(points) > 1:
        said.append(
            f"{int(constant.sum())} of {points.shape[1]} dimensions never vary in the training data"
            f"{_named(data, constant)}: leave them out, or a learned variance per dimension falls to its floor."
        )
    varying = points[:, ~constant]
    if support in _DISCRETE or varying.numel() == 0:
        return said
    if bool(((varying == 0) | (varying == 1)).all()):
        said.append('All values are 0 or 1: the likelihood "bernoulli" is meant for them.')
    elif bool((varying == varying.round()).all()) and bool((varying >= 0).all()):
        said.append(
            'All values are whole numbers ≥ 0: if they are counts, take "poisson" or "negative-binomial"; under a '
            "continuous density the variance can fall to 0 and the ELBO rise without bound."
        )
    elif (tied := _tied(varying)) > 0:
        said.append(
            f"In {tied} dimensions more than {100 * TIES:g} % of the values repeat: under a continuous density the "
            "variance can fall to 0 there and the ELBO rise without bound, while R_dec says stationary. Add noise of "
            "the rounding's width (dequantisation), or take a discrete likelihood."
        )
    return said


def _tied(points: Tensor) -> int:
    ordered = points.sort(0).values
    repeats = (ordered[1:] == ordered[:-1]).double().mean(0) if len(points) > 1 else torch.zeros(points.shape[1])
    return int((repeats > TIES).sum())


def _named(data: Data, which: Tensor) -> str:
    names = [data.names[index] for index in which.nonzero().flatten().tolist()[:3]] if data.names else []
    return f" ({', '.join(names)}{', …' if int(which.sum()) > len(names) else ''})" if names else ""
