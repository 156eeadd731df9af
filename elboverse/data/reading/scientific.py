"""MATLAB up to version 7 and classic netCDF, through SciPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elboverse.data.reading.arrays import points_of_array
from elboverse.data.reading.columns import LABEL_NAMES
from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table
from elboverse.data.reading.limits import choose
from elboverse.data.reading.packing import unpacked
from elboverse.errors import DataError

__all__ = ["read_matlab", "read_netcdf"]


def read_matlab(path: Path, options: ReadingOptions) -> RawPoints | Table:
    """Return the points of a MATLAB file: its only matrix, or the variable that the user names.

    Raises:
        DataError: it is damaged, has no such variable, or SciPy is not installed.
    """
    found = _scipy(path, lambda io: io.loadmat(path, squeeze_me=False))
    arrays = {name: value for name, value in found.items() if not name.startswith("__")}
    arrays = {name: value.toarray() if hasattr(value, "toarray") else value for name, value in arrays.items()}
    return _chosen({n: v for n, v in arrays.items() if isinstance(v, np.ndarray)}, {}, path, options)


def read_netcdf(path: Path, options: ReadingOptions) -> RawPoints | Table:
    """Return the points of a classic netCDF file; as for `read_matlab`. netCDF 4 is HDF5."""
    arrays: dict[str, NDArray[Any]] = {}
    attributes: dict[str, dict[str, Any]] = {}

    def read(io: Any) -> None:
        with io.netcdf_file(path, mmap=False) as file:
            for name, variable in file.variables.items():
                arrays[name] = np.array(variable[...]) if variable.shape else np.array(variable.getValue())
                attributes[name] = dict(variable._attributes)  # noqa: SLF001 - SciPy has no other way to list them

    _scipy(path, read)
    return _chosen(arrays, attributes, path, options)


def _chosen(
    arrays: dict[str, NDArray[Any]], attributes: dict[str, dict[str, Any]], path: Path, options: ReadingOptions
) -> RawPoints | Table:
    findings: list[Finding] = []
    matrices = [
        name for name, array in arrays.items() if array.ndim > 1 and min(array.shape) > 1 and array.dtype.kind in "fiub"
    ]
    key = options.key
    if key is None and len(matrices) == 1 < len(arrays):
        key = matrices[0]
        findings.append(Finding("key", f"{key!r} is the only matrix among {len(arrays)} variables", "dataset.key"))
    name = choose(key, list(arrays), str(path))
    values = arrays[name]
    if values.dtype.kind not in "fiub":
        raise DataError(f"{path}: variable {name!r}: got values of type {values.dtype}; expected real numbers")
    native = values.astype(values.dtype.newbyteorder("="))
    more: dict[str, Any] = {}
    for other, array in arrays.items():
        if other == name or options.label == "" or array.size != len(values):
            continue
        if other == options.label or other.lower().split("_")[0] in LABEL_NAMES:
            more = {"labels": array.ravel(), "label_name": other}
            findings.append(Finding("label", f"{other!r} is taken for the labels", "dataset.label"))
            break
    return points_of_array(unpacked(native, attributes.get(name, {}), findings), path, options, findings, **more)


def _scipy(path: Path, read: Callable[[Any], Any]) -> Any:
    try:
        from scipy import io  # an optional package
    except ImportError as error:
        raise DataError(
            f"{path}: it takes SciPy to read, which is not installed: pip install 'elboverse[tables]'"
        ) from error
    try:
        return read(io)
    except Exception as error:
        raise DataError(f"{path}: damaged, or not of this format: {' '.join(str(error).split())}") from error
