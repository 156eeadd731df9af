"""Points as people hold them in memory: arrays, tensors, tables, sparse matrices, AnnData, scikit-learn's Bunches.

Whatever comes in keeps its labels: `Points` remembers the names of columns and the index of rows, so that what is
computed of each row goes back in the same kind of container. No library is imported for it: a container is known by
the package that its class belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from elboverse.errors import DataError

__all__ = ["Points", "apart", "is_points", "points_of"]

Array = npt.NDArray[Any]

_SHOWN: Final = 6


@attrs.frozen(eq=False, kw_only=True)
class Points:
    """Points with their labels.

    Args:
        values: real numbers; the first axis counts the N points, the others are the shape of one.
        names: of the columns, length D, or empty where they have none.
        index: of the rows, length N, in the container's own type; None where they have none.
        conditions: of each point as a conditional model takes them, shape (N, C); None for none.
        container: ``"array"``, ``"pandas"`` or ``"polars"``: what values of each row are returned as.
    """

    values: Array
    names: tuple[str, ...] = ()
    index: Any = None
    conditions: Array | None = None
    container: str = "array"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def flat(self) -> Array:
        """The values, shape (N, D)."""
        return self.values.reshape(len(self.values), -1)

    def select(self, names: Sequence[str], what: str = "data") -> Points:
        """Return the points with the columns of those names, in that order; as they are where either has no names.

        Raises:
            DataError: one is missing.
        """
        if not names or not self.names or tuple(names) == self.names:
            return self
        missing = [name for name in names if name not in self.names]
        if missing:
            if len(self.names) == len(names) and not set(names) & set(self.names):
                given = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
                raise DataError(
                    f"{what}: got the columns {given}; expected those of the training data, "
                    f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}; rename them, or give an array"
                )
            raise DataError(
                f"{what}: the column {missing[0]!r} is missing"
                f"{f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''}; it has {_listed(self.names)}"
            )
        where = [self.names.index(name) for name in names]
        return attrs.evolve(self, values=self.flat[:, where], names=tuple(names))

    def labelled(self, values: Array, names: Sequence[str]) -> Any:
        """Return values of each row, shape (N, K), in the container that the points came in.

        Args:
            values: one row per point.
            names: of the K columns; an array goes without.
        """
        if self.container == "array":
            return values
        columns = {name: values[:, column] for column, name in enumerate(names)}
        if self.container == "pandas":
            import pandas as pd  # whoever hands in a DataFrame has it

            return pd.DataFrame(columns, index=self.index)
        import polars as pl  # the same

        return pl.DataFrame(columns)


def is_points(value: Any) -> bool:
    """Return whether a value is points in memory, not a config, a path or a name."""
    if value is None or isinstance(value, str | bytes) or hasattr(value, "__fspath__"):
        return False
    if isinstance(value, Mapping):
        return _is_bunch(value)
    return _package(value) in {"numpy", "torch", "pandas", "polars", "scipy", "anndata"} or isinstance(
        value, list | tuple | Points
    )


def apart(value: Any, conditions: Sequence[str], what: str = "the data") -> tuple[Points, dict[str, Array]]:
    """Return points in memory, and the columns that are conditions of theirs and no dimensions, name → values.

    Args:
        value: as for `points_of`; with conditions a table, or an AnnData, whose ``obs`` has them.
        conditions: names of columns.
        what: how messages call it.

    Raises:
        DataError: a column is missing, or it is not a table.
    """
    if not conditions:
        return points_of(value, what), {}
    table = value.obs if _package(value) == "anndata" else value
    if _package(table) not in {"pandas", "polars"}:
        raise DataError(f"{what}: dataset.conditions: got {type(value).__name__}; expected a table with these columns")
    names = [str(name) for name in table.columns]
    missing = [name for name in conditions if name not in names]
    if missing:
        raise DataError(f"{what}: the condition {missing[0]!r} is missing; it has {_listed(names)}")
    found = {name: np.asarray(table[name].to_numpy()) for name in conditions}
    columns = () if table is not value else [name for name in names if name not in conditions]
    return points_of(value, what, columns), found


def points_of(value: Any, what: str = "the data", columns: Sequence[str] = ()) -> Points:
    """Return points in memory as `Points`.

    Args:
        value: a NumPy array or a nested list, a tensor, a DataFrame of pandas or polars, a sparse matrix of SciPy,
            an AnnData, or a Bunch of scikit-learn.
        what: how a message calls it.
        columns: names of the columns to use; the others of a table may then hold anything.

    Raises:
        DataError: it is none of these, or holds anything but real numbers.
    """
    if isinstance(value, Points):
        return value
    package = _package(value)
    if isinstance(value, Mapping) and _is_bunch(value):
        found = points_of(value["data"], what, columns)
        names = tuple(str(name) for name in value.get("feature_names", ()) if name is not None)
        images = value.get("images")
        if images is not None and len(images) == len(found) and not found.names:
            return Points(values=_real(np.asarray(images), what))
        return found if found.names or len(names) != found.flat.shape[1] else attrs.evolve(found, names=names)
    if package == "pandas":
        return _from_pandas(value, what, columns)
    if package == "polars":
        return _from_polars(value, what, columns)
    if package == "anndata":
        matrix = value.X.toarray() if hasattr(value.X, "toarray") else value.X
        names, index = tuple(map(str, value.var_names)), value.obs_names
        return Points(values=_real(np.asarray(matrix), what), names=names, index=index, container="pandas")
    if package == "torch":
        return Points(values=_real(value.detach().cpu().resolve_conj().numpy(), what))
    if hasattr(value, "toarray"):
        return Points(values=_real(value.toarray(), what))
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{what}: not an array: {error}; expected rows of equal length") from error
    return Points(values=_real(array, what))


def _from_pandas(frame: Any, what: str, columns: Sequence[str]) -> Points:
    if frame.ndim == 1:
        frame = frame.to_frame()
    frame = frame[_chosen([str(name) for name in frame.columns], list(frame.columns), columns, what)]
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        if getattr(kind, "kind", "O") not in "fiub":
            raise DataError(_not_numbers(what, name, kind))
    values = frame.to_numpy(dtype=_common([kind for kind in frame.dtypes]), na_value=np.nan)  # noqa: C416 - a Series
    _refuse_missing(values, [str(name) for name in frame.columns], frame.index, what)
    return Points(values=values, names=tuple(map(str, frame.columns)), index=frame.index, container="pandas")


def _from_polars(frame: Any, what: str, columns: Sequence[str]) -> Points:
    if hasattr(frame, "collect"):
        frame = frame.collect()
    if hasattr(frame, "to_frame"):
        frame = frame.to_frame()
    frame = frame.select(_chosen(frame.columns, frame.columns, columns, what))
    for name, kind in zip(frame.columns, frame.dtypes, strict=True):
        if not (kind.is_numeric() or str(kind) == "Boolean"):
            raise DataError(_not_numbers(what, name, kind))
    values = frame.to_numpy()
    values = values if values.dtype.kind in "fiub" else values.astype(np.float64)
    _refuse_missing(values, frame.columns, None, what)
    return Points(values=values, names=tuple(frame.columns), container="polars")


def _chosen(names: Sequence[str], columns: Sequence[Any], wanted: Sequence[str], what: str) -> list[Any]:
    if not wanted:
        return list(columns)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(f"{what}: the column {missing[0]!r} is missing; it has {_listed(names)}")
    return [columns[names.index(name)] for name in wanted]


def _refuse_missing(values: Array, names: Sequence[str], index: Any, what: str) -> None:
    if values.dtype.kind != "f" or not np.isnan(values).any():
        return
    row, column = (int(part) for part in np.argwhere(np.isnan(values))[0])
    label = row if index is None else index[row]
    raise DataError(
        f"{what}: {int(np.isnan(values).sum()):,} values are missing, the first in row {label}, column "
        f"{names[column]!r}; drop those rows or fill the values in"
    )


def _common(kinds: Sequence[Any]) -> Any:
    plain = [getattr(kind, "numpy_dtype", kind) for kind in kinds]
    found = np.result_type(*plain) if plain else np.dtype(np.float64)
    has_missing = any(hasattr(kind, "numpy_dtype") for kind in kinds)
    return np.float64 if has_missing or found.kind not in "fiu" else found


def _not_numbers(what: str, name: Any, kind: Any) -> str:
    return (
        f"{what}: the column {str(name)!r} holds {kind}; expected numbers; leave it out, or name the columns to use "
        "with dataset.columns"
    )


def _real(array: Array, what: str) -> Array:
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{what}: got Python objects; expected numbers ({error})") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what}: got values of type {array.dtype}; expected real numbers")
    if array.ndim == 0:
        raise DataError(f"{what}: got a single number; expected an array whose first axis counts the points")
    return array


def _is_bunch(value: Any) -> bool:
    return type(value).__name__ == "Bunch" and "data" in value


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
