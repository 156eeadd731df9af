"""Tables of results as files: CSV, Parquet, or NumPy's `.npz` and `.npy`, complete or not at all."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from elboverse.errors import AnalysisError
from elboverse.files import replaced

__all__ = ["SUFFIXES", "check_table_file", "write_table"]

Array = npt.NDArray[Any]

SUFFIXES: Final = (".csv", ".parquet", ".npz", ".npy")

_ROWS_AT_ONCE: Final = 10_000


def check_table_file(path: Path, *, overwrite: bool) -> None:
    """Check that a table can be written there, before anything is computed.

    Raises:
        AnalysisError: the suffix is unknown, the folder is missing, or there is a file that may not be replaced.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise AnalysisError(f"-o {path}: got a file of type {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    try:
        if path.is_dir():
            raise AnalysisError(f"-o {path}: a folder; name a file in it")
        if not path.parent.is_dir():
            raise AnalysisError(f"-o {path}: the folder {path.parent} does not exist; make it first")
        if path.exists() and not overwrite:
            raise AnalysisError(f"-o {path}: already exists; give --overwrite to replace it, or another file")
    except OSError as error:
        raise AnalysisError(f"-o {path}: cannot be written: {error.strerror or error}") from error
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def write_table(path: Path, columns: Mapping[str, Array]) -> None:
    """Write a table; an existing file is replaced.

    Args:
        path: where; the suffix says how. ``.npy`` takes the numeric columns as one array, (N, K).
        columns: name → values, all of one length.

    Raises:
        AnalysisError: it cannot be written; an existing file is then left as it was.
    """
    try:
        with replaced(path) as temporary:
            _write(temporary, path.suffix.lower(), columns)
    except OSError as error:
        raise AnalysisError(f"-o {path}: cannot be written: {error.strerror or error}") from error


def _write(path: Path, suffix: str, columns: Mapping[str, Array]) -> None:
    if suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            count = len(next(iter(columns.values()), ()))
            for first in range(0, count, _ROWS_AT_ONCE):
                part = [values[first : first + _ROWS_AT_ONCE] for values in columns.values()]
                # As text, a number is as short as it can be to be read back as the same.
                rows.writerows(zip(*(np.asarray(values).astype(str) for values in part), strict=True))
    elif suffix == ".parquet":
        pa, parquet = _pyarrow()
        parquet.write_table(pa.table({name: pa.array(_plain(values)) for name, values in columns.items()}), path)
    else:
        plain = {name: _plain(values) for name, values in columns.items()}
        with path.open("wb") as file:
            if suffix == ".npz":
                np.savez(file, allow_pickle=False, **plain)
            else:
                numeric = [values for values in plain.values() if values.dtype.kind == "f"]
                np.save(file, np.stack(numeric, axis=1), allow_pickle=False)


def _plain(values: Array) -> Array:
    array = np.asarray(values)
    return array.astype(str) if array.dtype.kind == "O" else array


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # optional
        from pyarrow import parquet
    except ImportError as error:
        raise AnalysisError(
            ".parquet: needs pyarrow, which is not installed; pip install 'elboverse[parquet]'"
        ) from error
    return pa, parquet
