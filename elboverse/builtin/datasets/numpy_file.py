"""Reading `.npy` and `.npz` files that nothing is known about: no pickle, and no memory before the sizes agree."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from elboverse.builtin.datasets.file_limits import choose, require_real, size_in_bytes
from elboverse.errors import DataError

__all__ = ["read_npy", "read_npz"]

_HEADERS: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MEMBER: Final = ".npy"

# What NumPy raises for a header that is none.
_NO_HEADER: Final = (MemoryError, RecursionError, SyntaxError, TypeError, ValueError, tokenize.TokenError)

# What `zipfile` raises for damaged, encrypted and unsupported archives.
_DAMAGED: Final = (
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npy(path: Path) -> NDArray[Any]:
    """Return the array of an `.npy` file.

    Raises:
        DataError: it is none, is truncated, or holds other things than real numbers.
    """
    with path.open("rb") as stream:
        return _read_stream(stream, path.stat().st_size, str(path))


def read_npz(path: Path, key: str | None) -> NDArray[Any]:
    """Return one array of an `.npz` file.

    Args:
        path: the file.
        key: the array's name; it may be None if there is only one.

    Raises:
        DataError: it is no such file, is damaged, has no such array, or holds other things than real numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            known = [name.removesuffix(_MEMBER) for name in archive.namelist() if name.endswith(_MEMBER)]
            name = choose(key, known, str(path))
            member = archive.getinfo(name + _MEMBER)
            with archive.open(member) as stream:
                return _read_stream(stream, member.file_size, f"{path}: array {name!r}")
    except _DAMAGED as error:
        raise DataError(f"{path}: no .npz file that can be read: {error or 'it ends too early'}") from error


def _read_stream(stream: IO[bytes], available: int, where: str) -> NDArray[Any]:
    try:
        version = npy_format.read_magic(stream)
        if version not in _HEADERS:
            raise DataError(f"{where}: .npy format {version[0]}.{version[1]} given, allowed is 1.0 or 2.0")
        shape, fortran_order, dtype = _HEADERS[version](stream)
    except _NO_HEADER as error:
        raise DataError(f"{where}: no .npy file, or damaged: {error}") from error
    require_real(dtype, where)
    size = size_in_bytes(shape, dtype, where)
    if stream.tell() + size != available:
        raise DataError(
            f"{where}: damaged: it declares {size:,} bytes of values (shape {shape} of {dtype}) "
            f"and has {available - stream.tell():,}"
        )
    content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{where}: damaged: it ends after {len(content):,} of {size:,} bytes of values")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
