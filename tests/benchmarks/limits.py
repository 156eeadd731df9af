"""The least time that a step can take on this machine: by its floating-point operations, and by the bytes it moves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import attrs
import torch

__all__ = ["Limits", "Machine", "seconds"]


@attrs.frozen
class Machine:
    """What this machine does at best, measured: operations and bytes per second, float32, all threads.

    Args:
        operations: of a product of two 1024 × 1024 matrices.
        bytes: read and written where 256 MB are added to in place.
    """

    operations: float
    bytes: float

    @classmethod
    def measured(cls) -> Machine:
        """Return the best of ten tries."""
        matrix, large = torch.randn(1024, 1024), torch.zeros(64_000_000)
        product = min(seconds(lambda: matrix @ matrix) for _ in range(10))
        addition = min(seconds(lambda: large.add_(1.0)) for _ in range(10))
        return cls(2 * 1024**3 / product, 2 * 4 * large.numel() / addition)


@attrs.frozen
class Limits:
    """What a step of one model has to do at least.

    Args:
        gflop: floating-point operations, in 10⁹.
        megabytes: read and written.
    """

    gflop: float
    megabytes: float

    @classmethod
    def of(cls, dimension: int, latent_dim: int, hidden: Sequence[int], batch_size: int, samples: int = 1) -> Limits:
        """Return the limits of a multi-layer perceptron whose decoder mirrors its encoder.

        Three matrix products per layer (forward, backward for weights and for inputs; the data need none), two
        operations per multiplication and addition. The output of each layer and its gradient are written and read
        once, in float32; a parameter is read twice, and Adam reads and writes it, its gradient and its two moments.

        Args:
            dimension: D.
            latent_dim: H.
            hidden: widths of the encoder's hidden layers.
            batch_size: B.
            samples: K; the decoder sees K·B points.
        """
        encoder = list(itertools.pairwise([dimension, *hidden, 2 * latent_dim]))
        decoder = list(itertools.pairwise([latent_dim, *reversed(hidden), dimension]))
        multiplied = written = 0
        for layers, rows in ((encoder, batch_size), (decoder, batch_size * samples)):
            multiplied += 3 * rows * sum(fan_in * fan_out for fan_in, fan_out in layers)
            written += rows * sum(fan_out for _, fan_out in layers)
        multiplied -= batch_size * dimension * encoder[0][1]
        parameters = sum(fan_in * fan_out for fan_in, fan_out in encoder + decoder)
        return cls(2 * multiplied / 1e9, 4 * (4 * written + 8 * parameters) / 1e6)

    def milliseconds(self, machine: Machine) -> tuple[float, float]:
        """Return the least time by operations and by bytes."""
        return 1e12 * self.gflop / machine.operations, 1e9 * self.megabytes / machine.bytes


def seconds(function: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
