"""Pictures of image data during training: data, reconstructions and samples from the prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elboverse.contracts import Model, Scaling
from elboverse.contracts.records import Pictures
from elboverse.seeding import generator
from elboverse.theory import families
from elboverse.training.step import Step

__all__ = ["COUNT", "Painter"]

COUNT = 16
"""How many images are drawn of each kind."""


class Painter:
    """At each evaluation, draws the first replica's reconstructions of some held-out images and samples from its prior.

    Args:
        points: scaled points of the first replica, with their conditions if they have some, shape (M, D + C).
        shape: shape of one image; see `contracts.is_image`.
        scaling: maps scaled points back to data units.
        latent_dim: H.
        seed: of the samples from the prior; they use the same latents every time.
    """

    def __init__(self, points: Tensor, shape: tuple[int, ...], scaling: Scaling, latent_dim: int, seed: int) -> None:
        self._points = points[:COUNT]
        self._shape = shape
        self._scaling = scaling
        self._range: tuple[float, float] | None = None
        noise = torch.randn(COUNT, latent_dim, generator=generator(seed, "pictures"), dtype=points.dtype)
        self._noise = noise.to(points.device)

    def evaluate(self, step: Step, done: int, epoch: int) -> Pictures:  # noqa: ARG002 - as of an observer
        """Return the pictures after `done` updates."""
        drawn = step.map_models(_paint, self._points, self._noise[None], slice(1))[0]
        data, reconstructions, samples = (self._images(part) for part in drawn)
        return Pictures(done, {"data": data, "reconstructions": reconstructions, "samples": samples})

    def _images(self, points: Tensor) -> Any:
        raw = self._scaling.undo(points.cpu())
        if self._range is None:
            self._range = float(raw.min()), max(float(raw.max()), float(raw.min()) + 1e-12)
        low, high = self._range
        return ((raw - low) / (high - low)).clamp(0, 1).reshape(-1, *self._shape).numpy()


def _paint(model: Model, x: Tensor, noise: Tensor) -> Tensor:
    """Return data, reconstructions from the encoder's mean, and samples from the prior, shape (3, n, D)."""
    latents = model.prior().sample(noise)[: len(x)]
    mean = families.encode(model, x).mean
    value = families.observed(model, x)
    reconstructions, samples = (families.decoded(model, z, x).mean for z in (mean, latents))
    return torch.stack((value, reconstructions, samples))
