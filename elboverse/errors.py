"""The exceptions that elboverse raises for a user's or a plugin's mistake.

Every message says where the fault is, what was given, what is allowed and, where it helps, what to do next.
The command line turns each of them into that message and a non-zero exit code, never into a traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "AnalysisError",
    "ConfigError",
    "DataError",
    "ElboverseError",
    "Interrupted",
    "NonFiniteError",
    "OutOfMemoryError",
    "PluginError",
    "ReplicasDifferError",
    "RunFileError",
    "RunInUseError",
    "StudyError",
    "UnknownNameError",
    "nearest",
    "out_of_memory",
]


class ElboverseError(Exception):
    """Base of every error that elboverse raises on purpose."""


class ConfigError(ElboverseError):
    """A configuration that cannot be used; `faults` lists every fault found, as ``where: what``."""

    def __init__(self, faults: Iterable[str] | str) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            listed = "\n".join(f"  {fault}" for fault in self.faults)
            super().__init__(f"{len(self.faults)} faults in the configuration:\n{listed}")


class UnknownNameError(ElboverseError):
    """A name that no plugin and no built-in provides."""


class DataError(ElboverseError):
    """Data that is missing, damaged, of the wrong shape, or not finite."""


class PluginError(ElboverseError):
    """A plugin that cannot be loaded, breaks a contract or collides with another."""


class ReplicasDifferError(PluginError):
    """Data that differ between seeds in what replicas must share; as runs of their own they can be trained."""


class RunFileError(ElboverseError):
    """A run file that cannot be written, is damaged, or is none."""


class RunInUseError(RunFileError):
    """A run that another process is writing to."""


class StudyError(ElboverseError):
    """Runs of a study that failed, told after the others were trained."""


class AnalysisError(ElboverseError):
    """A run that lacks what an analysis needs."""


class NonFiniteError(ElboverseError):
    """A training quantity that became infinite or not a number."""


class OutOfMemoryError(ElboverseError):
    """More memory was asked for than there is."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal; what was done by then has been saved.

    Args:
        message: at which step, and where it was saved.
        signal_number: the signal's number, such as 2 for SIGINT.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as ``did you mean 'circle'?`` for a mistyped `name`, or an empty string.

    Args:
        name: what the user wrote.
        known: the names that exist.
    """
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {matches[0]!r}?" if matches else ""


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """Return what to raise in place of an error that says that memory is short; None for any other error.

    torch says so by a `RuntimeError` and its message, on the CPU, and by one of its own on a GPU.

    Args:
        error: any.
    """
    text = str(error)
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and re.search(r"can't allocate memory|not enough memory|out of memory", text)
    ):
        return None
    asked = re.search(r"allocate (\d[\d.]* ?\w+)", text)
    return OutOfMemoryError(
        f"out of memory{f', {asked[1]} were asked for at once' if asked else ''}; take fewer latents, narrower layers, "
        "or fewer points, replicas or samples, or a smaller training.batch_size"
    )
