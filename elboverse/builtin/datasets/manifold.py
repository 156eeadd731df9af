"""A dataset whose many dimensions are functions of a few free ones: it has as many latents as free dimensions."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from elboverse.builtin.datasets.generated import GeneratedOptions, normal, prepared, require_size, with_noise
from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.seeding import generator

__all__ = ["ManifoldOptions", "build_manifold", "dependent_pairs"]


@attrs.frozen(kw_only=True)
class ManifoldOptions(GeneratedOptions):
    """Options of the manifold dataset.

    Args:
        free: k, the number of free dimensions, 2 ≤ k < D.
        dimension: D.
    """

    free: int = attrs.field(default=10, validator=in_range(minimum=2))
    dimension: int = attrs.field(default=100, validator=in_range(minimum=3))

    def __attrs_post_init__(self) -> None:
        if not self.free < self.dimension:
            raise ValueError(
                f"got free = {self.free} and dimension = {self.dimension}; expected free < dimension: "
                "at least one dimension must depend on the free ones"
            )
        require_size(self.points, self.dimension)


def dependent_pairs(options: ManifoldOptions, seed: int) -> Tensor:
    """Return which two free dimensions each dependent one is a function of, shape (D − k, 2).

    They depend on the seed, k and D alone; the two of a pair differ.
    """
    stream = generator(seed, "data", "manifold", "pairs")
    count, k = options.dimension - options.free, options.free
    first = torch.randint(k, (count,), generator=stream)
    apart = torch.randint(1, k, (count,), generator=stream)
    return torch.stack((first, (first + apart) % k), 1)


def build_manifold(options: ManifoldOptions, seed: int) -> Data:
    """Return points whose first k dimensions are 0.35·ε − 0.175 and whose others are 0.35·cos(a² + b²).

    ε ~ N(0, 1), and a, b are two free dimensions of the same point, chosen at random for each dependent dimension
    and the same for all points. Gaussian noise is then added to every dimension.
    """
    stream = generator(seed, "data", "manifold")
    free = 0.35 * normal(stream, options.points, options.free) - 0.175
    a, b = (free[:, column] for column in dependent_pairs(options, seed).T)
    dependent = 0.35 * (a.square() + b.square()).cos()
    points = with_noise(torch.cat((free, dependent), 1), options.noise, stream)
    return prepared(points, options, seed, what="manifold")
