"""Draws of a normal distribution that all points share, so that scores of points can be compared."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from elboverse.seeding import generator

__all__ = ["shared_noise"]

_MOST_SOBOL: Final = 21_201


def shared_noise(count: int, latent_dim: int, seed: int) -> Tensor:
    """Return draws of N(0, I) that points share, shape (count, H), float64: a scrambled Sobol sequence, mapped.

    Source: Owen 1998, *Scrambling Sobol' and Niederreiter-Xing points*; unbiased, and of less variance than
    independent draws for smooth integrands.

    Args:
        count: how many; a power of two balances them best.
        latent_dim: H.
        seed: the same draws for the same seed.
    """
    if latent_dim > _MOST_SOBOL:
        return torch.randn((count, latent_dim), generator=generator(seed, "score"), dtype=torch.float64)
    uniform = torch.quasirandom.SobolEngine(latent_dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
