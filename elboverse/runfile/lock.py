"""The lock that keeps a second writer off a run file."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from elboverse.errors import RunFileError, RunInUseError


class WriterLock:
    """A lock on the file ``.run.h5.lock`` beside ``run.h5``, held until closed or until the process ends.

    The lock file stays where it is: removing it could leave two processes with a lock each. The lock is between
    processes; one process must not write one run twice.

    Args:
        path: of the run file; its folder is made if need be.

    Raises:
        RunFileError: another process holds the lock, or the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        file = path.with_name(f".{path.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunFileError(f"{file}: cannot be made: {error.strerror}; choose another folder") from error
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                raise RunInUseError(
                    f"{path}: another process is writing to this run; wait for its end or choose another folder"
                ) from error
            raise RunFileError(f"{file}: cannot be locked: {error.strerror}; choose another folder") from error

    def close(self) -> None:
        """Release the lock. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
