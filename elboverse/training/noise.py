"""The reparameterisation noise of the steps, drawn for many of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from elboverse.seeding import generator

__all__ = ["Noise", "chunk_length"]

NOISE_BYTES: Final = 4 << 20
"""How much noise is drawn at a time; more leaves the processor's cache and only costs memory."""

LONGEST_CHUNK: Final = 256


def chunk_length(samples: int, batch_size: int, latent_dim: int, item_size: int) -> int:
    """Return how many steps' noise is drawn at once, a power of two that depends on the config alone.

    Args:
        samples: K.
        batch_size: B.
        latent_dim: H.
        item_size: bytes per number.
    """
    steps = NOISE_BYTES // (samples * batch_size * latent_dim * item_size)
    return int(min(LONGEST_CHUNK, 1 << (max(1, steps).bit_length() - 1)))


class Noise:
    """The noise of every step, for one run or for R replicas.

    That of the steps of chunk c comes from the stream ``("noise", c)``, so that any step can be asked for without
    those before it, and replica r, with seed s + r, sees exactly what the single run with that seed sees.

    Args:
        shape: of a step's noise, (B, H) or (K, B, H); None if the model needs no noise.
        seeds: one seed per replica.
        chunk: steps whose noise is drawn at once; see `chunk_length`.
        dtype: of the noise.
        device: where it is drawn.
    """

    def __init__(
        self,
        shape: tuple[int, ...] | None,
        seeds: Sequence[int],
        chunk: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.chunk = chunk
        self._shape = shape
        self._seeds = tuple(seeds)
        self._dtype = dtype
        self._device = device
        self._kept: tuple[int, Tensor] | None = None

    def draw(self, first_step: int, count: int) -> Sequence[Tensor] | None:
        """Return the noise of steps first_step … first_step + count − 1, each with R in front for replicas.

        Args:
            first_step: the first step, from 0.
            count: how many; the steps must lie in one chunk. That of the whole chunk is drawn, whatever part is used.
        """
        if self._shape is None:
            return None
        number, offset = divmod(first_step, self.chunk)
        if self._kept is None or self._kept[0] != number:  # a chunk may be asked for in pieces
            noise = torch.empty((len(self._seeds), self.chunk, *self._shape), dtype=self._dtype, device=self._device)
            for replica, seed in enumerate(self._seeds):
                noise[replica].normal_(generator=generator(seed, "noise", number, device=self._device))
            self._kept = (number, noise)
        drawn = self._kept[1][:, offset : offset + count]
        return drawn.unbind(1) if len(self._seeds) > 1 else drawn[0].unbind(0)
