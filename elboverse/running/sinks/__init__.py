"""Where records go: the run file, warnings, the progress display, and the sinks that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from elboverse.contracts.records import Record

__all__ = ["OwnSink"]


class OwnSink(Protocol):
    """Takes records in the order in which they happened: one that every run has, whatever its config says."""

    def receive(self, record: Record) -> None:
        """Take one record."""
        ...

    def close(self) -> None:
        """Release everything; no record comes after."""
        ...
