"""The seal of a run file: a SHA-256 digest of the whole file, kept as its last line.

The checksums of HDF5 (fletcher32) cover the values of each chunk, but in the formats that older tools read they cover
neither the metadata (shapes, attributes, the table of chunks) nor the place of a chunk: a flipped bit in a
dimension, or two chunks swapped, would go unnoticed. So every snapshot ends with a line

    elboverse-run sha256 <digest of all bytes before this line>

HDF5 keeps its own end of file in its first bytes and ignores what follows, so that ``h5py.File(path)`` and h5dump
open the file as any other. The line is checked before the HDF5 library sees a single byte: a damaged, cut or edited
file is refused as a whole, and cannot make the library crash. A digest is not a signature: whoever forges a file can
forge its seal too, so what is read afterwards is checked nevertheless.
"""

from __future__ import annotations

import enum
import hashlib
import io
import os
import shlex
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


class Sealing(enum.Enum):
    """How it stands with the seal of a file, and what to do about it."""

    INTACT = ""
    CUT_OFF = (
        "the seal at its end is missing: another program opened the file for writing, which cuts it off, or it is "
        "not a run file. Its numbers may be untouched; check them and seal it anew with:\n  {command}"
    )
    APPENDED = (
        "bytes were added behind the seal at its end, and everything before it is intact; seal the file anew with:\n"
        "  {command}"
    )
    BROKEN = (
        "the seal at its end does not match: it was damaged, or changed by another program; use an intact copy, or see "
        "what differs with:\n  {command}"
    )
    SHORT = (
        "it was cut short: bytes are missing where the seal at its end should be, so it is damaged; use an intact copy"
    )
    FOREIGN = "the seal at its end is missing: not a run file, or changed by another program; use an intact copy"


def seal(image: memoryview) -> bytes:
    """Return the line that has to follow `image` in its file."""
    return _seal_of(hashlib.sha256(image).hexdigest())


def open_sealed(path: Path) -> io.FileIO:
    """Return a run file opened for reading, its seal checked.

    The open file stays the same one when a writer replaces it, and is never locked.

    Args:
        path: where it is.

    Raises:
        RunFileError: it cannot be read, is not an HDF5 file, is too large, or its seal is missing or broken.
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
        raise RunFileError(f"{path}: is not a regular file, so it cannot be a run file")
    return status.st_size


def _seal_of(digest: str) -> bytes:
    return _LABEL + digest.encode() + b"\n"


def _check(path: Path, file: io.FileIO, size: int) -> None:
    if size == 0:
        raise RunFileError(f"{path}: is empty, so no run file")
    if size > MAXIMUM_FILE_BYTES:
        raise RunFileError(f"{path}: got {size:,} bytes, at most {MAXIMUM_FILE_BYTES:,} are read")
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise RunFileError(f"{path}: is not an HDF5 file, so it cannot be a run file; name the run.h5 of a run")
    state = sealing(file, size)
    if state is not Sealing.INTACT:
        raise RunFileError(f"{path}: {state.value.format(command=shlex.join(['elboverse', 'repair', str(path)]))}")
    file.seek(0)


def sealing(file: io.FileIO, size: int) -> Sealing:
    """Return how it stands with the seal of an HDF5 file.

    Args:
        file: open for reading.
        size: of the file in bytes.
    """
    end = image_bytes(file)
    if end is not None and size < end:
        return Sealing.SHORT
    file.seek(max(0, size - _SEAL_BYTES))
    found = file.read(_SEAL_BYTES)
    if found.startswith(_LABEL) and len(found) == _SEAL_BYTES:
        return Sealing.INTACT if found == _seal_of(_digest(file, size - _SEAL_BYTES)) else Sealing.BROKEN
    if end is None:
        return Sealing.FOREIGN
    if size == end:
        return Sealing.CUT_OFF
    file.seek(end)
    found = file.read(_SEAL_BYTES)
    if found == _seal_of(_digest(file, end)):
        return Sealing.APPENDED
    return Sealing.BROKEN if found.startswith(_LABEL) else Sealing.FOREIGN


def image_bytes(file: io.FileIO) -> int | None:
    """Return where HDF5 says that its part of the file ends; None if it does not say.

    The superblock has it, in the file's first bytes (*HDF5 File Format Specification*, section II.A).
    """
    file.seek(0)
    block = file.read(64)
    if len(block) < 64:
        return None
    version = block[len(_SIGNATURE)]
    offset = {0: 40, 1: 44, 2: 28, 3: 28}.get(version)
    widths = block[13] if version < 2 else block[9]
    return None if offset is None or widths != 8 else int.from_bytes(block[offset : offset + 8], "little")


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
