"""Reading `.npy` and `.npz` files that nothing is known about: no pickle, and no memory before the sizes agree."""

from __future__ import annotations

import lzma
import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from elboverse.data.reading.arrays import points_of_array
from elboverse.data.reading.columns import LABEL_NAMES
from elboverse.data.reading.findings import Finding, RawPoints, ReadingOptions, Table
from elboverse.data.reading.limits import choose, require_real, size_in_bytes
from elboverse.errors import DataError

__all__ = ["read_npy", "read_npz"]

_HEADERS: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MEMBER: Final = ".npy"
_AT_ONCE: Final = 1 << 24

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


def read_npy(path: Path, options: ReadingOptions) -> RawPoints | Table:
    """Return the points of an `.npy` file.

    Raises:
        DataError: it is none, is truncated, or holds something other than real numbers.
    """
    if options.key is not None:
        raise DataError(f"{path}: dataset.key: got {options.key!r}; an .npy file holds one array, so leave the key out")
    with path.open("rb") as stream:
        return points_of_array(_read_stream(stream, path.stat().st_size, str(path)), path, options, [])


def read_npz(path: Path, options: ReadingOptions) -> RawPoints | Table:
    """Return the points of an `.npz` file: its only array, its only matrix, or the one that the user names.

    A sparse matrix as SciPy writes it becomes a dense one. A vector beside a matrix, of one value per point and with
    the name of labels, is taken for those.

    Raises:
        DataError: it is not such a file, is damaged, has no such array, or holds something other than real numbers.
    """
    findings: list[Finding] = []
    try:
        with zipfile.ZipFile(path) as archive:
            known = {
                name.removesuffix(_MEMBER): archive.getinfo(name)
                for name in archive.namelist()
                if name.endswith(_MEMBER)
            }
            if {"format", "shape", "data"} <= known.keys():
                return points_of_array(_sparse(path), path, options, [Finding("sparse", "a sparse matrix, made dense")])

            def read(name: str, *, shape_only: bool = False) -> Any:
                with archive.open(known[name]) as stream:
                    return _read_stream(stream, known[name].file_size, f"{path}: array {name!r}", shape_only=shape_only)

            shapes = {name: read(name, shape_only=True) for name in known} if len(known) > 1 else {}
            name, labels = _guessed(options, shapes, findings)
            name = choose(name, list(known), str(path))
            more = {"labels": read(labels), "label_name": labels} if labels else {}
            return points_of_array(read(name), path, options, findings, **more)
    except _DAMAGED as error:
        raise DataError(f"{path}: no .npz file that can be read: {error or 'it ends too early'}") from error


def _guessed(options: ReadingOptions, shapes: dict[str, Any], findings: list[Finding]) -> tuple[str | None, str | None]:
    """Return the names of the matrix and of its labels, as far as shapes and names tell them."""
    name = options.key
    matrices = [key for key, (shape, kind) in shapes.items() if len(shape) > 1 and kind in "fiub"]
    if name is None and len(matrices) == 1:
        name = matrices[0]
        findings.append(Finding("key", f"{name!r} is the only matrix among {len(shapes)} arrays", "dataset.key"))
    if name not in shapes or options.label == "":
        return name, None
    wanted = str(options.label).lower() if options.label is not None else ""
    for key, (shape, kind) in shapes.items():
        plain = re.split(r"[_\W]", key.lower())[0]
        if shape == shapes[name][0][:1] and kind in "iubfU" and (key.lower() == wanted or plain in LABEL_NAMES):
            findings.append(Finding("label", f"{key!r} is taken for the labels", "dataset.label"))
            return name, key
    return name, None


def _sparse(path: Path) -> NDArray[Any]:
    try:
        from scipy import sparse  # an optional package
    except ImportError as error:
        raise DataError(
            f"{path}: got a sparse matrix, which takes SciPy to read: pip install 'elboverse[tables]'"
        ) from error
    matrix = sparse.load_npz(path)
    size_in_bytes(matrix.shape, matrix.dtype, str(path))
    dense: NDArray[Any] = matrix.toarray()
    return dense


def _read_stream(stream: IO[bytes], available: int, where: str, *, shape_only: bool = False) -> Any:
    try:
        version = npy_format.read_magic(stream)
        if version not in _HEADERS:
            raise DataError(f"{where}: got .npy format {version[0]}.{version[1]}; expected 1.0 or 2.0")
        shape, fortran_order, dtype = _HEADERS[version](stream)
    except _NO_HEADER as error:
        raise DataError(f"{where}: no .npy file, or damaged: {error}") from error
    if shape_only:
        return shape, dtype.kind
    if dtype.hasobject:
        raise DataError(
            f"{where}: got Python objects (a pickle), which could run any program; expected numbers. "
            "Arrays of rows of different lengths, dicts and tables are saved otherwise: numpy.savez, or to_csv"
        )
    if dtype.names is None:
        require_real(dtype, where)
    size = size_in_bytes(shape, dtype, where)
    if stream.tell() + size != available:
        raise DataError(
            f"{where}: damaged: it declares {size:,} bytes of values (shape {shape} of {dtype}) "
            f"and has {available - stream.tell():,}"
        )
    content = bytearray(size)  # which can be written to, so that no second copy is needed
    view, filled = memoryview(content), 0
    while filled < size and (part := stream.readinto(view[filled : filled + _AT_ONCE])):  # type: ignore[attr-defined]
        filled += part
    if filled != size:
        raise DataError(f"{where}: damaged: it ends after {filled:,} of {size:,} bytes of values")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran_order else "C")
