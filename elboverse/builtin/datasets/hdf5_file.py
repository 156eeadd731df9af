"""Reading one dataset of an HDF5 file that nothing is known about: hard links and the file's own storage only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from elboverse.builtin.datasets.file_limits import choose, require_real, size_in_bytes
from elboverse.errors import DataError

__all__ = ["read_hdf5"]


def read_hdf5(path: Path, key: str | None) -> NDArray[Any]:
    """Return one array of an HDF5 file.

    Args:
        path: the file.
        key: path of the array inside the file, such as ``"train/images"``; it may be None if there is only one.

    Raises:
        DataError: it is no such file, is damaged, has no such array, holds other things than real numbers, or keeps
            the values in other files.
    """
    try:
        with h5py.File(path, "r") as file:
            known: list[str] = []
            # Follows hard links alone, so that no other file is opened.
            file.visititems(lambda name, node: known.append(name) if isinstance(node, h5py.Dataset) else None)
            name = choose(key.strip("/") if key is not None else None, known, str(path))
            return _values(file[name], f"{path}: array {name!r}")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no HDF5 file that can be read: {error}") from error


def _values(node: h5py.Dataset, where: str) -> NDArray[Any]:
    if node.external is not None or node.is_virtual:
        kind = "a virtual dataset" if node.is_virtual else "external storage"
        raise DataError(f"{where}: its values are {kind}, allowed are values stored in the file itself")
    if node.shape is None:
        raise DataError(f"{where}: it has no values")
    require_real(node.dtype, where)
    size_in_bytes(node.shape, node.dtype, where)
    return np.asarray(node[()])
