"""Reading IDX files of images: a header of four big-endian 32-bit integers, then one byte per pixel.

Source of the format: Y. LeCun, C. Cortes and C. Burges, *The MNIST database of handwritten digits*.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from elboverse.errors import DataError

__all__ = ["read_images", "read_labels"]

IMAGES_MAGIC: Final = 0x00000803
"""Two zero bytes, 08 for unsigned bytes, 03 for three axes: images, rows, columns."""

LABELS_MAGIC: Final = 0x00000801
"""The same with one axis: labels."""

_HEADER: Final = struct.Struct(">4I")
_LABELS_HEADER: Final = struct.Struct(">2I")
_GZIP_MAGIC: Final = b"\x1f\x8b"

_LARGEST_GZIP_RATIO: Final = 1032
"""DEFLATE cannot shrink by more, so a file that declares more is a lie that need not be unpacked."""


def read_images(path: Path) -> NDArray[np.uint8]:
    """Return the images of an IDX file, gzipped or not, shape (N, rows, columns).

    At most the declared number of bytes, and never more than the file can hold, is unpacked.

    Raises:
        DataError: the file cannot be read, is truncated or damaged, or holds anything but images.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            if not zipped:
                return _read(file, size, path)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read(unzipped, size * _LARGEST_GZIP_RATIO, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}; replace it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Return the labels of an IDX file, gzipped or not, shape (N,).

    Raises:
        DataError: the file cannot be read, is truncated or damaged, or holds anything but labels.
    """
    try:
        with path.open("rb") as file:
            content = file.read(1 << 26)
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}; replace it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    size = _LABELS_HEADER.size
    magic, count = _LABELS_HEADER.unpack(content[:size]) if len(content) >= size else (0, 0)
    if magic != LABELS_MAGIC or len(content) != size + count:
        raise DataError(
            f"{path}: got {len(content):,} bytes with the mark {magic:#010x}; expected an IDX file of labels "
            f"({LABELS_MAGIC:#010x}), a byte for each"
        )
    return np.frombuffer(content, np.uint8, offset=size)


def _read(stream: IO[bytes] | gzip.GzipFile, capacity: int, path: Path) -> NDArray[np.uint8]:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise DataError(f"{path}: truncated: {len(header)} bytes found, the header of an IDX file of images has 16")
    magic, *shape = _HEADER.unpack(header)
    if magic != IMAGES_MAGIC:
        raise DataError(
            f"{path}: no IDX file of images: its first bytes are {magic:#010x}, expected {IMAGES_MAGIC:#010x} "
            "(unsigned bytes, three axes)"
        )
    declared = math.prod(shape)
    described = "{} images of {} × {} pixels".format(*shape)
    if not declared:
        raise DataError(f"{path}: declares {described}, expected at least one of each")
    if declared > capacity:
        raise DataError(f"{path}: truncated: it declares {described}, {declared:,} bytes, more than the file can hold")
    content = stream.read(declared + 1)  # one more: it must not be there, and its absence checks gzip's own sum
    if len(content) != declared:
        found = f"{len(content):,}" if len(content) < declared else "more"
        what = "truncated" if len(content) < declared else "damaged"
        raise DataError(f"{path}: {what}: it declares {described}, {declared:,} bytes; {found} found")
    return np.frombuffer(content, np.uint8).reshape(shape)
