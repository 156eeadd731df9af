"""Conditions: from columns of numbers and names to what a conditional model is given beside each point, C numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from elboverse.contracts import Condition, Data, Scaling
from elboverse.errors import DataError, nearest

__all__ = [
    "columns_of",
    "condition_columns",
    "conditions_of",
    "encoded",
    "recoded",
    "split_conditions",
    "with_conditions",
]

_MOST_LEVELS = 1000
"""How many levels a condition may have; a column with more names its rows, as a rule."""


def condition_columns(columns: Mapping[str, NDArray[Any]], what: str) -> tuple[Condition, ...]:
    """Return what columns are, by their values: numbers are taken as they are, anything else has levels.

    Args:
        columns: name → values of each point, shape (N,): numbers, booleans, or texts.
        what: how messages call the data.

    Raises:
        DataError: a column has nearly as many levels as there are points.
    """
    found = []
    for name, values in columns.items():
        if values.dtype.kind in "fiub":
            found.append(Condition(name))
            continue
        levels = sorted({_level(value) for value in values})
        if len(levels) > _MOST_LEVELS or (len(levels) > 20 and len(levels) * 2 > len(values)):
            raise DataError(
                f"{what}: dataset.conditions: column {name!r} has {len(levels):,} levels in {len(values):,} rows; "
                "expected a few that many rows share"
            )
        found.append(Condition(name, tuple(levels)))
    return tuple(found)


def encoded(
    columns: Mapping[str, NDArray[Any]], conditions: Sequence[Condition], what: str, count: int
) -> NDArray[np.float64]:
    """Return the conditions of each point as numbers, shape (N, C): a number as it is, a level as a 1 among 0s.

    Args:
        columns: name → values of each point, shape (N,).
        conditions: what they are.
        what: how messages call the data.
        count: N.

    Raises:
        DataError: a column is missing, a value is not a number where one is expected, or a level is not known.
    """
    parts = [np.zeros((count, 0))]
    for condition in conditions:
        if condition.name not in columns:
            hint = nearest(condition.name, columns)
            raise DataError(
                f"{what}: the condition {condition.name!r} is missing{f' ({hint})' if hint else ''}; the model is "
                f"conditional on {', '.join(one.name for one in conditions)}"
            )
        values = np.asarray(columns[condition.name])
        if not condition.levels:
            parts.append(_numbers(values, condition.name, what)[:, None])
            continue
        known = {level: at for at, level in enumerate(condition.levels)}
        written = [_level(value) for value in values]
        strange = next(((row, level) for row, level in enumerate(written) if level not in known), None)
        if strange is not None:
            row, level = strange
            listed = ", ".join(condition.levels[:20]) + (", …" if len(condition.levels) > 20 else "")
            raise DataError(
                f"{what}: condition {condition.name!r}, row {row} (counted from 0): got {level!r}; expected one of "
                f"{listed}, the levels of the training data"
            )
        one_hot = np.zeros((len(values), len(known)))
        one_hot[np.arange(len(values)), [known[level] for level in written]] = 1
        parts.append(one_hot)
    return np.concatenate(parts, axis=1)


def columns_of(given: Any, count: int, what: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a table, or of a dict, one value of which may stand for all points.

    Raises:
        DataError: it is neither, or has another number of rows.
    """
    given = getattr(given, "obs", given)  # of an AnnData
    names = list(given) if isinstance(given, Mapping) else list(getattr(given, "columns", ()))
    if not names:
        raise DataError(
            f"{what}: got {type(given).__name__} without conditions; expected a table that has them, or conditions "
            'beside it, such as conditions={"batch": "a"}'
        )
    columns = {}
    for name in names:
        values = given[name]
        one = np.asarray(values if not hasattr(values, "to_numpy") else values.to_numpy())
        one = np.broadcast_to(one, (count,)) if one.ndim == 0 else one
        if len(one) != count:
            raise DataError(f"{what}: condition {name!r}: got {len(one):,} values; expected {count:,}, one per point")
        columns[str(name)] = one
    return columns


def recoded(values: NDArray[Any], of: Sequence[Condition]) -> dict[str, NDArray[Any]]:
    """Return the columns that `encoded` made numbers of, name → values of each point."""
    columns: dict[str, NDArray[Any]] = {}
    first = 0
    for condition in of:
        part = values[:, first : first + condition.width]
        first += condition.width
        columns[condition.name] = (
            np.asarray(condition.levels, dtype=object)[part.argmax(1)] if condition.levels else part[:, 0]
        )
    return columns


def with_conditions(data: Data) -> Data:
    """Return the data with each point's conditions behind its values, (N, D + C), as batches hold them.

    Everything else of the data stays, `shape` and `dimension` too; the scaling leaves conditions as they are.
    """
    if data.conditions is None or data.conditions.shape[1] == 0:
        return data
    train, held_out, scaling = data.train, data.held_out, data.scaling
    conditions = data.conditions
    if not train.is_floating_point():
        whole = conditions.min() >= 0 and conditions.max() <= 255 and bool((conditions == conditions.round()).all())
        if whole:  # bytes stay bytes, which are converted a batch at a time
            conditions = conditions.to(train.dtype)
        else:
            train, held_out = scaling.apply(train.float()), scaling.apply(held_out.float())
    first, rest = conditions.to(train.dtype).split((len(train), len(held_out)))
    width = conditions.shape[1]
    extended = Scaling(
        scaling.kind,
        torch.cat((scaling.offset, scaling.offset.new_zeros(width))),
        torch.cat((scaling.scale, scaling.scale.new_ones(width))),
    )
    joined = torch.cat((train, first), 1)
    renew = data.renew

    def renewed(rows: Tensor, stream: Generator) -> Tensor:
        assert renew is not None  # noqa: S101 - for the type checker
        points = renew(rows, stream)
        return torch.cat((points, joined[rows, points.shape[1] :].to(points.dtype)), dim=1)

    return attrs.evolve(
        data,
        train=joined,
        held_out=torch.cat((held_out, rest), 1),
        scaling=extended,
        renew=None if renew is None else renewed,
    )


def conditions_of(document: Any) -> tuple[Condition, ...]:
    """Return the conditions that a run file keeps, from its document of the data."""
    stored = document if isinstance(document, list) else []
    return tuple(
        Condition(str(one["name"]), tuple(map(str, one.get("levels") or ())))
        for one in stored
        if isinstance(one, dict) and "name" in one
    )


def split_conditions(columns: Mapping[str, NDArray[Any]], what: str) -> tuple[Tensor, tuple[Condition, ...]]:
    """Return the conditions of a dataset's columns, (N, C) in float64, and what they are."""
    count = len(next(iter(columns.values())))
    conditions = condition_columns(columns, what)
    return torch.from_numpy(encoded(columns, conditions, what, count)), conditions


def _numbers(values: NDArray[Any], name: str, what: str) -> NDArray[np.float64]:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what}: condition {name!r}: got {values.dtype} values; expected numbers ({error})") from error
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(
            f"{what}: condition {name!r}, row {row} (counted from 0): got {numbers[row]:g}; expected a finite number"
        )
    return numbers


def _level(value: Any) -> str:
    return str(value).strip()
