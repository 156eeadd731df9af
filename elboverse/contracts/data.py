"""What a dataset gives: points, ready to train on, and what is known of them.

Tensors appear in annotations only, so that this module imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Generator, Tensor

__all__ = ["Condition", "Data", "Fetchable", "FromFiles", "Regime", "Scaling", "Stream", "is_image"]


@attrs.frozen(eq=False)
class Scaling:
    """The affine map that was fitted on the training data alone: scaled = (raw − offset) / scale.

    Args:
        kind: ``"min-max"``, ``"standard"`` or ``"none"``.
        offset: in data units, shape (D,).
        scale: in data units, shape (D,), positive.
    """

    kind: str
    offset: Tensor
    scale: Tensor

    def apply(self, raw: Tensor) -> Tensor:
        """Return raw points, shape (*B, D), in the units that the model is trained in."""
        return (raw - self.offset).div_(self.scale)

    def undo(self, scaled: Tensor) -> Tensor:
        """Return scaled points, shape (*B, D), in data units."""
        return scaled * self.scale + self.offset

    def log_volume(self) -> float:
        """Return Σ_d ln scale_d in nats: add it to a log-density of raw points to get that of scaled points."""
        return float(self.scale.double().log().sum())


@attrs.frozen
class Condition:
    """What a column of conditions is: a number as it is, or one of several levels, each a column of 0 and 1.

    Args:
        name: of the column, such as ``"batch"``.
        levels: of a categorical one, in order; none for a number.
    """

    name: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many of the C numbers it takes."""
        return len(self.levels) or 1

    @property
    def names(self) -> tuple[str, ...]:
        """What each of them is, such as ``"batch=a"``."""
        return tuple(f"{self.name}={level}" for level in self.levels) or (self.name,)


@attrs.frozen(kw_only=True)
class Regime:
    """A stretch of a stream whose points follow one distribution.

    Args:
        name: what a table and a figure call it.
        first_point: where in a pass it begins; it ends where the next one begins, the last one with the pass.
        latents: how many latents generate it, where that is known.
        log_likelihood: its expected log-likelihood under the generating density in nats per scaled point, where that
            is known.
        covariance_eigenvalues: of the generating density, for scaled points, where known: D positive numbers,
            descending.
    """

    name: str
    first_point: int
    latents: int | None = None
    log_likelihood: float | None = None
    covariance_eigenvalues: tuple[float, ...] | None = None


@runtime_checkable
class Stream(Protocol):
    """Points that come in an order, without end, each seen once: what a dataset of a stream adds to its `Data`.

    Training takes batch after batch in order. A pass is what an epoch is for other data: the stretch after which the
    regimes repeat, with points of its own. Everything is a function of the position alone, so that a run can be
    resumed anywhere. A step belongs to the regime of its batch's first point, also where the batch reaches into the
    next one; an evaluation looks at that regime alone.
    """

    points_per_pass: int

    regimes: Sequence[Regime]
    """Of one pass, in order; the first one begins at point 0."""

    def points(self, first: int, count: int) -> Tensor:
        """Return the points first … first + count − 1, scaled and in floating point, shape (count, D).

        Args:
            first: position in the stream, from 0; it has no end.
            count: how many, at least 1.
        """
        ...

    def held_out(self, position: int) -> Tensor:
        """Return points that the stream never shows, of the regime that the point at `position` is of.

        Their number, M, is the same everywhere; shape (M, D), scaled and in floating point.
        """
        ...


def is_image(shape: Sequence[int]) -> bool:
    """Return whether points of that shape are images: (height, width), or (1 or 3 channels, height, width)."""
    return (len(shape) == 2 and min(shape) > 1) or (len(shape) == 3 and shape[0] in {1, 3})


