"""What all generated datasets share: their options, their random draws, and the way to `contracts.Data`.

A dataset draws from one random stream that its name and the run's seed alone decide, in float64, so that a seed
gives the same points bit for bit. The structure is drawn before the noise: changing the noise moves the points,
it does not replace them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import attrs
import torch
from torch import Generator, Tensor

from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.data import prepare

__all__ = ["MAXIMUM_VALUES", "GeneratedOptions", "normal", "prepared", "require_size", "uniform", "with_noise"]

MAXIMUM_VALUES: Final = 2**30
"""The most numbers that a generated dataset may have, 8 GiB in float64."""


@attrs.frozen(kw_only=True)
class GeneratedOptions:
    """Options of the generated datasets.

    Args:
        points: N, points in all, those held out included.
        noise: standard deviation of the Gaussian noise, in the units of the unscaled points; 0 for none.
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        scaling: ``"min-max"`` maps the training range of each dimension to [0, 1], ``"standard"`` to mean 0 and
            standard deviation 1, ``"none"`` leaves the points as they are generated.
    """

    points: int = attrs.field(default=50_000, validator=in_range(minimum=2, maximum=100_000_000))
    noise: float = attrs.field(default=0.05, validator=in_range(minimum=0))
    held_out: float = attrs.field(default=0.5, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "standard", "none"] = "min-max"


def require_size(points: int, dimension: int) -> None:
    """Check that so many points of that dimension can be generated.

    Raises:
        ValueError: they have more than `MAXIMUM_VALUES` numbers.
    """
    if points * dimension > MAXIMUM_VALUES:
        raise ValueError(
            f"got {points:,} points of {dimension:,} dimensions; expected {MAXIMUM_VALUES:,} numbers in all"
        )


def uniform(stream: Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return draws from U(low, high) in float64."""
    return low + (high - low) * torch.rand(*shape, generator=stream, dtype=torch.float64)


def normal(stream: Generator, *shape: int) -> Tensor:
    """Return draws from N(0, 1) in float64."""
    return torch.randn(*shape, generator=stream, dtype=torch.float64)


def with_noise(points: Tensor, noise: float, stream: Generator) -> Tensor:
    """Return points, shape (N, D), with independent Gaussian noise of that standard deviation on every coordinate."""
    return points + noise * normal(stream, *points.shape)


def prepared(
    points: Tensor,
    options: GeneratedOptions,
    seed: int,
    *,
    what: str,
    names: Sequence[str] = (),
    log_density: Callable[[Tensor], Tensor] | None = None,
) -> Data:
    """Return generated points as `contracts.Data`.

    Args:
        points: shape (N, D).
        options: the dataset's; they decide the split and the scaling.
        seed: the run's seed.
        what: name of the dataset.
        names: what each dimension is.
        log_density: of the unscaled points, where it is known; without noise there is none.
    """
    return prepare(
        points,
        seed=seed,
        held_out=options.held_out,
        scaling=options.scaling,
        names=names,
        log_density=log_density if options.noise > 0 else None,
        what=what,
    )
