"""Caches: where they live, and how a file gets into one whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import platformdirs

from elboverse.errors import DataError

__all__ = ["PREPARED", "cache_folder", "prepared_folder", "replacing", "unwritable"]

PREPARED: Final = "prepared"
"""The folder, inside a dataset's, of what can be made again from its files."""


def cache_folder(name: str = "") -> Path:
    """Return the folder of the user's cache that belongs to a dataset; it may not exist yet.

    Args:
        name: the dataset's; empty for the folder that holds all of them.
    """
    return Path(platformdirs.user_cache_dir("elboverse")) / name


def prepared_folder(name: str) -> Path:
    """Return the folder for what is made from a dataset's files, such as decoded images.

    `elboverse data clean` deletes it.

    Args:
        name: the dataset's.
    """
    return cache_folder(name) / PREPARED


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write to, which takes the place of `path` when the block ends, and leaves nothing if it fails.

    The file is flushed to the disk and renamed, so that `path` is whole whenever it is there. Folders are made.

    Raises:
        DataError: the file cannot be written; the message says so if the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> DataError:
    """Return the error that says that a cache file cannot be written, and what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        advice = "the disk is full; free some space (elboverse data clean) or set XDG_CACHE_HOME to a folder with more"
    else:
        advice = f"{error.strerror or error}; make it writable or set XDG_CACHE_HOME to another folder"
    return DataError(f"the cache file {path} cannot be written: {advice}")
