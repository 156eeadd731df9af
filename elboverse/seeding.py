"""Random streams that are addressed, not advanced: every draw of a run has a seed of its own.

A stream is named by the run's seed and by labels such as ``("noise", 17)`` for the noise of the 17th chunk of
steps. Resuming a run at any step therefore needs no stored random state, and replica r of a run draws what the
single run with seed s + r draws.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["derived_seed", "generator"]


def derived_seed(seed: int, *labels: str | int) -> int:
    """Return the seed of a stream, an integer in 0 … 2⁶³ − 1.

    Args:
        seed: the run's seed.
        labels: what the stream is for; different labels give independent streams.

    Example:
        >>> derived_seed(0, "noise", 1) != derived_seed(0, "noise", 2)
        True
    """
    text = "\0".join(str(label) for label in (seed, *labels))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *labels: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a torch generator for a stream; see `derived_seed`.

    Args:
        seed: the run's seed.
        labels: what the stream is for.
        device: where its numbers are drawn; the streams of different devices differ.
    """
    import torch  # kept out of start-up

    return torch.Generator(device=device).manual_seed(derived_seed(seed, *labels))
