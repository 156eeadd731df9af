"""The seal of a run file: a SHA-256 digest of the whole file, kept as its last line.

The checksums of HDF5 (fletcher32) cover the values of each chunk, but in the formats that older tools read they cover
neither the metadata (shapes, attributes, the table of chunks) nor the place of a chunk: a flipped bit in a
dimension, or two chunks swapped, would go unnoticed. So every snapshot ends with a line

    elboverse-run sha256 <digest of all bytes before this line>

HDF5 keeps its own end of file in its first bytes and ignores what follows, so that ``h5py.File(path)`` and h5dump
open the file as any other. The line is checked before the HDF5 library sees a single byte: a damaged, cut or edited
file is refused as a whole, and cannot make the library crash. A digest is no signature: whoever forges a file can
forge its seal too, so what is read afterwards is checked nevertheless.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import Final

from elboverse.errors import RunFileError
from elboverse.runfile.schema import MAXIMUM_FILE_BYTES

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_LABEL: Final = b"\nelboverse-run sha256 "
_SEAL_BYTES: Final = len(_LABEL) + 2 * hashlib.sha256().digest_size + 1
_PIECE_BYTES: Final = 128 << 10
"""Read and digested at a time: little enough to stay in the processor's cache, which takes a third off."""


def seal(image: memoryview) -> bytes:
    """Return the line that has to follow `image` in its file."""
    return _seal_of(hashlib.sha256(image).hexdigest())


def open_sealed(path: Path) -> io.FileIO:
    """Return a run file opened for reading, its seal checked.

    The open file stays the same one when a writer replaces it, and is never locked.

    Args:
        path: where it is.

    Raises:
        RunFileError: it cannot be read, is no HDF5 file, is too large, or its seal is missing or broken.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise RunFileError(f"{path}: no such file; name the run.h5 of a run") from error
    except OSError as error:
        raise RunFileError(f"{path}: cannot be opened: {error.strerror}") from error
    except ValueError as error:
        raise RunFileError(f"{str(path)!r}: no usable path: {error}") from error
    try:
        size = _regular_size(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    file = io.FileIO(descriptor)
    try:
        _check(path, file, size)
    except OSError as error:
        file.close()
        raise RunFileError(f"{path}: cannot be read: {error.strerror}") from error
    except BaseException:
        file.close()
        raise
    return file


def _regular_size(path: Path, descriptor: int) -> int:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise RunFileError(f"{path}: is a directory; name the run.h5 in it")
    if not stat.S_ISREG(status.st_mode):
        raise RunFileError(f"{path}: is no regular file, so no run file")
    return status.st_size


def _seal_of(digest: str) -> bytes:
    return _LABEL + digest.encode() + b"\n"


def _check(path: Path, file: io.FileIO, size: int) -> None:
    if size == 0:
        raise RunFileError(f"{path}: is empty, so no run file")
    if size > MAXIMUM_FILE_BYTES:
        raise RunFileError(f"{path}: {size:,} bytes given, at most {MAXIMUM_FILE_BYTES:,} are read")
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise RunFileError(f"{path}: is no HDF5 file, so no run file; name the run.h5 of a run")
    file.seek(max(0, size - _SEAL_BYTES))
    found = file.read(_SEAL_BYTES)
    if not found.startswith(_LABEL) or len(found) != _SEAL_BYTES:
        raise RunFileError(
            f"{path}: the seal at its end is missing: it is no run file, or was cut short, or was changed "
            f"by another program; use an intact copy"
        )
    if found != _seal_of(_digest(file, size - _SEAL_BYTES)):
        raise RunFileError(
            f"{path}: the seal at its end does not match: it was damaged, or changed by another program; "
            f"use an intact copy"
        )
    file.seek(0)


def _digest(file: io.FileIO, size: int) -> str:
    digest = hashlib.sha256()
    piece = memoryview(bytearray(_PIECE_BYTES))
    file.seek(0)
    while size > 0:
        count = file.readinto(piece[: min(size, _PIECE_BYTES)])
        if not count:
            break
        digest.update(piece[:count])
        size -= count
    return digest.hexdigest()
