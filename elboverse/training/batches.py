"""Batches for many steps at a time, each a function of the seed and the step number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs
import torch
from torch import Tensor

from elboverse.errors import ConfigError
from elboverse.seeding import generator
from elboverse.training.intake import Intake
from elboverse.training.noise import Noise

__all__ = ["Batches", "Chunk", "Renew"]

Renew = Callable[[Tensor, torch.Generator], Tensor]
"""Draws training points anew, by their positions; see `contracts.Data`."""

GATHER_BYTES = 1 << 20
"""How many points are gathered at a time; more leaves the processor's cache and only costs memory."""


@attrs.frozen(eq=False)
class Chunk:
    """Points and noise of consecutive steps.

    Args:
        x: one batch per step, each of shape (B, D), or (R, B, D) for replicas; to be gone through once.
        noise: the noise of each step, (B, H) or (K, B, H), with R in front for replicas; None if none is needed.
    """

    x: Iterator[Tensor]
    noise: Sequence[Tensor] | None


class Batches:
    """The order of the points and the noise of every step, for one run or for R replicas.

    Epoch e visits the points in an order drawn from the stream ``("order", e)``; the points left over at its end
    are skipped. Any step can be asked for without those before it, and replica r, with seed s + r, sees exactly what
    the single run with that seed sees.

    Args:
        train: training points on the device: (N, D) where all replicas share them, else (R, N, D).
        seeds: one seed per replica.
        batch_size: B, at most N.
        noise: of the steps.
        intake: the way of the points to the model; they are used as they are if there is none.
        renew: draws the points of each replica anew; see `contracts.Data`. None for points that stay as they are.

    Raises:
        ConfigError: the batch is larger than the data.
    """

    def __init__(
        self,
        train: Tensor,
        seeds: Sequence[int],
        batch_size: int,
        noise: Noise,
        intake: Intake | None = None,
        renew: Sequence[Renew] | None = None,
    ) -> None:
        self.points = train.shape[-2]
        if batch_size > self.points:
            raise ConfigError(
                f"training.batch_size: got {batch_size}; expected at most {self.points}, the number of training points"
            )
        self.chunk = noise.chunk
        self.steps_per_epoch = self.points // batch_size
        self._train = train
        self._flat = train.reshape(-1, train.shape[-1])
        self._seeds = tuple(seeds)
        self._batch_size = batch_size
        self._noise = noise
        self._intake = Intake(train.device, train.dtype) if intake is None else intake
        self._renew = renew
        self._orders: dict[int, Tensor] = {}

    def draw(self, first_step: int, count: int) -> Chunk:
        """Return the batches and the noise of steps first_step … first_step + count − 1.

        Args:
            first_step: the first step, from 0.
            count: how many; the steps must lie in one noise chunk.
        """
        return Chunk(self._points(first_step, count), self._noise.draw(first_step, count))

    def _points(self, first_step: int, count: int) -> Iterator[Tensor]:
        """Yield the points of each step, gathered for as many steps at a time as stay in the processor's cache."""
        replicas, dimension = len(self._seeds), self._flat.shape[-1]
        index = torch.cat([self._indices(piece) for piece in self._epoch_pieces(first_step, count)], dim=1)
        bytes_per_step = replicas * self._batch_size * dimension * self._intake.dtype.itemsize
        step = first_step
        if self._renew is not None:
            for rows in index.split(self._batch_size, dim=1):
                renewed = self._renewed(rows, step)
                yield renewed if replicas > 1 else renewed[0]
                step += 1
            return
        for rows in index.split(max(1, GATHER_BYTES // bytes_per_step) * self._batch_size, dim=1):
            x = self._intake(self._flat.index_select(0, rows.reshape(-1)))
            for batch in x.reshape(replicas, -1, self._batch_size, dimension).unbind(1):
                augmented = self._augmented(batch, step)
                yield augmented if replicas > 1 else augmented[0]
                step += 1

    def _augmented(self, batch: Tensor, step: int) -> Tensor:
        """Return a step's points, shape (R, B, D), augmented from the stream ``("augmentation", step)``."""
        augment, device = self._intake.augment, batch.device
        if augment is None:
            return batch
        streams = [generator(seed, "augmentation", step, device=device) for seed in self._seeds]
        return torch.stack([augment(x, stream) for x, stream in zip(batch, streams, strict=True)])

    def _renewed(self, rows: Tensor, step: int) -> Tensor:
        """Return a step's points, shape (R, B, D), drawn anew from the stream ``("augmentation", step)``."""
        assert self._renew is not None  # noqa: S101 - for the type checker
        streams = [generator(seed, "augmentation", step) for seed in self._seeds]
        own = rows.cpu() % self.points  # each replica's own points, where they are not shared
        drawn = [renew(one, stream) for renew, one, stream in zip(self._renew, own, streams, strict=True)]
        return self._intake(torch.stack(drawn))

    def _epoch_pieces(self, first_step: int, count: int) -> list[tuple[int, int, int]]:
        """Return (epoch, first batch, end batch) of each epoch that the steps touch."""
        pieces = []
        step, end = first_step, first_step + count
        while step < end:
            epoch, batch = divmod(step, self.steps_per_epoch)
            taken = min(self.steps_per_epoch - batch, end - step)
            pieces.append((epoch, batch, batch + taken))
            step += taken
        return pieces

    def _indices(self, piece: tuple[int, int, int]) -> Tensor:
        """Return the rows of the flat points, shape (R, number of points in the piece)."""
        epoch, first, end = piece
        if epoch not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key == epoch - 1}
            device = self._flat.device
            orders = [
                torch.randperm(self.points, generator=generator(seed, "order", epoch, device=device), device=device)
                for seed in self._seeds
            ]
            order = torch.stack(orders)
            if self._train.ndim == 3:
                order += torch.arange(len(orders), device=device)[:, None] * self.points
            self._orders[epoch] = order
        return self._orders[epoch][:, first * self._batch_size : end * self._batch_size]
