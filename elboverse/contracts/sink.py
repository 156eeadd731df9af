"""What a sink is: something that follows a run while it is trained, such as a log that is watched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    from elboverse.contracts.records import Record

__all__ = ["Ending", "RunDescription", "Sink"]

Ending = Literal["finished", "interrupted", "failed"]
"""How the part of a run that a process trains ends."""


@attrs.frozen(kw_only=True)
class RunDescription:
    """What a sink is told of a run before the first record.

    Args:
        folder: of the run, which is there; ``run.h5`` is in it, and what a sink writes belongs in it too.
        name: of the run.
        config: the resolved config, as a table.
        components: kind, name, plugin, distribution and version of what the run is made of.
        data: what the run file keeps of the data: names, unit, numbers of points, fingerprint, scaling.
        environment: versions and machine.
        total_steps: length of the run; 0 where nobody knows.
        latent_dim: H.
        replicas: R.
        record_every: steps between two recorded rows.
        done: steps that were done before, in a run that is resumed. A process that was killed may have told a sink of
            more: what was written of steps from this one on is written anew.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    components: tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    total_steps: int
    latent_dim: int
    replicas: int
    record_every: int = 1
    done: int = 0


@runtime_checkable
class Sink(Protocol):
    """Follows a run. Built by ``build(options)``; it is called in this order, in one thread, and must be quick.

    A sink that raises is named with its plugin and switched off, and training goes on: the run file holds everything.
    """

    def begin(self, run: RunDescription) -> None:
        """Be told of the run, before the first record."""
        ...

    def receive(self, record: Record) -> None:
        """Take one record: `Rows`, `Evaluation`, `Pictures` or `Frame`, in the order in which they happened.

        Its arrays cannot be written to, and may be those of later records: copy what is kept.
        """
        ...

    def saved(self, steps: int) -> None:
        """Be told that the first steps of the run are in the run file: no resumed run repeats a record before."""
        ...

    def end(self, status: Ending) -> None:
        """Finish; nothing is called after."""
        ...
