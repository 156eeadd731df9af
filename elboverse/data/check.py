"""What data look like they are: said before training, so that nobody fits a density to categories."""

from __future__ import annotations

from typing import Final

import attrs
import torch
from torch import Tensor

from elboverse.contracts import Data, Support, is_image
from elboverse.data.reading.findings import Finding

__all__ = ["MOST_POINTS", "TIES", "Ties", "findings", "ties"]

MOST_POINTS: Final = 5000
"""How many training points are looked at, at most."""

MOST_VALUES: Final = 1 << 21
"""How many of their values, so that large images cost no more than a second."""

TIES: Final = 0.05
"""Share of the values of a dimension that repeat from which on a continuous density is in danger."""

COARSE: Final = 20.0
"""Standard deviation of whole numbers below which a density may fit the steps between them instead of the data."""

DECADES: Final = 1000.0
"""Ratio of the largest to the smallest of positive values from which on a density of their logarithms fits better."""

_DISCRETE: Final = ("binary", "one-hot", "counts")

_UNBOUNDED: Final = (
    "under a continuous density the variance can fall to 0 there and the ELBO rise without bound, while R_dec says "
    "stationary"
)


@attrs.frozen
class Ties:
    """Values that repeat, as rounded or discrete ones do.

    Args:
        dimensions: in how many dimensions more than 5 % of the values repeat.
        gap: the smallest distance between different values in these, as the model sees them; a standard deviation
            below half of it has begun to fit the grid instead of the data.
    """

    dimensions: int
    gap: float


def ties(data: Data) -> Ties:
    """Return in which way values repeat; dimensions that never vary do not count."""
    points = _seen(data)
    ordered = points.sort(0).values
    steps = ordered[1:] - ordered[:-1]
    if not len(steps):
        return Ties(0, 0.0)
    tied = ((steps == 0).double().mean(0) > TIES) & (ordered[0] != ordered[-1])
    gaps = steps[:, tied]
    return Ties(int(tied.sum()), float(gaps[gaps > 0].min()) if bool((gaps > 0).any()) else 0.0)


def findings(data: Data, support: Support | None = None) -> list[Finding]:
    """Return what the values mean for a likelihood and which one would fit; empty where nothing is to be said.

    Those that are doubtful endanger training, the others are good to know.

    Args:
        data: the points.
        support: what the model's likelihood is defined on; None where no model is known.
    """
    seen = _seen(data)
    raw = data.scaling.undo(seen)
    # What was scaled and scaled back is off by rounding errors, as large as those of the type that it was stored in.
    rounding = 16 * torch.finfo(data.train.dtype if data.train.is_floating_point() else torch.float32).eps
    slack = rounding * (raw.abs().amax(0) + data.scaling.offset.abs() + data.scaling.scale).to(raw)
    nearest = raw.round()
    whole = ((raw - nearest).abs() <= slack).all(0)
    raw = torch.where(whole, nearest, raw)
    varies = raw.amax(0) > raw.amin(0)
    said = _constant(data, varies) if len(seen) > 1 else []
    if support in _DISCRETE or not bool(varies.any()):
        return said
    if support == "unit":
        return said + _edges(data, seen, varies)
    binary = whole & varies & ((raw == 0) | (raw == 1)).all(0)
    counts = whole & varies & ~binary & (raw >= 0).all(0)
    if bool((binary | ~varies).all()):
        return [*said, _all_binary(raw)]
    if bool((counts | binary | ~varies).all()):
        return [*said, _all_counts(data, raw)]
    coarse = raw.std(0) < COARSE
    said += _some(data, binary, coarse, "hold 0 and 1 alone", '"bernoulli"')
    repeats = _repeats(seen)
    repeating = counts & repeats
    said += _some(data, repeating, coarse, "hold whole numbers ≥ 0", '"poisson" or "negative-binomial"')
    tied = repeats & varies & ~binary & ~counts
    if bool(tied.any()):
        ordered = raw[:, tied].sort(0).values
        steps = ordered[1:] - ordered[:-1]
        said.append(
            Finding(
                "ties",
                f"in {int(tied.sum())} of {len(tied)} dimensions{_named(data, tied)} more than {100 * TIES:g} % of the "
                f"values repeat, in steps of {float(steps[steps > 0].min()):.3g}: {_UNBOUNDED}; add uniform noise of "
                "that width (dequantisation), or take a discrete likelihood",
            )
        )
    return said + _ranges(raw, support)


