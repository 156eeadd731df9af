"""From raw points to `contracts.Data`: the checks, the seeded split, the scaling fitted on train, the fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from elboverse.contracts import Condition, Data, Scaling
from elboverse.data.conditions import columns_of, split_conditions
from elboverse.errors import DataError
from elboverse.seeding import generator

__all__ = ["fingerprint", "fit_scaling", "prepare", "require_finite", "split", "split_order"]

AT_ONCE: Final = 1 << 22
"""How many values are widened to float64 at a time."""


def split(points: Tensor, held_out_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return train and held-out points, drawn without replacement in an order that `seed` alone decides.

    Args:
        points: shape (N, D).
        held_out_fraction: share of the points that is held out, 0 ≤ f < 1; the number is rounded down.
        seed: the run's seed.

    Raises:
        DataError: no training point would be left.
    """
    train, held_out = split_order(len(points), held_out_fraction, seed)
    return points[train], points[held_out]


def split_order(count: int, held_out_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return which points are training points and which are held out, as positions; see `split`.

    Raises:
        DataError: no training point would be left.
    """
    held_out = int(count * held_out_fraction)
    if count - held_out < 1:
        raise DataError(f"got {count} points, {held_out} of them held out; so no point is left to train on")
    order = torch.randperm(count, generator=generator(seed, "split"))
    return order[held_out:], order[:held_out]


def fit_scaling(kind: str, train: Tensor, *, whole: bool = False) -> Scaling:
    """Return the scaling of that kind, fitted on training points of shape (N, D).

    ``"min-max"`` maps each dimension's training range to [0, 1], ``"standard"`` to mean 0 and standard deviation 1,
    ``"none"`` leaves it. A dimension that does not vary is shifted, and scaled as the median of the others is, so that
    held-out values that differ there stay comparable.

    Args:
        kind: ``"min-max"``, ``"standard"`` or ``"none"``.
        train: floating point or bytes.
        whole: fit one map for all dimensions together, as images and spectra need.

    Raises:
        DataError: the kind is unknown, or the range of a dimension overflows the type of the points.
    """
    dtype = train.dtype if train.is_floating_point() else torch.float32
    if kind == "none":
        return Scaling(kind, torch.zeros(train.shape[1], dtype=dtype), torch.ones(train.shape[1], dtype=dtype))
    if kind not in {"min-max", "standard"}:
        raise DataError(f"scaling: got {kind!r}; expected 'min-max', 'standard' or 'none'")
    lowest, highest = train.amin(0).double(), train.amax(0).double()
    if whole:
        lowest, highest = lowest.min().expand_as(lowest), highest.max().expand_as(highest)
    if kind == "min-max":
        offset, scale = lowest, highest - lowest
    else:
        offset, scale = _mean_and_deviation(train, whole=whole)
    # Compared by range: the mean of equal numbers is off by a rounding error, which must not be blown up to one.
    varies = (highest > lowest) & (scale > 0)
    usual = scale[varies].median() if bool(varies.any()) else torch.ones((), dtype=torch.float64)
    offset = torch.where(varies, offset, lowest).to(dtype)
    scale = torch.where(varies, scale, usual).to(dtype)
    if not bool((offset.isfinite() & scale.isfinite() & (scale > 0)).all()):
        raise DataError(f"scaling: the values are too large for {kind!r} in {dtype}; divide them by a common unit")
    return Scaling(kind, offset, scale)


def _mean_and_deviation(train: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each dimension, shape (D,) each; bytes are widened a part at a time."""
    if train.is_floating_point() and not whole:
        wide = train.double()
        return wide.mean(0), wide.std(0, correction=0)
    parts = train.split(max(1, AT_ONCE // train.shape[1]))
    mean = sum((part.double().sum(0) for part in parts), torch.zeros(train.shape[1], dtype=torch.float64)) / len(train)
    mean = mean.mean().expand_as(mean) if whole else mean
    square = sum(((part.double() - mean).square().sum(0) for part in parts), torch.zeros_like(mean)) / len(train)
    square = square.mean().expand_as(square) if whole else square
    return mean.contiguous(), square.sqrt().contiguous()


def require_finite(points: Tensor, what: str) -> None:
    """Check that there are points and that all are finite.

    Args:
        points: shape (N, D).
        what: how a message calls them, such as a file's name.

    Raises:
        DataError: there are none, they have no dimension, or some are not finite; the first is named by row and
            column, counted from 0.
    """
    if points.ndim != 2 or 0 in points.shape:
        raise DataError(f"{what}: got shape {tuple(points.shape)}; expected (points, dimensions) with both at least 1")
    if not bool(torch.isfinite(points.sum(dtype=torch.float64))):
        bad = ~torch.isfinite(points)
        row, column = (int(index) for index in bad.nonzero()[0]) if bool(bad.any()) else (-1, -1)
        if row >= 0:
            raise DataError(
                f"{what}: {int(bad.sum())} of {points.numel()} values are not finite, "
                f"the first in row {row}, column {column} (counted from 0): {points[row, column].item()}"
            )


def fingerprint(*tensors: Tensor) -> str:
    """Return a hexadecimal digest of the shapes, types and values of tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def prepare(
    points: Tensor,
    *,
    seed: int,
    held_out: float | Tensor = 0.5,
    scaling: str | Scaling = "min-max",
    shape: Sequence[int] | None = None,
    names: Sequence[str] = (),
    unit: str = "",
    log_density: Callable[[Tensor], Tensor] | None = None,
    conditions: Mapping[str, Any] | None = None,
    labels: Sequence[Any] | None = None,
    label_name: str = "label",
    what: str = "data",
) -> Data:
    """Return raw points as `contracts.Data`: checked, split, and scaled by what was fitted on train alone.

    Args:
        points: raw points, shape (N, D), floating point.
        seed: the run's seed; it decides the split.
        held_out: the share of points to hold out, or the held-out points themselves, shape (M, D).
        scaling: ``"min-max"``, ``"standard"`` or ``"none"`` (see `fit_scaling`), or the map itself where it is known.
        shape: shape of one point; (D,) by default.
        names: what each dimension is, length D or empty.
        unit: unit of the raw values.
        log_density: where the generating density is known, its logarithm in nats: (N, D) raw points → (N,).
        conditions: what a conditional model is given beside each point: name → one value per point, numbers, or names
            of groups such as batches; those of held-out points that are given follow those of `points`.
        labels: of the points, in the same order, which training never sees.
        label_name: what they are.
        what: how a message calls the data.

    Raises:
        DataError: there are no points, some are not finite, or the number of dimensions, names, conditions or labels
            does not fit.
    """
    require_finite(points, what)
    order = torch.arange(len(points))
    if isinstance(held_out, Tensor):
        require_finite(held_out, f"{what}, held out")
        if held_out.shape[1] != points.shape[1]:
            raise DataError(f"{what}: {points.shape[1]} dimensions in train, {held_out.shape[1]} held out")
        train, held = points, held_out
        order = torch.arange(len(points) + len(held_out))
    else:
        rows = split_order(len(points), held_out, seed)
        train, held = (points[part] for part in rows)
        order = torch.cat(rows)
    shape = (points.shape[1],) if shape is None else tuple(shape)
    if math.prod(shape) != points.shape[1]:
        raise DataError(f"{what}: points of shape {shape} have {math.prod(shape)} values, not {points.shape[1]}")
    if names and len(names) != points.shape[1]:
        raise DataError(f"{what}: {len(names)} names for {points.shape[1]} dimensions")
    given: Tensor | None = None
    columns: tuple[Condition, ...] = ()
    if conditions:
        encoded, columns = split_conditions(columns_of(conditions, len(order), what), what)
        given = encoded[order]
    if labels is not None and len(labels) != len(order):
        raise DataError(f"{what}: got {len(labels)} labels; expected {len(order)}, one per point")
    fitted = scaling if isinstance(scaling, Scaling) else fit_scaling(scaling, train)
    truth: list[float | None] = [None, None]
    if log_density is not None:
        truth = [
            float(log_density(part.double()).mean()) + fitted.log_volume() if len(part) else None
            for part in (train, held)
        ]
    train = fitted.apply(train)
    held = fitted.apply(held)  # one after the other, so that at most three copies are in memory at a time
    return Data(
        train=train,
        held_out=held,
        shape=shape,
        scaling=fitted,
        fingerprint=fingerprint(train, held, *(() if given is None else (given,))),
        names=tuple(names),
        unit=unit,
        train_log_likelihood=truth[0],
        held_out_log_likelihood=truth[1],
        order=None if labels is None and given is None else order.numpy(),
        labels=None if labels is None else np.asarray(labels)[order.numpy()],
        label_name="" if labels is None else label_name,
        conditions=given,
        condition_columns=columns,
    )
