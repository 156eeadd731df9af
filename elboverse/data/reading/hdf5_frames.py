"""Tables that pandas wrote with `to_hdf`, put together from their blocks; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from elboverse.data.reading.findings import Finding, Table
from elboverse.errors import DataError

__all__ = ["frame_of_pandas", "is_pandas"]


def is_pandas(node: Any) -> bool:
    """Return whether a group is a table of pandas."""
    return isinstance(node, h5py.Group) and "pandas_type" in node.attrs


def frame_of_pandas(node: h5py.Group, path: Path, findings: list[Finding]) -> Table:
    """Return a table that pandas wrote, in its fixed or its table format.

    Raises:
        DataError: it is a series, has several levels of names, or keeps texts as pickles.
    """
    kind = node.attrs["pandas_type"]
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind == "frame_table":
        return _appendable(node, findings)
    if kind != "frame" or "axis0" not in node or "axis1" not in node:
        raise DataError(
            f"{path}: got a {kind} of pandas; expected a DataFrame with one level of names; save it as Parquet"
        )
    columns: dict[str, Any] = {}
    for number in range(int(node.attrs["nblocks"])):
        values = node[f"block{number}_values"]
        names = _texts(node[f"block{number}_items"][()])
        if h5py.check_dtype(vlen=values.dtype) is not None:
            findings.append(Finding("columns", f"{', '.join(names)} are left out: pandas pickled them", "", True))
            continue
        block = values[()]
        block = block if block.shape[-1] == len(names) else block.T
        columns |= {name: np.ascontiguousarray(block[:, at]) for at, name in enumerate(names)}
    order = [name for name in _texts(node["axis0"][()]) if name in columns]
    if not order:
        raise DataError(f"{path}: no numbers in the table of pandas")
    findings.append(Finding("columns", "the table is one that pandas wrote"))
    index = node["axis1"][()]
    return Table(
        names=order,
        columns=[columns[name] for name in order],
        index=np.asarray(_texts(index)) if index.dtype.kind in "SO" else index,
        findings=findings,
    )


def _appendable(node: h5py.Group, findings: list[Finding]) -> Table:
    records = node["table"][()]
    names, columns, index = [], [], None
    for field in records.dtype.names or ():
        values = records[field]
        if field == "index":
            index = values
        elif values.ndim == 2:
            names += [f"{field}[{at}]" if values.shape[1] > 1 else field for at in range(values.shape[1])]
            columns += [np.ascontiguousarray(values[:, at]) for at in range(values.shape[1])]
        else:
            names.append(field)
            columns.append(
                np.asarray(_texts(values), object) if values.dtype.kind == "S" else np.ascontiguousarray(values)
            )
    if any(name.startswith("values_block") for name in names):
        findings.append(
            Finding("names", "pandas pickled the names of the columns, which is not opened: save as Parquet", "", True)
        )
    return Table(names=names, columns=columns, index=index, findings=findings)


def _texts(values: Any) -> list[str]:
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
