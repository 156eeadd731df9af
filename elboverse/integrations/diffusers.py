"""diffusers: an `AutoencoderKL` as the encoder that `elboverse.judge` takes, per latent channel.

    report = elboverse.judge(encoder_of(vae), None, images)

Its loss (L1, LPIPS, adversarial) is not a likelihood, so the encoder alone is judged: whatever that loss is, a channel
of a converged model has the second moment 1. The report says which scaling factor the latents need where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["encoder_of"]


def encoder_of(vae: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the encoder of an `AutoencoderKL`: images (N, C, height, width) → mean and log-variance of its latents."""

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        found = vae.encode(x).latent_dist
        return found.mean, found.logvar

    return encode