@attrs.frozen(eq=False, kw_only=True)
class Data:
    """What a dataset's `build(options, seed)` returns: points, ready to train on.

    `elboverse.data.prepare` splits and scales raw points into one; most datasets end with it. Points are either scaled
    ones in floating point, which are held on the device, or raw ones in bytes (`torch.uint8`), such as a map of a
    file, which stay where they are: each batch is converted and scaled on the device.

    Args:
        train: training points, scaled, floating point and finite, or raw bytes; shape (N, D).
        held_out: points that training never sees, of the same type, shape (M, D); M may be 0.
        shape: shape of one point, such as (2,) or (28, 28); its product is D.
        names: what each dimension is, length D, or empty.
        unit: unit of the raw values, such as ``"px"``; empty if they have none.
        scaling: the map from raw to scaled points.
        fingerprint: hexadecimal digest of the points as they are used.
        train_log_likelihood: where the generating density is known, its mean log-likelihood of the scaled
            training points in nats per point.
        held_out_log_likelihood: the same for the held-out points.
        augment: returns a training batch, scaled and of shape (B, D), with each point replaced by a random variant of
            it, such as its mirror image; all randomness from the generator. None for no augmentation, and beside a
            stream, whose points are new ones anyway.
        order: position of each point in its file, training points first and then the held-out ones, integers of shape
            (N + M,); None without a file.
        index: name of each point, such as a table's first column, in the same order; None for none.
        index_name: what the file calls the index.
        labels: of the points, which training never sees, in the same order; None for none.
        label_name: what the file calls the labels.
        conditions: of each point, what a conditional model is given beside it and does not model, such as its batch:
            shape (N + M, C), floating point and finite, in the same order; None for none. A model takes them where its
            `build` has a parameter ``conditions``, which is given C; see `contracts.Conditional`.
        condition_columns: what the C numbers are; their widths add up to C.
        place: how messages call a point of the file by its position there, such as ``"line 17"``.
        notes: sentences about what was taken for what and what stands out, for people.
        renew: returns training points drawn anew each time that they are trained on, (B, D), as `train` holds them, for
            their positions in it, (B,); all randomness from the generator, on the processor. `train` then is one draw,
            which evaluations look at. None for points that stay as they are.
        stream: where the points come in an order and without end; training then goes along it, and `train` and
            `held_out` are samples of it to look at. None for points that epochs go through in a random order.
    """

    train: Tensor
    held_out: Tensor
    shape: tuple[int, ...]
    scaling: Scaling
    fingerprint: str
    names: tuple[str, ...] = ()
    unit: str = ""
    train_log_likelihood: float | None = None
    held_out_log_likelihood: float | None = None
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    renew: Callable[[Tensor, Generator], Tensor] | None = None
    stream: Stream | None = None
    order: NDArray[Any] | None = None
    index: NDArray[Any] | None = None
    index_name: str = ""
    labels: NDArray[Any] | None = None
    label_name: str = ""
    conditions: Tensor | None = None
    condition_columns: tuple[Condition, ...] = ()
    place: Callable[[int], str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def condition_names(self) -> tuple[str, ...]:
        """What each of the C numbers is, such as ``"batch=a"``."""
        return tuple(name for column in self.condition_columns for name in column.names)

    @property
    def dimension(self) -> int:
        """D, the number of observed dimensions."""
        return math.prod(self.shape)

    def value_range(self) -> tuple[float, float]:
        """Return the least and the greatest training value in data units; it goes once through all of them."""
        low, high = (self.scaling.undo(self.scaled(bound)) for bound in (self.train.amin(0), self.train.amax(0)))
        return float(low.min()), float(high.max())

    def scaled(self, points: Tensor) -> Tensor:
        """Return some of `train` or `held_out`, shape (*B, D), as the model sees them: bytes are scaled."""
        return points if points.is_floating_point() else self.scaling.apply(points)


@runtime_checkable
class FromFiles(Protocol):
    """Options of a dataset that is read from files; `elboverse data list` asks where."""

    def places(self) -> Sequence[Path]:
        """Return the files or folders that are looked for, in order; the first that is there is used."""
        ...


@runtime_checkable
class Fetchable(Protocol):
    """Options of a dataset whose files `elboverse data fetch` can get."""

    def fetch(self) -> Path:
        """Get the files, unless they are there, and return where they are."""
        ...
