"""Parquet, Feather (Arrow) and Excel, through pandas."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from elboverse.data.reading.findings import Finding, ReadingOptions, Table
from elboverse.data.reading.separated import table_of_text
from elboverse.data.reading.text import Text
from elboverse.errors import DataError

__all__ = ["read_excel", "read_feather", "read_parquet", "table_of_frame"]


def read_parquet(path: Path, options: ReadingOptions) -> Table:  # noqa: ARG001 - as every reader
    """Return the table of a Parquet file.

    Raises:
        DataError: it is damaged, or pyarrow is not installed.
    """
    return _through_pandas(path, "read_parquet", "pyarrow", "tables")


def read_feather(path: Path, options: ReadingOptions) -> Table:  # noqa: ARG001
    """Return the table of a Feather (Arrow) file; see `read_parquet`."""
    return _through_pandas(path, "read_feather", "pyarrow", "tables")


def read_excel(path: Path, options: ReadingOptions) -> Table:
    """Return the table of a sheet of an Excel file, judged as the same table in a text file would be.

    Raises:
        DataError: it is damaged, has no such sheet, or openpyxl is not installed.
    """
    import pandas as pd  # only who reads a table needs it

    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object)
    except ImportError as error:
        raise _lacks(path, "openpyxl", "excel") from error
    except Exception as error:
        raise DataError(f"{path}: no Excel file that can be read: {' '.join(str(error).split())}") from error
    findings: list[Finding] = []
    name = options.key if options.key is not None else next(iter(sheets))
    if name not in sheets:
        raise DataError(f"{path}: dataset.key: no sheet is called {name!r}; it has {', '.join(map(repr, sheets))}")
    if len(sheets) > 1 and options.key is None:
        findings.append(Finding("key", f"the first of {len(sheets)} sheets, {name!r}, is read", "dataset.key", True))
    written = io.StringIO()
    writer = csv.writer(written, delimiter="\t", lineterminator="\n")
    for row in sheets[name].itertuples(index=False):
        writer.writerow(["" if cell is None or cell != cell else cell for cell in row])
    return table_of_text(Text(written.getvalue(), findings), path.with_suffix(".tsv"), options)


def table_of_frame(frame: Any, findings: list[Finding]) -> Table:
    """Return a pandas DataFrame as a table; an index that is not a plain count is the index."""
    import pandas as pd  # as above

    plain = isinstance(frame.index, pd.RangeIndex)
    columns = [
        column.to_numpy(dtype=np.float64, na_value=np.nan)
        if column.dtype.kind in "fiu" and not isinstance(column.dtype, np.dtype)
        else column.to_numpy()
        if column.dtype.kind in "fiub" and isinstance(column.dtype, np.dtype)
        else column.astype(object).to_numpy()
        for _, column in frame.items()
    ]
    return Table(
        names=[str(name) for name in frame.columns],
        columns=columns,
        index=None
        if plain
        else np.asarray(frame.index.astype(str) if frame.index.nlevels == 1 else map(str, frame.index)),
        index_name="" if plain or frame.index.name is None else str(frame.index.name),
        findings=findings,
    )


def _through_pandas(path: Path, reader: str, package: str, extra: str) -> Table:
    import pandas as pd  # as above

    try:
        frame = getattr(pd, reader)(path)
    except ImportError as error:
        raise _lacks(path, package, extra) from error
    except Exception as error:
        raise DataError(f"{path}: damaged, or not of this format: {' '.join(str(error).split())}") from error
    return table_of_frame(frame, [])


def _lacks(path: Path, package: str, extra: str) -> DataError:
    return DataError(f"{path}: it takes {package} to read, which is not installed: pip install 'elboverse[{extra}]'")
