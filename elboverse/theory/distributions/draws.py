"""From normal noise to other draws: every sample is a function of the noise that it is given."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gamma", "generator_of", "gumbel", "uniform"]


def uniform(noise: Tensor) -> Tensor:
    """Return Φ(ε), uniform on (0, 1), strictly inside.

    Args:
        noise: ε ~ N(0, I), any shape.
    """
    tiny = torch.finfo(noise.dtype).eps / 4
    return torch.special.ndtr(noise).clamp(tiny, 1 - 2 * tiny)


def gumbel(noise: Tensor) -> Tensor:
    """Return standard Gumbel draws −ln(−ln Φ(ε)): the argmax of logits plus these is a categorical draw."""
    return -(-torch.special.log_ndtr(noise)).log()


def generator_of(noise: Tensor) -> torch.Generator:
    """Return a random generator that is seeded by the noise, for families whose draws torch makes by rejection.

    Args:
        noise: any shape; not under `torch.func.vmap`.
    """
    digest = int((noise.detach().double().cpu() * 2.0**24).long().flatten().cumsum(0).sum())
    return torch.Generator(device=noise.device).manual_seed(digest % 2**63)


def gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Return draws from the gamma distribution with rate 1, of the shape of `shape`.

    Args:
        shape: k > 0, any shape.
        generator: where randomness comes from.
    """
    return torch._standard_gamma(shape.contiguous(), generator=generator)  # noqa: SLF001 - torch.distributions' own
