"""Frames of an animation: what latent space and data space look like at moments of the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from elboverse.contracts import Data, Model, Scaling, is_image
from elboverse.contracts.records import Frame
from elboverse.errors import ConfigError
from elboverse.seeding import generator
from elboverse.theory import families
from elboverse.theory.distributions.latent import second_moments
from elboverse.training.evaluation import replica_blocks
from elboverse.training.intake import Intake
from elboverse.training.step import Step

__all__ = ["MOST_POINTS", "MOST_VALUES", "Camera", "frame_steps"]

MOST_POINTS: Final = 1000
"""How many points a frame shows at most: the first held-out ones, or training ones where none are held out."""

MOST_IMAGES: Final = 64
"""How many of them are shown in data space where they are images; latent space shows all."""

MOST_VALUES: Final = 1 << 26
"""How many numbers the frames of a run may have: 256 MiB in float32."""


def frame_steps(total_steps: int, count: int) -> tuple[int, ...]:
    """Return after how many steps frames are taken, ascending: before the first one, after the last, and between.

    Their distances grow evenly, since most happens at the start: moment i is T·(i/(n − 1))². Where a run is too short
    for so many, there are fewer.

    Args:
        total_steps: T.
        count: n; a single frame is the last one.
    """
    if count == 1:
        return (total_steps,)
    return tuple(sorted({round(total_steps * (index / (count - 1)) ** 2) for index in range(count)}))


class Camera:
    """Takes frames of all replicas: always the same points, and the same latents of the samples from the prior.

    Args:
        count: how many frames are to be taken.
        parts: each replica's data, with the conditions behind the points.
        seeds: one per replica; they address the latents of the samples.
        latent_dim: H.
        intake: the way of the points to the model.

    Raises:
        ConfigError: so many frames would have more than `MOST_VALUES` numbers.
    """

    def __init__(
        self, count: int, parts: Sequence[Data], seeds: Sequence[int], latent_dim: int, intake: Intake
    ) -> None:
        shared = all(part is parts[0] for part in parts)
        stored = [(part.held_out if len(part.held_out) else part.train)[:MOST_POINTS] for part in parts]
        self._points = stored[0] if shared else torch.stack(stored)
        self._intake = intake
        replicas, points, dimension = len(parts), len(stored[0]), parts[0].dimension
        self._dimension = dimension
        self._scalings = [
            Scaling(part.scaling.kind, part.scaling.offset[:dimension], part.scaling.scale[:dimension])
            for part in parts
        ]
        self._shown = min(points, MOST_IMAGES) if is_image(parts[0].shape) else points
        self._latent_dim = latent_dim
        each = 2 * points * latent_dim + 2 * self._shown * dimension
        values = count * replicas * each
        if values > MOST_VALUES:
            raise ConfigError(
                f"training.frames: got {count:,}, which have {values:,} numbers in all; "
                f"expected at most {MOST_VALUES:,}, so give at most {MOST_VALUES // (replicas * each):,} "
                f"frames, or fewer replicas"
            )
        self._blocks = replica_blocks(replicas, points, points * max(dimension, latent_dim))
        shape = (self._shown, latent_dim)
        noise = [torch.randn(shape, generator=generator(seed, "frames"), dtype=intake.dtype) for seed in seeds]
        self._noise = torch.stack(noise).to(intake.device)
        shown = intake(self._points[..., : self._shown, :])[..., :dimension]
        self._data = self._in_data_units(shown.expand(replicas, -1, -1))

    def evaluate(self, step: Step, done: int, epoch: int) -> Frame:  # noqa: ARG002 - as of an observer
        """Return the frame after `done` updates."""
        flat = torch.cat([self._look(step, replicas).cpu() for replicas in self._blocks])
        replicas, points = len(self._scalings), self._points.shape[-2]
        encoded, shown = points * self._latent_dim, self._shown * self._dimension
        mean, variance, reconstruction, sample = flat.split((encoded, encoded, shown, shown), dim=1)
        return Frame(
            done,
            self._data,
            {
                "latent_mean": _stored(mean.reshape(replicas, points, -1)),
                "latent_variance": _stored(variance.reshape(replicas, points, -1)),
                "reconstruction": self._in_data_units(reconstruction.reshape(replicas, self._shown, -1)),
                "sample_mean": self._in_data_units(sample.reshape(replicas, self._shown, -1)),
            },
        )

    def _look(self, step: Step, replicas: slice) -> Tensor:
        """Return what some replicas' models say, a row each."""
        points = self._points[replicas] if self._points.ndim == 3 else self._points
        return step.map_models(_look, self._intake(points), self._noise[replicas], replicas)

    def _in_data_units(self, points: Tensor) -> Any:
        parts = zip(self._scalings, points.cpu(), strict=True)
        return _stored(torch.stack([scaling.undo(part) for scaling, part in parts]))


def _look(model: Model, x: Tensor, noise: Tensor) -> Tensor:
    """Return one after the other ν and τ² of all points, μ(ν) of as many as there is noise, and μ(z), z ~ p(z)."""
    encoder = families.encode(model, x)
    _, variance = second_moments(encoder)
    shown = x[: len(noise)]
    reconstruction = families.decoded(model, encoder.mean[: len(noise)], shown).mean
    sample = families.decoded(model, model.prior().sample(noise), shown).mean
    return torch.cat([part.reshape(-1) for part in (encoder.mean, variance, reconstruction, sample)])


def _stored(values: Tensor) -> Any:
    return values.detach().cpu().float().numpy()
