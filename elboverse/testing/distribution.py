"""What is asked of any distribution: a density that integrates to 1, samples of that density, its true entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from elboverse.testing.component import require

__all__ = ["agrees", "integral", "require_pure_sample"]

GRID: Final = 20_001
STANDARD_ERRORS: Final = 6.0


def require_pure_sample(distribution: Any, noise: Tensor, shape: tuple[int, ...], who: str) -> Tensor:
    """Return `sample(noise)`, once it is seen to be a finite function of the noise alone."""
    before = torch.get_rng_state()
    given = noise.clone()
    first = distribution.sample(given)
    require(isinstance(first, Tensor), f"{who}: sample(noise) is a {type(first).__name__}; expected a torch.Tensor")
    require(torch.equal(given, noise), f"{who}: sample(noise) changes its argument in place; work on a copy of it")
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{who}: sample(noise) draws random numbers of its own; it must be a function of the noise that it is given",
    )
    require(first.shape == shape, f"{who}: sample(noise) has shape {tuple(first.shape)}; expected {shape}")
    require(torch.equal(first, distribution.sample(noise)), f"{who}: sample(noise) differs from call to call")
    require(bool(first.isfinite().all()), f"{who}: sample(noise) is not finite for standard normal noise")
    return first


def agrees(samples: Tensor, expected: Tensor | float) -> bool:
    """Return whether the mean of samples (N,) is a number, within six standard errors and rounding."""
    mean, spread = samples.double().mean(), samples.double().std()
    rounding = 1e-4 * (1 + float(mean.abs()))
    return bool((mean - expected).abs() <= STANDARD_ERRORS * spread / len(samples) ** 0.5 + rounding)


def integral(log_density: Callable[[Tensor], Tensor], samples: Tensor, support: str) -> float:
    """Return what a density over one number adds up to; not a number where that cannot be said.

    Args:
        log_density: (N, 1) → (N,).
        samples: of it, shape (N, 1); where they lie is looked at.
        support: of `contracts.Support`.
    """
    low, high = float(samples.min()), float(samples.max())
    if support in {"binary", "counts"}:
        last = 1.0 if support == "binary" else 2 * high + 50
        return float(log_density(torch.arange(0, last + 1, dtype=samples.dtype)[:, None]).exp().sum())
    width = max(high - low, 1e-6)
    low, high = low - 4 * width, high + 4 * width
    if support in {"unit", "open-unit"}:
        low, high = 0.0, 1.0
    if support == "positive":
        low = 0.0
    # Midpoints, crowded in the middle of the samples: what is steep there, as a Laplace density, is seen.
    ticks = torch.linspace(-1, 1, GRID, dtype=torch.float64)
    centre = float(samples.double().median())
    bent = ticks.pow(3)
    edges = torch.where(bent > 0, centre + bent * (high - centre), centre + bent * (centre - low))
    middle, steps = (edges[1:] + edges[:-1]) / 2, edges.diff()
    return float((log_density(middle.to(samples.dtype)[:, None]).double().exp() * steps).sum())
