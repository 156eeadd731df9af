"""The user's own points, from a file: `.npy`, `.npz`, `.csv` or HDF5. No plugin is needed for these."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from elboverse.builtin.datasets.csv_file import read_csv
from elboverse.builtin.datasets.file_limits import MAXIMUM_BYTES
from elboverse.builtin.datasets.hdf5_file import read_hdf5
from elboverse.builtin.datasets.numpy_file import read_npy, read_npz
from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.data import prepare
from elboverse.errors import DataError

__all__ = ["ArrayOptions", "build_array"]

Read = tuple[NDArray[Any], tuple[str, ...]]
"""An array as it is stored, and the names of its columns where the file has some."""


@attrs.frozen(kw_only=True)
class ArrayOptions:
    """Options of the array dataset.

    Args:
        path: a ``.npy``, ``.npz``, ``.csv``, ``.h5`` or ``.hdf5`` file. The first axis counts the points; further axes
            are the shape of one point, such as the rows and columns of an image.
        key: the array's name inside an ``.npz`` or its path inside an HDF5 file; needed if there are several.
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        scaling: ``"min-max"`` maps the training range of each dimension to [0, 1], ``"standard"`` to mean 0 and
            standard deviation 1, ``"none"`` leaves the values as they are.
    """

    path: Path
    key: str | None = None
    held_out: float = attrs.field(default=0.5, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "standard", "none"] = "min-max"

    def places(self) -> tuple[Path]:
        """Return the file."""
        return (self.path,)


def build_array(options: ArrayOptions, seed: int) -> Data:
    """Return the points of the user's file.

    Raises:
        DataError: it is missing, damaged, of an unknown format, or holds anything but finite real numbers.
    """
    array, names = _read(options.path, options.key)
    values = _as_floating(array, options.path)
    shape = values.shape[1:] or (1,)
    return prepare(
        torch.from_numpy(values.reshape(len(values), math.prod(shape))),
        seed=seed,
        held_out=options.held_out,
        scaling=options.scaling,
        shape=shape,
        names=names,
        what=str(options.path),
    )


def _read(path: Path, key: str | None) -> Read:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a file of type {path.suffix!r} given, allowed is {', '.join(READERS)}")
    try:
        if not path.is_file():
            raise DataError(
                f"{path}: {'is no file' if path.exists() else 'no such file'}; dataset.path names the data file"
            )
        if path.stat().st_size > MAXIMUM_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes given, allowed are at most {MAXIMUM_BYTES:,}")
        return reader(path, key)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_npy(path: Path, key: str | None) -> Read:
    _require_no_key(path, key)
    return read_npy(path), ()


def _read_csv(path: Path, key: str | None) -> Read:
    _require_no_key(path, key)
    return read_csv(path)


def _read_npz(path: Path, key: str | None) -> Read:
    return read_npz(path, key), ()


def _read_hdf5(path: Path, key: str | None) -> Read:
    return read_hdf5(path, key), ()


READERS: Final[Mapping[str, Callable[[Path, str | None], Read]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}


def _require_no_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise DataError(
            f"{path}: dataset.key = {key!r} given, but a {path.suffix} file holds one array; leave the key out"
        )


def _as_floating(array: NDArray[Any], path: Path) -> NDArray[np.floating[Any]]:
    """Return real numbers as float64, or as float32 where they are stored so: exactly, up to integers of 53 bits."""
    if array.ndim == 0:
        raise DataError(f"{path}: a single number given, allowed is an array whose first axis counts the points")
    native = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize == 4 else np.float64
    return np.require(array, native, ["C_CONTIGUOUS", "WRITEABLE"])
