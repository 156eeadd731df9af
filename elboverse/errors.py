"""The exceptions that elboverse raises for a user's or a plugin's mistake.

Every message says where the fault is, what was found there, what is expected and, where it helps, what to do next. What
is wrong in a configuration is data, a `Fault` each; it becomes text once, when it is shown.
The command line turns each of them into that message and a non-zero exit code, never into a traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import attrs

__all__ = [
    "AnalysisError",
    "ConfigError",
    "DataError",
    "ElboverseError",
    "Fault",
    "Interrupted",
    "NonFiniteError",
    "OutOfMemoryError",
    "PluginError",
    "ReplicasDifferError",
    "RunFileError",
    "RunInUseError",
    "StudyError",
    "UnknownKey",
    "UnknownNameError",
    "nearest",
    "out_of_memory",
]


class ElboverseError(Exception):
    """Base of every error that elboverse raises on purpose."""


@attrs.frozen
class Fault:
    """One thing that is wrong in a configuration; ``str(fault)`` is ``path: got given; expected expected; hint``.

    Attributes:
        path: the keys that lead to it, such as ``("model", "latent_dim")``; empty for the whole.
        given: what was found there, as a reader would write it.
        expected: what is expected there.
        problem: what is wrong, for a fault that is not a value in the wrong place; told in place of the two above.
        hint: what to do about it.
    """

    path: tuple[str, ...] = ()
    given: str = attrs.field(default="", kw_only=True)
    expected: str = attrs.field(default="", kw_only=True)
    problem: str = attrs.field(default="", kw_only=True)
    hint: str = attrs.field(default="", kw_only=True)

    def __str__(self) -> str:
        what = self.what()
        return f"{'.'.join(self.path)}: {what}" if self.path else what

    def what(self) -> str:
        """Return the fault without its place."""
        what = self.problem or f"got {self.given}; expected {self.expected}"
        return f"{what}; {self.hint}" if self.hint else what

    def below(self, *keys: str) -> Fault:
        """Return the same fault with its path below `keys`."""
        return attrs.evolve(self, path=(*keys, *self.path))

    def advised(self, hint: str) -> Fault:
        """Return the same fault with one more hint."""
        return attrs.evolve(self, hint=f"{self.hint}; {hint}" if self.hint else hint)


@attrs.frozen
class UnknownKey(Fault):
    """A key that nothing reads."""


class ConfigError(ElboverseError):
    """A configuration that cannot be used.

    Args:
        faults: a sentence, or everything that was found, each a `Fault` or a sentence.
    """

    def __init__(self, faults: Iterable[Fault | str] | Fault | str) -> None:
        several = (faults,) if isinstance(faults, str | Fault) else tuple(faults)
        self.faults: tuple[Fault, ...] = tuple(
            fault if isinstance(fault, Fault) else Fault(problem=fault) for fault in several
        )
        super().__init__(self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        listed = "\n".join(f"  {fault}" for fault in self.faults)
        return f"{len(self.faults)} faults in the configuration:\n{listed}"


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
