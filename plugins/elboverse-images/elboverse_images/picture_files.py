"""The image files of a folder or a zip: which they are, a digest of them, and their bytes."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from elboverse.errors import DataError

__all__ = ["PictureFiles", "described", "opened"]

SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")

LARGEST_FILE: Final = 64 << 20
"""No image file has more bytes; what declares more is not unpacked."""


@attrs.frozen
class PictureFiles:
    """The image files of a folder, whatever is below it included, or of a zip, in the order of their names.

    Args:
        root: the folder or the zip.
        names: of the files, relative to it.
        digest: of names and sizes, with the files' times of change, or with their checksums where a zip has them.
    """

    root: Path
    names: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, root: Path, first: int | None = None) -> PictureFiles:
        """Return the image files of a folder or zip.

        Args:
            root: the folder or the zip.
            first: take only the first so many; all by default.

        Raises:
            DataError: no such folder or zip exists, it has no images or fewer than asked for, or cannot be read.
        """
        try:
            listed = sorted(_in_folder(root) if root.is_dir() else _in_zip(root))
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{root}: neither a folder nor a zip: {error}; dataset.root names either") from error
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise DataError(f"{root}: {what}; dataset.root names a folder or a zip") from error
        if not listed:
            raise DataError(f"{root}: no image in it; expected files that end in {', '.join(SUFFIXES)}")
        if first is not None and first > len(listed):
            raise DataError(f"{root}: got dataset.points = {first:,}, but it has {len(listed):,} images")
        listed = listed[:first]
        digest = hashlib.blake2b(digest_size=16)
        for entry in listed:
            digest.update("\0".join(map(str, entry)).encode("utf-8", "surrogateescape") + b"\n")
        return cls(root, tuple(entry[0] for entry in listed), digest.hexdigest())


def _in_folder(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of every image below a folder."""
    pending = [str(root)]
    seen = {os.path.realpath(root)}  # links may lead back to where they are
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    if (real := os.path.realpath(entry.path)) not in seen:
                        seen.add(real)
                        pending.append(entry.path)
                elif _is_image(entry.name) and entry.is_file():
                    status = entry.stat()
                    yield os.path.relpath(entry.path, root), status.st_size, status.st_mtime_ns


def _in_zip(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and checksum of every image in a zip."""
    with zipfile.ZipFile(root) as archive:
        for member in archive.infolist():
            if not member.is_dir() and _is_image(member.filename.rpartition("/")[2]):
                yield member.filename, member.file_size, member.CRC


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


@contextmanager
def opened(root: Path) -> Iterator[Callable[[str], bytes]]:
    """Give a function that returns a file's bytes by its name, for a folder or a zip."""
    if root.is_dir():
        yield lambda name: _file_content(root / name)
    else:
        with zipfile.ZipFile(root) as archive:
            yield lambda name: _member_content(archive, name)


def _file_content(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        _require_size(os.fstat(file.fileno()).st_size)
        return file.readall()


def _member_content(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return what is in a member, whatever size it declares."""
    with archive.open(name) as file:
        content = file.read(LARGEST_FILE + 1)
    _require_size(len(content))
    return content


def _require_size(size: int) -> None:
    if size > LARGEST_FILE:
        raise OSError(f"more than {LARGEST_FILE:,} bytes, so no image")


def described(reasons: dict[str, str], most: int = 5) -> str:
    """Return the first few names, each with its reason."""
    listed = [f"{name} ({reason})" for name, reason in reasons.items()]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
