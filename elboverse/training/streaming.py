"""Streams: batches in order, each point once, and what an evaluation looks at on the way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from elboverse.contracts import Stream
from elboverse.errors import ConfigError
from elboverse.training.batches import GATHER_BYTES, Chunk
from elboverse.training.intake import Intake
from elboverse.training.noise import Noise

__all__ = ["StreamedBatches", "Timetable"]


class Timetable:
    """Which step of a run is where in a stream.

    A pass has as many full batches as fit it; the points left over at its end are skipped, as for other data.

    Args:
        stream: the stream.
        batch_size: B, at most the points of a pass.

    Raises:
        ConfigError: the batch is larger than a pass.
    """

    def __init__(self, stream: Stream, batch_size: int) -> None:
        self.points_per_pass = stream.points_per_pass
        if batch_size > self.points_per_pass:
            raise ConfigError(
                f"training.batch_size: got {batch_size}; "
                f"expected at most {self.points_per_pass}, the points of one pass of the stream"
            )
        self.steps_per_pass = self.points_per_pass // batch_size
        self._batch_size = batch_size
        self._starts = [regime.first_point for regime in stream.regimes]
        self._ends = [*self._starts[1:], self.points_per_pass]
        self._shortest = min(end - start for start, end in zip(self._starts, self._ends, strict=True))

    def position(self, step: int) -> int:
        """Return where the batch of a step begins."""
        number, batch = divmod(step, self.steps_per_pass)
        return number * self.points_per_pass + batch * self._batch_size

    def turns(self) -> tuple[int, ...]:
        """Return the steps of a pass before which the regime changes, ascending: none where there is but one."""
        steps = {-(-start // self._batch_size) for start in self._starts}
        found = sorted(step for step in steps if step < self.steps_per_pass)
        return tuple(found) if len(found) > 1 else ()

    def latest(self, done: int, count: int) -> tuple[int, int]:
        """Return position and number of the latest points trained on, all of the regime of the last step.

        Early in a regime, and before the first step, they are its first points. They are always as many: `count`, or
        as many as the shortest regime has. Points of the next regime in a batch across its border are none of them.

        Args:
            done: number of steps done.
            count: at least 1.
        """
        reached = self.reached(done)
        number, inside = divmod(reached, self.points_per_pass)
        regime = bisect_right(self._starts, inside) - 1
        before = number * self.points_per_pass
        end = min(before + self._ends[regime], reached + self._batch_size) if done else 0
        count = min(count, self._shortest)
        return max(before + self._starts[regime], end - count), count

    def reached(self, done: int) -> int:
        """Return where the last of `done` steps begins, which says its regime; where the first one does before any."""
        return self.position(max(0, done - 1))


class StreamedBatches:
    """The batches of every step of a stream, in order, and their noise, for one run or for R replicas.

    Args:
        streams: one per replica, all with the same regimes.
        timetable: which step is where.
        batch_size: B.
        noise: of the steps.
        intake: the way of the points to the model.
    """

    def __init__(
        self, streams: Sequence[Stream], timetable: Timetable, batch_size: int, noise: Noise, intake: Intake
    ) -> None:
        self.chunk = noise.chunk
        self.steps_per_epoch = timetable.steps_per_pass
        self._streams = tuple(streams)
        self._timetable = timetable
        self._batch_size = batch_size
        self._noise = noise
        self._intake = intake

    def draw(self, first_step: int, count: int) -> Chunk:
        """Return the batches and the noise of steps first_step … first_step + count − 1, which lie in one chunk."""
        return Chunk(self._points(first_step, count), self._noise.draw(first_step, count))

    def latest(self, done: int, count: int) -> Tensor:
        """Return what `Timetable.latest` says: (M, D), or (R, M, D) for replicas."""
        first, taken = self._timetable.latest(done, count)
        return self._together([stream.points(first, taken) for stream in self._streams])

    def held_out(self, done: int) -> Tensor:
        """Return held-out points of the regime of the last of `done` steps: (M, D), or (R, M, D) for replicas."""
        position = self._timetable.reached(done)
        return self._together([stream.held_out(position) for stream in self._streams])

    def _points(self, first_step: int, count: int) -> Iterator[Tensor]:
        """Yield the points of each step, asked of the streams for as many steps as stay in the processor's cache."""
        step, end, at_once = first_step, first_step + count, 1
        while step < end:
            steps = min(at_once, end - step, self.steps_per_epoch - step % self.steps_per_epoch)
            position, number = self._timetable.position(step), steps * self._batch_size
            points = self._together([stream.points(position, number) for stream in self._streams])
            yield from points.unflatten(-2, (steps, self._batch_size)).unbind(-3)
            at_once = max(1, GATHER_BYTES * steps // (points.numel() * points.element_size()))
            step += steps

    def _together(self, points: Sequence[Tensor]) -> Tensor:
        return self._intake(points[0] if len(points) == 1 else torch.stack(list(points)))
