"""The datasets of the paper in space: a sheet and a curve."""

from __future__ import annotations

import math
from typing import Final

import torch

from elboverse.builtin.datasets.generated import GeneratedOptions, prepared, uniform, with_noise
from elboverse.contracts import Data
from elboverse.seeding import generator

__all__ = ["build_spiral", "build_swiss_roll"]

SPACE: Final = ("x", "y", "z")


def build_swiss_roll(options: GeneratedOptions, seed: int) -> Data:
    """Return points (t cos t, 21 v, t sin t) + noise·ε, t = 1.5π(1 + 2u), u and v ~ U(0, 1)."""
    stream = generator(seed, "data", "swiss_roll")
    u, v = uniform(stream, 2, options.points)
    t = 1.5 * math.pi * (1.0 + 2.0 * u)
    points = with_noise(torch.stack((t * t.cos(), 21.0 * v, t * t.sin()), 1), options.noise, stream)
    return prepared(points, options, seed, what="swiss_roll", names=SPACE)


def build_spiral(options: GeneratedOptions, seed: int) -> Data:
    """Return points (x − z, y, x + z) + 1.5 + noise·ε, where (x, y, z) = (2.5 sin 2πt, 2.5 cos 2πt, 3t), t ~ U(0, 1).

    The noise comes after the tilt, which stretches by √2: so it is the same in every observed dimension.
    """
    stream = generator(seed, "data", "spiral_3D")
    t = uniform(stream, options.points)
    x, y, z = 2.5 * (2.0 * math.pi * t).sin(), 2.5 * (2.0 * math.pi * t).cos(), 3.0 * t
    points = with_noise(torch.stack((x - z, y, x + z), 1) + 1.5, options.noise, stream)
    return prepared(points, options, seed, what="spiral_3D", names=SPACE)