def _seen(data: Data) -> Tensor:
    """Return training points as the model sees them, float64."""
    count = max(2, min(MOST_POINTS, MOST_VALUES // data.dimension))
    return data.scaled(data.train[:count]).double()


def _repeats(seen: Tensor) -> Tensor:
    """Return in which dimensions more than 5 % of the values repeat, shape (D,)."""
    ordered = seen.sort(0).values
    return (ordered[1:] == ordered[:-1]).double().mean(0) > TIES if len(seen) > 1 else torch.zeros(seen.shape[1]) > 0


def _constant(data: Data, varies: Tensor) -> list[Finding]:
    if bool(varies.all()):
        return []
    return [
        Finding(
            "constant",
            f"{int((~varies).sum())} of {len(varies)} dimensions never vary in the training data"
            f"{_named(data, ~varies)}: they say nothing, and a variance of their own falls to its floor",
        )
    ]


def _all_binary(raw: Tensor) -> Finding:
    if raw.shape[1] > 1 and bool((raw.sum(1) == 1).all()):
        return Finding(
            "binary",
            f"each point is one 1 among 0s: it is one of {raw.shape[1]} categories, for which the likelihood "
            f'"categorical" with categories = {raw.shape[1]} is meant; {_UNBOUNDED}',
            doubtful=True,
        )
    return Finding(
        "binary",
        f'all values are 0 or 1: the likelihood "bernoulli" is meant for them; {_UNBOUNDED}',
        doubtful=True,
    )


def _all_counts(data: Data, raw: Tensor) -> Finding:
    if is_image(data.shape):
        return Finding(
            "grey",
            f"all values are whole numbers from {float(raw.min()):g} to {float(raw.max()):g}, grey values: take "
            '"continuous-bernoulli", or dataset.binarise and "bernoulli"; under a Gaussian look at its variance, which '
            "can fall below the distance of two grey values",
        )
    return Finding(
        "counts",
        'all values are whole numbers ≥ 0: if they are counts, take "poisson", "poisson-softmax" or '
        f'"negative-binomial"; {_UNBOUNDED}',
        doubtful=bool((raw.std(0) < COARSE).any()),
    )


def _some(data: Data, which: Tensor, coarse: Tensor, what: str, fits: str) -> list[Finding]:
    if not bool(which.any()):
        return []
    return [
        Finding(
            "mixed",
            f"{int(which.sum())} of {len(which)} dimensions{_named(data, which)} {what}: {_UNBOUNDED}; leave them out "
            f"(dataset.columns), make them conditions (dataset.conditions), or model them apart with {fits}",
            doubtful=bool((which & coarse).any()),
        )
    ]


def _edges(data: Data, seen: Tensor, varies: Tensor) -> list[Finding]:
    on_edge = ((seen <= 0) | (seen >= 1)).sum(0) - 2  # a scaling to [0, 1] has put two there itself
    edge = (on_edge > TIES * len(seen)) & varies
    if not bool(edge.any()):
        return []
    return [
        Finding(
            "edges",
            f"in {int(edge.sum())} of {len(edge)} dimensions{_named(data, edge)} more than {100 * TIES:g} % of values "
            "are 0 or 1 exactly, where the density of a continuous Bernoulli grows without bound; binarise and take "
            '"bernoulli", or add uniform noise of the width of a grey step (dequantisation)',
            doubtful=True,
        )
    ]


def _ranges(raw: Tensor, support: str | None) -> list[Finding]:
    low, high = float(raw.min()), float(raw.max())
    if support not in {None, "real"}:
        return []
    if low > 0 and high / low > DECADES:
        return [
            Finding(
                "range",
                f"all values are above 0, from {low:.3g} to {high:.3g}: if that is their nature, take "
                '"log-normal" or "gamma"',
            )
        ]
    if low >= 0 and high <= 1:
        fits = '"beta" or "continuous-bernoulli"' if low > 0 and high < 1 else '"continuous-bernoulli"'
        return [Finding("range", f"all values lie in [0, 1]: if they are shares or grey values, take {fits}")]
    return []


def _named(data: Data, which: Tensor) -> str:
    names = [data.names[index] for index in which.nonzero().flatten().tolist()[:3]] if data.names else []
    return f" ({', '.join(names)}{', …' if int(which.sum()) > len(names) else ''})" if names else ""
