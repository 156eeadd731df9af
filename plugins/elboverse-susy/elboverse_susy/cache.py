"""The cache: features as float32 in one `.npy` file that the next start maps into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from elboverse.data.cache import prepared_folder, replacing
from elboverse.errors import DataError
from elboverse_susy.reading import read_blocks

__all__ = ["cache_file", "cached_features"]

FORMAT: Final = "1"
"""Changes whenever the same file would be cached otherwise."""

SAMPLES: Final = 64
SAMPLE_BYTES: Final = 1 << 16


def cache_file(path: Path) -> Path:
    """Return where the features of a file are cached.

    The name follows from the file's size, its time of change and 64 pieces of its content, spread over all of it. A
    digest of the whole would take longer than the start that the cache is for.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        status = path.stat()
        digest = hashlib.blake2b(f"{FORMAT} {status.st_size} {status.st_mtime_ns}".encode(), digest_size=16)
        with path.open("rb") as file:
            for number in range(SAMPLES):
                file.seek(max(0, status.st_size - SAMPLE_BYTES) * number // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return prepared_folder("susy") / f"features-{digest.hexdigest()}.npy"


def cached_features(path: Path, features: Sequence[str]) -> NDArray[np.float32]:
    """Return the features of a file, shape (N, number of features), mapped from the cache, which is filled if need be.

    The array is a private map: it may be written to, and the cache stays as it is.

    Raises:
        DataError: the file is damaged or has no rows, or the cache cannot be written.
    """
    cached = cache_file(path)
    found = _mapped(cached, len(features))
    if found is None:
        with replacing(cached) as file:
            _fill(file, path, features)
        found = _mapped(cached, len(features))
    if found is None:
        raise DataError(f"{cached}: damaged as soon as it was written; check the disk")
    return found


def _mapped(path: Path, width: int) -> NDArray[np.float32] | None:
    """Return what a cache file holds, or None if there is none or it is not whole."""
    try:
        array: NDArray[np.float32] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == np.float32 and array.ndim == 2 and array.shape[1] == width else None


def _fill(file: IO[bytes], path: Path, features: Sequence[str]) -> None:
    """Write the features as `.npy`; the head, whose length does not depend on the number of rows, is written last."""
    rows = 0
    _write_head(file, rows, len(features))
    for block in read_blocks(path, features):
        file.write(block.data)
        rows += len(block)
    if rows == 0:
        raise DataError(f"{path}: it holds no row")
    file.seek(0)
    _write_head(file, rows, len(features))


def _write_head(file: IO[bytes], rows: int, width: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
