"""Files that are whole whenever they are there: written beside their place, then put there in one step."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replaced"]


@contextmanager
def replaced(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a path beside `path` to write to, which takes its place when the block ends; a block that fails leaves none.

    Args:
        path: of the file; one that is there is replaced. The temporary one has the same suffix, which writers go by.
        durable: whether the file is on the disk before it takes its place, so that a power cut leaves one or the other.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> with replaced(Path("numbers.txt")) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> Path("numbers.txt").read_text()
        '1 2 3'
    """
    # A name of its own length, so that a long one does not become too long.
    temporary = path.with_name(f".elboverse-{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield temporary
        if durable:
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
