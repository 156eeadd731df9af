"""A stream of Gaussian points whose number of generating latents changes from regime to regime."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import attrs
import torch
from torch import Tensor

from elboverse.builtin.datasets.generated import normal, require_size
from elboverse.config.structuring import in_range
from elboverse.contracts import Data, Regime, Scaling
from elboverse.data import fingerprint
from elboverse.seeding import generator

__all__ = ["GaussianStream", "GaussianStreamOptions", "RegimeOptions", "build_gaussian_stream"]

BLOCK = 4096
"""Points that are generated at once: drawing them one by one costs more than training on them."""

SHOWN = 10_000
"""Points of a pass, in all, that stand for it where data are looked at and not trained on."""


@attrs.frozen(kw_only=True)
class RegimeOptions:
    """Options of a regime.

    Args:
        latents: how many latents generate its points.
        points: how long it is.
    """

    latents: int = attrs.field(validator=in_range(minimum=0, maximum=10_000))
    points: int = attrs.field(default=100_000, validator=in_range(minimum=1, maximum=10**12))


def _at_least_one(_instance: Any, _attribute: Any, value: tuple[RegimeOptions, ...]) -> None:
    if not value:
        raise ValueError("got none; expected a list of at least one regime")


@attrs.frozen(kw_only=True)
class GaussianStreamOptions:
    """Options of the Gaussian stream.

    Args:
        regimes: of one pass, in order; after the last one the first one comes again, with new points.
        dimension: D.
        lowest_scale: standard deviation of the points along the first generating latent, without noise.
        highest_scale: the same along the Dth, were there one; those between are equally spaced.
        noise: standard deviation of the Gaussian noise on every dimension.
        held_out_points: M, how many points of each regime training never sees.
    """

    regimes: tuple[RegimeOptions, ...] = attrs.field(
        default=(RegimeOptions(latents=6), RegimeOptions(latents=2), RegimeOptions(latents=4)), validator=_at_least_one
    )
    dimension: int = attrs.field(default=10, validator=in_range(minimum=1, maximum=10_000))
    lowest_scale: float = attrs.field(default=1.0, validator=in_range(above=0))
    highest_scale: float = attrs.field(default=5.0, validator=in_range(above=0))
    noise: float = attrs.field(default=0.1, validator=in_range(above=0))
    held_out_points: int = attrs.field(default=10_000, validator=in_range(minimum=0, maximum=100_000_000))

    def __attrs_post_init__(self) -> None:
        most = max(regime.latents for regime in self.regimes)
        if most > self.dimension:
            raise ValueError(
                f"got a regime with {most} latents; expected at most as many as dimensions, {self.dimension}"
            )
        require_size(max(BLOCK, self.held_out_points), self.dimension)


class GaussianStream:
    """x = U diag(s) ε + noise·η with ε ~ N(0, I_H), η ~ N(0, I_D), s the first H of D equally spaced scales.

    U holds the first H columns of one orthogonal matrix, so a regime with more latents adds directions to those of one
    with fewer. Points are generated in blocks, each from a random stream of its own. A `contracts.Stream`.

    Args:
        options: of the dataset.
        seed: the run's seed.
    """

    def __init__(self, options: GaussianStreamOptions, seed: int) -> None:
        self._seed = seed
        self._options = options
        self._lengths = [regime.points for regime in options.regimes]
        *self._starts, self.points_per_pass = accumulate(self._lengths, initial=0)
        scales = torch.linspace(options.lowest_scale, options.highest_scale, options.dimension, dtype=torch.float64)
        directions = _directions(options.dimension, seed)
        self._loadings = [directions[:, : regime.latents] * scales[: regime.latents] for regime in options.regimes]
        self.regimes: Sequence[Regime] = tuple(
            _regime(start, scales[: regime.latents], options)
            for start, regime in zip(self._starts, options.regimes, strict=True)
        )
        self._kept: tuple[tuple[int, int], Tensor] | None = None

    def points(self, first: int, count: int) -> Tensor:
        """Return the points first … first + count − 1, float64, shape (count, D)."""
        pieces = [self._block(*block)[start:end] for block, start, end in self._pieces(first, count)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def held_out(self, position: int) -> Tensor:
        """Return points that the stream never shows, of the regime at `position`, float64, shape (M, D)."""
        index = self._regime_at(position % self.points_per_pass)
        return self._generated(self._options.held_out_points, index, "held out", index)

    def _regime_at(self, inside: int) -> int:
        """Return the number of the regime that a position within a pass lies in."""
        return sum(start <= inside for start in self._starts) - 1

    def _pieces(self, first: int, count: int) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Yield which part of which block the points are: ((occurrence of a regime, block in it), start, end)."""
        position, end = first, first + count
        while position < end:
            number, inside = divmod(position, self.points_per_pass)
            index = self._regime_at(inside)
            offset = inside - self._starts[index]
            block, start = divmod(offset, BLOCK)
            length = min(BLOCK - start, self._lengths[index] - offset, end - position)
            yield (number * len(self._starts) + index, block), start, start + length
            position += length

    def _block(self, occurrence: int, block: int) -> Tensor:
        if self._kept is None or self._kept[0] != (occurrence, block):  # a block is asked for in several pieces
            points = self._generated(BLOCK, occurrence % len(self._starts), "block", occurrence, block)
            self._kept = ((occurrence, block), points)
        return self._kept[1]

    def _generated(self, count: int, index: int, *labels: str | int) -> Tensor:
        stream = generator(self._seed, "data", "gaussian_stream", *labels)
        loading = self._loadings[index]
        latents = normal(stream, count, loading.shape[1])
        return torch.addmm(self._options.noise * normal(stream, count, loading.shape[0]), latents, loading.T)


def _directions(dimension: int, seed: int) -> Tensor:
    """Return an orthogonal matrix, shape (D, D), uniformly distributed over all of them."""
    stream = generator(seed, "data", "gaussian_stream", "directions")
    orthogonal, triangular = torch.linalg.qr(normal(stream, dimension, dimension))
    return orthogonal * triangular.diagonal().sign()


def _regime(start: int, scales: Tensor, options: GaussianStreamOptions) -> Regime:
    eigenvalues = torch.full((options.dimension,), options.noise**2, dtype=torch.float64)
    eigenvalues[: len(scales)] += scales.square()
    eigenvalues = eigenvalues.sort(descending=True).values
    log_likelihood = -0.5 * float(options.dimension * math.log(2 * math.pi * math.e) + eigenvalues.log().sum())
    return Regime(
        name=f"{len(scales)} latents" if len(scales) != 1 else "1 latent",
        first_point=start,
        latents=len(scales),
        log_likelihood=log_likelihood,
        covariance_eigenvalues=tuple(eigenvalues.tolist()),
    )


def build_gaussian_stream(options: GaussianStreamOptions, seed: int) -> Data:
    """Return the stream; `train` and `held_out` hold some points of each of its regimes."""
    stream = GaussianStream(options, seed)
    each = max(1, SHOWN // len(options.regimes))
    train = torch.cat(
        [
            stream.points(regime.first_point, min(each, described.points))
            for regime, described in zip(stream.regimes, options.regimes, strict=True)
        ]
    )
    held_out = torch.cat([stream.held_out(regime.first_point)[:each] for regime in stream.regimes])
    return Data(
        train=train,
        held_out=held_out,
        shape=(options.dimension,),
        scaling=Scaling("none", torch.zeros_like(train[0]), torch.ones_like(train[0])),
        fingerprint=fingerprint(train, held_out),
        stream=stream,
    )
